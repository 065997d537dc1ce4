"""A report over HTTP, for this machine only: the page and its JSON, from memory, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from http.server import ThreadingHTTPServer
from pathlib import Path

from ipt.common.local_server import HTML, JSON, LocalHandler, local_server, serve_until_interrupted

TYPES = {".html": HTML, ".json": JSON}


def make_server(page: Path, others: tuple[Path, ...] = (), port: int = 0) -> ThreadingHTTPServer:
    """A server of ``page`` at / and of all files by name, bound to 127.0.0.1; port 0 takes a free one."""
    files = {f"/{path.name}": path for path in (page, *others)}
    content = {name: (TYPES[path.suffix], path.read_bytes()) for name, path in {"/": page, **files}.items()}
    return local_server(handler(content), port)


def serve(page: Path, others: tuple[Path, ...] = (), port: int = 0) -> None:
    """Serve until interrupted; prints the address."""
    serve_until_interrupted(make_server(page, others, port))


def handler(content: Mapping[str, tuple[str, bytes]]) -> type[LocalHandler]:
    class Handler(LocalHandler):
        def do_GET(self) -> None:
            """Answers only under a local name."""
            found = content.get(self.path.partition("?")[0])
            if not self.is_local or found is None:
                self.send_error(404)
                return
            self.reply(found[1], found[0])

    return Handler
