"""Pages over HTTP for this machine only: bound to 127.0.0.1, and answering only under a local name."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST = "127.0.0.1"
HTML = "text/html; charset=utf-8"
JSON = "application/json"


class LocalHandler(BaseHTTPRequestHandler):
    """Requests that come by another name than this machine's are refused, so that no page elsewhere can use its own domain."""

    @property
    def is_local(self) -> bool:
        """Whether the request names this machine."""
        return self.headers.get("Host", "").rpartition(":")[0] in (HOST, "localhost")

    def reply(self, content: bytes, kind: str, status: int = 200) -> None:
        """Send ``content`` of media type ``kind``."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Requests are not logged."""


def local_server(handler: type[LocalHandler], port: int = 0) -> ThreadingHTTPServer:
    """A server bound to 127.0.0.1; port 0 takes a free one."""
    return ThreadingHTTPServer((HOST, port), handler)


def serve_until_interrupted(server: ThreadingHTTPServer) -> None:
    """Print the address, and serve until Ctrl-C."""
    with server:
        print(f"http://{HOST}:{server.server_port}/ (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
