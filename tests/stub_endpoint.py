"""An OpenAI-compatible endpoint on this machine, for tests."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Stub:
    """An endpoint that fails the first ``failures`` requests with a status and then replies through ``answer``, which gets the
    texts of the user's message and the number of its pictures; where it gives a number, that is the status of a refusal, and
    bytes are sent as they are."""

    answer: Callable[[str, int], str | int | bytes]
    failures: int = 0
    status: int = 429
    requests: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def respond(self, body: dict[str, Any]) -> tuple[int, dict[str, Any] | bytes]:
        with self.lock:
            self.requests.append(body)
            if len(self.requests) <= self.failures:
                return self.status, {"error": {"message": "try later", "type": "rate_limit"}}
        parts = body["messages"][-1]["content"]
        pictures = [part["image_url"]["url"].partition(",")[2] for part in parts if part["type"] == "image_url"]
        assert all(base64.b64decode(picture, validate=True) for picture in pictures)
        reply = self.answer("\n".join(part["text"] for part in parts if part["type"] == "text"), len(pictures))
        if isinstance(reply, bytes):
            return 200, reply
        if isinstance(reply, int):
            return reply, {"error": {"message": "refused", "type": "invalid_request_error"}}
        message = {"role": "assistant", "content": reply}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        usage = {"prompt_tokens": 100, "completion_tokens": 2, "total_tokens": 102}
        return 200, {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [choice],
            "usage": usage,
        }


@contextmanager
def serving(stub: Stub) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, answer = stub.respond(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            payload = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.send_header("Retry-After", "0.01")
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *values: object) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
