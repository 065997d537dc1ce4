"""The endpoint over HTTP: ``/v1/models`` and ``/v1/chat/completions``, with OpenAI's replies and errors."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ipt.common.html import data_uri
from ipt.inference.prediction import Prediction
from ipt.serve.batching import Batcher, Done
from ipt.serve.requests import MAX_BODY, Desk, Job, Refused

#: Names of this machine: a page elsewhere cannot reach the endpoint through a name of its own.
HOSTS = ["127.0.0.1", "localhost"]


def make_app(desk: Desk, batcher: Batcher, timeout_s: float) -> Starlette:
    """The application. A request that takes longer than ``timeout_s`` seconds ends with status 504."""

    async def models(request: Request) -> Response:
        about = {"id": desk.name, "object": "model", "created": started, "owned_by": "ipt"}
        return JSONResponse({"object": "list", "data": [about]})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        if name != desk.name:
            raise Refused(f"there is no model '{name}' here, only '{desk.name}'", "model", 404, code="model_not_found")
        return JSONResponse({"id": desk.name, "object": "model", "created": started, "owned_by": "ipt"})

    async def chat(request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise Refused("the content type must be application/json", None, 415)
        job = await run_in_threadpool(desk.read, await limited_body(request))
        if job.mode != "draw":
            await run_in_threadpool(batcher.engine, job)
        future = batcher.submit(job)
        try:
            done = await asyncio.wait_for(asyncio.wrap_future(future), timeout_s)
        except TimeoutError:
            raise Refused(f"no answer within {timeout_s:g} seconds", None, 504, "server_error", "timeout") from None
        return JSONResponse(completion(job, done, desk.name))

    started = int(time.time())
    return Starlette(
        routes=[
            Route("/v1/models", models),
            Route("/v1/models/{name:path}", model),
            Route("/v1/chat/completions", chat, methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)],
        exception_handlers={Refused: refused, HTTPException: not_found, Exception: failed},
    )


async def limited_body(request: Request) -> bytes:
    """The body. `Refused` for one that is too long, before it has been read whole."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                raise Refused(f"a request may have {MAX_BODY:,} bytes at most", None, 413)
    except ClientDisconnect:
        raise Refused("the caller went away") from None
    return bytes(body)


def completion(job: Job, done: Done, model: str) -> dict[str, Any]:
    """A chat completion: what the model wrote, its pictures as data URLs in ``images``, and under ``ipt`` what it chose."""
    prediction = done.prediction
    if prediction is not None and prediction.error is not None:
        late = prediction.error.startswith("TimeLimit")
        raise Refused(prediction.error, *((None, 504, "server_error", "timeout") if late else ("messages",)))
    message: dict[str, Any] = {"role": "assistant", "content": "" if prediction is None else written(prediction)}
    message["images"] = [
        {"type": "image_url", "image_url": {"url": data_uri(image.data, "an imagination")}} for image in done.images
    ]
    written_tokens = 0 if prediction is None else prediction.text_tokens + prediction.image_tokens
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None, "message": message}],
        "usage": {
            "prompt_tokens": done.prompt_tokens,
            "completion_tokens": written_tokens,
            "total_tokens": done.prompt_tokens + written_tokens,
        },
        "ipt": {"mode": job.mode, "seed": job.seed, **({} if prediction is None else chosen(prediction))},
    }


def written(prediction: Prediction) -> str:
    """All that the model wrote, in order."""
    before = "".join(prediction.thoughts)
    return prediction.text if prediction.text.startswith(before) else before + prediction.text


def chosen(prediction: Prediction) -> dict[str, Any]:
    """The chosen option, in its words, and the probabilities of all."""
    answer = None if prediction.answer is None else prediction.choices[prediction.answer]
    chances = zip(prediction.choices, prediction.probabilities, strict=False)
    return {"answer": answer, "probabilities": dict(chances)}


async def refused(request: Request, error: Exception) -> Response:
    """A refusal in OpenAI's form."""
    assert isinstance(error, Refused)
    later = {"Retry-After": "1"} if error.status == 503 else None
    return JSONResponse(error.body, error.status, headers=later)


async def not_found(request: Request, error: Exception) -> Response:
    """What there is none of here, in OpenAI's form."""
    assert isinstance(error, HTTPException)
    words = (
        f"{request.method} {request.url.path}: {error.detail.lower()}; there are /v1/models and /v1/chat/completions"
    )
    return await refused(request, Refused(words, None, error.status_code))


async def failed(request: Request, error: Exception) -> Response:
    """A fault of the program: its traceback stays in the terminal."""
    return await refused(request, Refused("the server failed; its terminal says why", None, 500, "server_error"))
