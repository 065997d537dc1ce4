"""Models behind an OpenAI-compatible endpoint: questions of text and pictures, answered once and kept on disk.

What is asked again (a resumed command, a second run over the same questions) is answered from the cache and costs nothing.
The key of the endpoint is read from OPENAI_API_KEY and never stored; endpoints of one's own need none.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ipt.common.errors import UserError
from ipt.common.files import read_json, write_json
from ipt.common.html import data_uri
from ipt.common.images import image_size

T = TypeVar("T")
REFUSALS = (400, 413, 422)
REPLY_TOKENS = 512  # expected of a reply whose length no setting limits


class RefusedRequest(UserError):
    """The endpoint does not accept this request (its form, its size, its content); others may be answered."""


class BudgetSpent(UserError):
    """The next request might cost more than what is left of the budget; what was answered is in the cache."""


class EndpointDown(UserError, RuntimeError):
    """The endpoint did not answer in spite of all retries; what it answered before is in the cache."""


class UnreadableReply(EndpointDown):
    """The endpoint answered, but not with a chat completion."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The model's words, why they end (``stop``, ``length``, ...), and what they cost in tokens."""

    text: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Requests that were paid for, and their tokens."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )

    def cost(self, price_in: float, price_out: float) -> float:
        """In the currency of the prices, which are per million tokens."""
        return (price_in * self.prompt_tokens + price_out * self.completion_tokens) / 1e6


class Purse:
    """A budget that threads share: a request is begun only where what is spent, promised to others and expected of it fits.

    ``spent``: before the first request. A request is expected to cost no less than the dearest so far. 0 is no limit.
    """

    def __init__(self, limit: float, price_in: float, price_out: float, spent: Usage) -> None:
        if limit < 0 or (limit and not (price_in or price_out)):
            raise UserError(f"a budget must be positive and needs price_in and price_out, got budget={limit:g}")
        self._limit, self._prices, self._lock = limit, (price_in, price_out), threading.Lock()
        self._spent, self._promised, self._dearest = spent.cost(price_in, price_out), 0.0, 0.0

    def promise(self, expected: Usage) -> float:
        """Set aside what a request may cost; ``BudgetSpent`` where that is not there."""
        with self._lock:
            cost = max(expected.cost(*self._prices), self._dearest)
            if self._limit and self._spent + self._promised + cost > self._limit:
                raise BudgetSpent(
                    f"{self._spent:.4f} of the budget of {self._limit:g} is spent, and a request may cost {cost:.4f}; "
                    f"run the same command with a larger budget to go on"
                )
            self._promised += cost
            return cost

    def settle(self, promised: float, paid: Usage | None) -> None:
        """Replace a promise by what was paid; None: nobody knows, and all of it counts."""
        with self._lock:
            cost = promised if paid is None else paid.cost(*self._prices)
            self._promised -= promised
            self._spent += cost
            self._dearest = max(self._dearest, cost)


class Pace:
    """At most ``per_minute`` starts a minute, evenly spaced, whatever the number of threads; 0 is no limit."""

    def __init__(
        self,
        per_minute: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if per_minute < 0:
            raise UserError(f"a rate of requests cannot be negative, got {per_minute}")
        self._interval = 60 / per_minute if per_minute else 0.0
        self._clock, self._sleep = clock, sleep
        self._lock, self._next = threading.Lock(), clock()

    def wait(self) -> None:
        """Return when it is this caller's turn."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._next)
            self._next = turn + self._interval
        if turn > now:
            self._sleep(turn - now)


class Endpoint:
    """One model, asked with retries (exponential backoff, or what the endpoint's Retry-After says) and a cache.

    ``settings``: fields of the request besides model and messages (``temperature``, ``max_completion_tokens``, ...). The
    cache key is a hash of everything that is sent, pictures included, and of the number of the attempt. Threads may share it.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None,
        cache: Path,
        settings: Mapping[str, Any] | None = None,
        per_minute: float = 0.0,
        retries: int = 6,
        timeout_s: float = 120.0,
        purse: Purse | None = None,
    ) -> None:
        try:
            import openai
        except ImportError as error:
            raise UserError(
                "this needs the openai client: pip install 'imaginative-perception-tokens[endpoint]'"
            ) from error
        key = os.environ.get("OPENAI_API_KEY") or ("none" if base_url else None)
        if key is None:
            raise UserError("set OPENAI_API_KEY, or base_url=http://... for an endpoint of your own")
        self._openai = openai
        self._client = openai.OpenAI(api_key=key, base_url=base_url, max_retries=retries, timeout=timeout_s)
        self._model, self._base_url, self._settings, self._retries = (
            model,
            base_url or "",
            dict(settings or {}),
            retries,
        )
        self._asking: dict[Path, threading.Lock] = {}
        self._cache, self._pace, self._purse = cache, Pace(per_minute), purse or Purse(0, 0, 0, Usage())

    def ask(self, content: Sequence[str | bytes], attempt: int = 0, system: str = "") -> Reply:
        """The reply to texts and encoded pictures, in this order. ``attempt`` tells repetitions of a question apart.

        Raises `RefusedRequest` where this request is not accepted, `EndpointDown` where none is answered, `BudgetSpent`.
        """
        path = self._path(content, attempt, system)
        with self._asking.setdefault(path, threading.Lock()):  # threads that ask the same pay once
            return Reply(**read_json(path), cached=True) if path.is_file() else self._paid(path, content, system)

    def _paid(self, path: Path, content: Sequence[str | bytes], system: str) -> Reply:
        """A reply that is not in the cache yet, and from now on is."""
        messages: list[Any] = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": [message_part(part) for part in content]})
        for left in reversed(range(self._retries + 1)):
            promised = self._purse.promise(self.expected(content, system))
            paid: Usage | None = Usage()
            try:
                self._pace.wait()
                reply = self._answered(messages)
                paid = Usage(1, reply.prompt_tokens, reply.completion_tokens) if reply.prompt_tokens else None
                break
            except UnreadableReply:
                paid = None
                if not left:
                    raise
            finally:
                self._purse.settle(promised, paid)
        write_json(path, {name: value for name, value in asdict(reply).items() if name != "cached"})
        return reply

    def _answered(self, messages: list[Any]) -> Reply:
        """One request, with the client's retries."""
        try:
            answer = self._client.chat.completions.create(model=self._model, messages=messages, **self._settings)
        except self._openai.APIStatusError as error:
            if error.status_code in REFUSALS:
                raise RefusedRequest(f"the endpoint refuses a request: {error}") from error
            raise EndpointDown(f"the endpoint fails: {error}; run the same command again to go on") from error
        except self._openai.OpenAIError as error:
            raise EndpointDown(f"the endpoint does not answer: {error}; run the same command again to go on") from error
        except ValueError as error:  # of the client's reader of JSON
            raise UnreadableReply(
                f"the endpoint's reply is no JSON ({error}); run the same command again to go on"
            ) from error
        if not isinstance(getattr(answer, "choices", None), list | None) or not hasattr(answer, "usage"):
            raise UnreadableReply("the endpoint's reply is no chat completion; run the same command again to go on")
        choice, usage = answer.choices[0] if answer.choices else None, answer.usage
        return Reply(
            (choice.message.content or "") if choice else "",
            (choice.finish_reason or "") if choice else "",
            usage.prompt_tokens if usage else 0,
            usage.completion_tokens if usage else 0,
        )

    def known(self, content: Sequence[str | bytes], attempt: int = 0, system: str = "") -> bool:
        """Whether the reply is in the cache."""
        return self._path(content, attempt, system).is_file()

    def expected(self, content: Sequence[str | bytes], system: str = "") -> Usage:
        """What a request may cost, on the high side: a token for two letters and, in a picture, for 750 pixels (Anthropic's
        rule; OpenAI's tiles are fewer); of the reply, as many tokens as the settings allow, else ``REPLY_TOKENS``."""
        sizes = [image_size(part, "a picture of a question") for part in content if isinstance(part, bytes)]
        letters = sum(len(part) for part in (system, *content) if isinstance(part, str))
        most = self._settings.get("max_completion_tokens") or self._settings.get("max_tokens") or REPLY_TOKENS
        return Usage(1, letters // 2 + 20 + sum(85 + width * height // 750 for width, height in sizes), int(most))

    def _path(self, content: Sequence[str | bytes], attempt: int, system: str) -> Path:
        return self._cache / f"{self._key(content, attempt, system)}.json"

    def _key(self, content: Sequence[str | bytes], attempt: int, system: str) -> str:
        parts = [hashlib.sha256(part).hexdigest() if isinstance(part, bytes) else f"text {part}" for part in content]
        sent = [self._base_url, self._model, json.dumps(self._settings, sort_keys=True), attempt, system, *parts]
        return hashlib.sha256(json.dumps(sent).encode()).hexdigest()

    def spent(self) -> Usage:
        """What all replies in the cache cost, also those that earlier commands asked for."""
        return spent_in(self._cache)


def spent_in(cache: Path) -> Usage:
    """What the replies in a cache cost together."""
    replies = [read_json(path) for path in cache.glob("*.json")]
    totals = (sum(reply[name] for reply in replies) for name in ("prompt_tokens", "completion_tokens"))
    return Usage(len(replies), *totals)


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """Keys of commands that ask a model: the name under which the endpoint base_url serves it (default: OpenAI's own).

    request.KEY=VALUE: more fields of the requests. workers: requests at a time. per_minute: at most so many, 0 for no limit.
    cache: where replies are kept. Prices are per million tokens. budget: at most so much for all replies in the cache together,
    0 for no limit; a request that may exceed it is not sent.
    """

    model: str
    base_url: str = ""
    request: dict[str, Any] = field(default_factory=dict)
    workers: int = 8
    per_minute: float = 0.0
    retries: int = 6
    cache: str = ""
    price_in: float = 0.0
    price_out: float = 0.0
    budget: float = 0.0

    def open(self, cache: Path) -> Endpoint:
        """The endpoint, with replies in ``cache`` unless the settings name another folder. ``ValueError`` without a worker."""
        if self.workers < 1:
            raise UserError(f"workers must be at least 1, got {self.workers}")
        folder = Path(self.cache) if self.cache else cache
        purse = Purse(self.budget, self.price_in, self.price_out, spent_in(folder))
        url = self.base_url or None
        return Endpoint(self.model, url, folder, self.request, self.per_minute, self.retries, purse=purse)

    def bill(self, endpoint: Endpoint) -> dict[str, Any]:
        """What every reply in the cache cost together, as JSON values; also printed."""
        spent = endpoint.spent()
        cost = spent.cost(self.price_in, self.price_out)
        print(
            f"{spent.requests} requests, {spent.prompt_tokens:,} + {spent.completion_tokens:,} tokens, cost {cost:.2f}"
        )
        return {**asdict(spent), "cost": cost}


def concurrently(tasks: Iterable[Callable[[], T]], workers: int) -> Iterator[T]:
    """The results of ``tasks`` in their order, from ``workers`` threads; at most twice as many tasks are taken ahead.

    The first error ends it; tasks that have not begun by then are dropped.
    """
    pending: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for task in tasks:
                pending.append(pool.submit(task))
                if len(pending) >= 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def message_part(part: str | bytes) -> dict[str, Any]:
    """A text, or an encoded picture as a data URI, as one part of a message."""
    if isinstance(part, bytes):
        return {"type": "image_url", "image_url": {"url": data_uri(part, "in a question")}}
    return {"type": "text", "text": part}
