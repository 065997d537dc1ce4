"""Retries, the cache, the pace and the costs of an endpoint, against a stub on this machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from ipt.common.endpoint import Endpoint, EndpointDown, Pace, RefusedRequest, Usage, concurrently
from ipt.common.images import encode_image
from tests.stub_endpoint import Stub, serving
from tests.synthetic import picture
from tests.waiting import HANGS

pytest.importorskip("openai")

PICTURES = [encode_image(picture(seed)) for seed in range(2)]


def test_a_failing_endpoint_is_asked_again_and_an_answered_question_is_not(tmp_path: Path) -> None:
    for status in (429, 500):
        stub = Stub(lambda text, pictures: f"{text} {pictures}", failures=3, status=status)
        with serving(stub) as url:
            endpoint = Endpoint("m", url, tmp_path / str(status))
            first, second = (endpoint.ask([*PICTURES, "how many?"]) for _ in range(2))
        assert len(stub.requests) == 3 + 1
        assert (first.text, first.finish, first.cached) == ("how many? 2", "stop", False)
        assert (second.text, second.completion_tokens, second.cached) == (first.text, first.completion_tokens, True)


def test_anything_that_is_sent_makes_another_question(tmp_path: Path) -> None:
    stub = Stub(lambda text, pictures: "yes")
    with serving(stub) as url:
        endpoint = Endpoint("m", url, tmp_path)
        endpoint.ask([PICTURES[0], "a"])
        endpoint.ask([PICTURES[0], "a"])
        assert len(stub.requests) == 1
        endpoint.ask([PICTURES[0], "a"], attempt=1)
        endpoint.ask([PICTURES[0], "a"], system="short")
        endpoint.ask([PICTURES[1], "a"])
        endpoint.ask(["a", PICTURES[0]])
        endpoint.ask([PICTURES[0], "b"])
        Endpoint("n", url, tmp_path).ask([PICTURES[0], "a"])
        Endpoint("m", url, tmp_path, {"temperature": 0.5}).ask([PICTURES[0], "a"])
    assert len(stub.requests) == 8
    assert stub.requests[-1]["temperature"] == 0.5 and stub.requests[-2]["model"] == "n"
    assert [message["role"] for message in stub.requests[2]["messages"]] == ["system", "user"]


def test_an_endpoint_that_stays_down_is_an_error_and_nothing_is_kept(tmp_path: Path) -> None:
    with serving(Stub(lambda text, pictures: "yes", failures=10**6)) as url, pytest.raises(EndpointDown, match="again"):
        Endpoint("m", url, tmp_path, retries=2).ask(["a"])
    with pytest.raises(EndpointDown, match="does not answer"):
        Endpoint("m", url, tmp_path, retries=0).ask(["a"])
    assert not list(tmp_path.glob("*"))


def test_a_request_that_is_not_accepted_is_not_sent_again(tmp_path: Path) -> None:
    stub = Stub(lambda text, pictures: 400)
    with serving(stub) as url, pytest.raises(RefusedRequest, match="refused"):
        Endpoint("m", url, tmp_path).ask(["a"])
    assert len(stub.requests) == 1


def test_costs_are_those_of_all_paid_replies_in_the_cache(tmp_path: Path) -> None:
    with serving(Stub(lambda text, pictures: "yes")) as url:
        for text in ("a", "b", "a"):
            Endpoint("m", url, tmp_path).ask([text])
    spent = Endpoint("m", url, tmp_path).spent()
    assert spent == Usage(2, 200, 4)
    assert spent.cost(price_in=3, price_out=50) == pytest.approx((200 * 3 + 4 * 50) / 1e6)


def test_starts_are_spaced_evenly_whoever_waits() -> None:
    slept: list[float] = []
    pace = Pace(per_minute=30, clock=lambda: 100.0, sleep=slept.append)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: pace.wait(), range(5)))
    assert sorted(slept) == [2, 4, 6, 8]
    unlimited = Pace(0, sleep=slept.append)
    for _ in range(5):
        unlimited.wait()
    assert len(slept) == 4
    with pytest.raises(ValueError, match="negative"):
        Pace(-1)


def test_a_key_is_needed_only_without_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ValueError, match="OPENAI_API_KEY"):
        Endpoint("m", None, tmp_path)
    Endpoint("m", "http://127.0.0.1:1/v1", tmp_path)


def test_tasks_run_side_by_side_in_order_and_an_error_drops_those_that_have_not_begun() -> None:
    barrier, begun = threading.Barrier(3, timeout=HANGS), []

    def task(number: int) -> int:
        begun.append(number)
        barrier.wait()  # passes only if three run at once
        return number

    assert list(concurrently([partial(task, number) for number in range(9)], 3)) == list(range(9))
    taken = []

    def tasks() -> Iterator[Callable[[], int]]:
        for number in range(100):
            taken.append(number)
            yield lambda number=number: 1 // (number - 5)

    with pytest.raises(ZeroDivisionError):
        list(concurrently(tasks(), 2))
    assert len(taken) < 15
