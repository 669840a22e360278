package kit;

import jakarta.websocket.OnMessage;
import jakarta.websocket.server.ServerEndpoint;
import java.nio.ByteBuffer;

/** Sends each message back. */
@ServerEndpoint("/ws/echo")
public class EchoSocket {
    @OnMessage(maxMessageSize = 1 << 20)
    public String text(String message) {
        return message;
    }

    @OnMessage(maxMessageSize = 1 << 20)
    public ByteBuffer binary(ByteBuffer message) {
        return message;
    }
}
