<%@ page contentType="text/html; charset=UTF-8" %><%
    Integer count = (Integer) session.getAttribute("jsp");
    count = count == null ? 1 : count + 1;
    session.setAttribute("jsp", count);
%><!doctype html>
<title>Session</title>
<p>Visit <b id="count"><%= count %></b> on <b id="route"><%= System.getProperty("t.route") %></b>
in <b id="id"><%= session.getId() %></b>. <a href="<%= response.encodeURL("session.jsp") %>">Again</a></p>
