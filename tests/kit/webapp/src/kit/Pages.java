package kit;

import jakarta.servlet.http.Cookie;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import jakarta.servlet.http.HttpSession;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Collections;
import java.util.HexFormat;
import java.util.concurrent.atomic.AtomicInteger;

/** The pages of the test application: each shows one thing that a proxy can get wrong. */
public class Pages extends HttpServlet {
    private static final long serialVersionUID = 1L;
    private static final long MODIFIED = 1_700_000_000_000L;
    private final AtomicInteger cachedCalls = new AtomicInteger();

    @Override
    protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
        switch (request.getServletPath()) {
            case "/echo" -> echo(request, response);
            case "/session" -> session(request, response);
            case "/slow" -> slow(request, response);
            case "/chunked" -> chunked(request, response);
            case "/cached" -> cached(request, response);
            case "/upload" -> upload(request, response);
            case "/redirect" -> redirect(request, response);
            case "/cookie" -> cookie(request, response);
            case "/early" -> early(response);
            case "/bytes" -> bytes(request, response);
            default -> response.sendError(404);
        }
    }

    private static int number(HttpServletRequest request, String name, int otherwise) {
        String value = request.getParameter(name);
        return value == null ? otherwise : Integer.parseInt(value);
    }

    private static String quote(String text) {
        if (text == null) {
            return "null";
        }
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < 0x20 || c > 0x7e) {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        return out.append('"').toString();
    }

    private static void json(HttpServletResponse response, String text) throws IOException {
        byte[] body = text.getBytes(StandardCharsets.US_ASCII);
        response.setContentType("application/json");
        response.setContentLength(body.length);
        response.getOutputStream().write(body);
    }

    /** The request as Tomcat saw it, after its valves. */
    private static void echo(HttpServletRequest request, HttpServletResponse response) throws IOException {
        StringBuilder headers = new StringBuilder();
        for (String name : Collections.list(request.getHeaderNames())) {
            for (String value : Collections.list(request.getHeaders(name))) {
                headers.append(headers.isEmpty() ? "" : ", ").append("[").append(quote(name)).append(", ");
                headers.append(quote(value)).append("]");
            }
        }
        response.setHeader("Cache-Control", "no-store");
        json(response, "{\"method\": " + quote(request.getMethod())
                + ", \"uri\": " + quote(request.getRequestURI())
                + ", \"query\": " + quote(request.getQueryString())
                + ", \"protocol\": " + quote(request.getProtocol())
                + ", \"scheme\": " + quote(request.getScheme())
                + ", \"secure\": " + request.isSecure()
                + ", \"server_name\": " + quote(request.getServerName())
                + ", \"server_port\": " + request.getServerPort()
                + ", \"remote_address\": " + quote(request.getRemoteAddr())
                + ", \"url\": " + quote(request.getRequestURL().toString())
                + ", \"route\": " + quote(System.getProperty("t.route"))
                + ", \"headers\": [" + headers + "]}");
    }

    /** Counts the requests of a session; the id ends in the jvmRoute. */
    private static void session(HttpServletRequest request, HttpServletResponse response) throws IOException {
        HttpSession session = request.getSession();
        int count;
        synchronized (session) {
            Object before = session.getAttribute("count");
            count = before == null ? 1 : (Integer) before + 1;
            session.setAttribute("count", count);
        }
        json(response, "{\"count\": " + count + ", \"id\": " + quote(session.getId())
                + ", \"new\": " + session.isNew()
                + ", \"from_url\": " + request.isRequestedSessionIdFromURL()
                + ", \"link\": " + quote(response.encodeURL("session"))
                + ", \"route\": " + quote(System.getProperty("t.route")) + "}");
    }

    private static void sleep(long milliseconds) throws IOException {
        try {
            Thread.sleep(milliseconds);
        } catch (InterruptedException interrupted) {
            throw new IOException(interrupted);
        }
    }

    /** ?ms= before the head; ?then= between the two halves of the body. */
    private static void slow(HttpServletRequest request, HttpServletResponse response) throws IOException {
        sleep(number(request, "ms", 100));
        response.setContentType("text/plain");
        response.setContentLength(8);
        OutputStream out = response.getOutputStream();
        out.write("slow".getBytes(StandardCharsets.US_ASCII));
        int then = number(request, "then", 0);
        if (then > 0) {
            response.flushBuffer();
            sleep(then);
        }
        out.write("done".getBytes(StandardCharsets.US_ASCII));
    }

    private static void chunked(HttpServletRequest request, HttpServletResponse response) throws IOException {
        response.setContentType("text/plain");
        int count = number(request, "n", 5);
        int size = number(request, "size", 10);
        OutputStream out = response.getOutputStream();
        for (int i = 0; i < count; i++) {
            out.write(String.valueOf((char) ('a' + i % 26)).repeat(size).getBytes(StandardCharsets.US_ASCII));
            response.flushBuffer();
        }
    }

    /** ?age= seconds of freshness; X-Calls tells how often Tomcat was asked. */
    private void cached(HttpServletRequest request, HttpServletResponse response) throws IOException {
        String etag = "\"kit-1\"";
        response.setHeader("Cache-Control", "max-age=" + number(request, "age", 60));
        response.setHeader("ETag", etag);
        response.setDateHeader("Last-Modified", MODIFIED);
        response.setIntHeader("X-Calls", cachedCalls.incrementAndGet());
        if (etag.equals(request.getHeader("If-None-Match"))) {
            response.setStatus(304);
            return;
        }
        byte[] body = "x".repeat(number(request, "size", 1024)).getBytes(StandardCharsets.US_ASCII);
        response.setContentType("text/plain");
        response.setContentLength(body.length);
        response.getOutputStream().write(body);
    }

    private static void upload(HttpServletRequest request, HttpServletResponse response) throws IOException {
        MessageDigest digest;
        try {
            digest = MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException missing) {
            throw new IOException(missing);
        }
        long length = 0;
        byte[] buffer = new byte[65536];
        InputStream in = request.getInputStream();
        for (int count = in.read(buffer); count >= 0; count = in.read(buffer)) {
            digest.update(buffer, 0, count);
            length += count;
        }
        json(response, "{\"length\": " + length
                + ", \"sha256\": " + quote(HexFormat.of().formatHex(digest.digest())) + "}");
    }

    /** Leaks the address that Tomcat itself listens on, as applications do that build absolute links. */
    private static void redirect(HttpServletRequest request, HttpServletResponse response) {
        String to = request.getParameter("to");
        response.setStatus(302);
        response.setHeader("Location", "http://" + request.getLocalAddr() + ":" + request.getLocalPort()
                + request.getContextPath() + (to == null ? "/echo" : to));
        response.setContentLength(0);
    }

    private static void cookie(HttpServletRequest request, HttpServletResponse response) throws IOException {
        Cookie cookie = new Cookie("kit", "value");
        String domain = request.getParameter("domain");
        cookie.setDomain(domain == null ? request.getLocalAddr() : domain);
        cookie.setPath(request.getContextPath() + "/cookie");
        cookie.setHttpOnly(true);
        response.addCookie(cookie);
        json(response, "{}");
    }

    /** Answers without a look at the body. */
    private static void early(HttpServletResponse response) throws IOException {
        response.setStatus(403);
        json(response, "{\"early\": true}");
        response.flushBuffer();
    }

    private static void bytes(HttpServletRequest request, HttpServletResponse response) throws IOException {
        long left = Long.parseLong(request.getParameter("n"));
        response.setContentType("application/octet-stream");
        response.setContentLengthLong(left);
        byte[] buffer = new byte[65536];
        for (int i = 0; i < buffer.length; i++) {
            buffer[i] = (byte) (i * 31);
        }
        OutputStream out = response.getOutputStream();
        for (; left > 0; left -= buffer.length) {
            out.write(buffer, 0, (int) Math.min(left, buffer.length));
        }
    }
}
