"""A report over HTTP, for this machine only: the page and its JSON, from memory, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOST = "127.0.0.1"
TYPES = {".html": "text/html; charset=utf-8", ".json": "application/json"}


def make_server(page: Path, others: tuple[Path, ...] = (), port: int = 0) -> ThreadingHTTPServer:
    """A server of ``page`` at / and of all files by name, bound to 127.0.0.1; port 0 takes a free one."""
    files = {f"/{path.name}": path for path in (page, *others)}
    content = {name: (TYPES[path.suffix], path.read_bytes()) for name, path in {"/": page, **files}.items()}
    return ThreadingHTTPServer((HOST, port), handler(content))


def serve(page: Path, others: tuple[Path, ...] = (), port: int = 0) -> None:
    """Serve until interrupted; prints the address."""
    with make_server(page, others, port) as server:
        print(f"http://{HOST}:{server.server_port}/ (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


def handler(content: Mapping[str, tuple[str, bytes]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answers only under a local name, so that no page elsewhere can read the report through its own domain."""
            host = self.headers.get("Host", "").rpartition(":")[0]
            found = content.get(self.path.partition("?")[0])
            if host not in (HOST, "localhost") or found is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", found[0])
            self.send_header("Content-Length", str(len(found[1])))
            self.end_headers()
            self.wfile.write(found[1])

        def log_message(self, format: str, *arguments: object) -> None:
            """Requests are not logged."""

    return Handler
