"""The review page: decisions last, edits make samples, the server hears this machine and its own page alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from datagen.review import TOKEN, Decision, Decisions, Review, ReviewConfig, main, make_server
from ipt.common import cli
from ipt.common.errors import UserError
from ipt.common.local_server import HOST
from ipt.samples.sample import BadSample
from ipt.samples.store import SampleReader, seal, write_shard
from tests.browser import CHROMIUM, browsing
from tests.synthetic import make_sample

SAMPLES = [make_sample(number) for number in range(5)]
EDIT = {"verdict": "edit", "question": "How many?", "choices": ["one", "two", "three"], "answer": "B"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    folder.mkdir()
    write_shard(folder / "samples-00000.parquet", SAMPLES)
    seal(folder, {"licences": ["theirs"]})
    return folder


@contextmanager
def serving(data: Path, page_size: int = 20) -> Iterator[tuple[str, Review]]:
    reader = SampleReader(data)
    review = Review(reader, Decisions.read(data.parent / "made-review" / "decisions.json", reader), page_size)
    server = make_server(review)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        assert server.server_address[0] == HOST == "127.0.0.1"
        yield f"http://{HOST}:{server.server_port}", review
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def sent(address: str, token: str, body: Any, **headers: str) -> dict[str, Any]:
    """The reply to a decision."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with urlopen(Request(f"{address}/decide", data, {TOKEN: token, **headers})) as reply:
        found: dict[str, Any] = json.loads(reply.read())
        return found


def refused(address: str, token: str, body: Any, **headers: str) -> tuple[int, str]:
    with pytest.raises(HTTPError) as error:
        sent(address, token, body, **headers)
    with error.value as reply:
        return error.value.code, reply.read().decode()


def test_decisions_last_and_the_builder_keeps_what_they_say(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(data) as (address, review):
        sent(address, review.token, {"id": SAMPLES[0].id, "verdict": "approve"})
        sent(address, review.token, {"id": SAMPLES[1].id, "verdict": "delete"})
        told = sent(address, review.token, {"id": SAMPLES[2].id, **EDIT})
        assert told == {"decided": "3 of 5 decided: 1 approve, 1 delete, 1 edit"}
        sent(address, review.token, {"id": SAMPLES[3].id, "verdict": "delete"})
        sent(address, review.token, {"id": SAMPLES[3].id, "verdict": ""})
    with serving(data) as (address, review):  # another day
        page = urlopen(address).read().decode()
        assert "3 of 5 decided" in page and len(re.findall('<article[^>]*data-verdict="delete"', page)) == 1
        assert re.search(r'<textarea name="question" rows="3">How many\?</textarea>', page), "an edit is shown again"
    cli.run(ReviewConfig, main, [f"data={data}", f"kept={data.parent / 'kept'}"])
    assert "2 of 5 samples (1 approve, 1 delete, 1 edit, 2 undecided)" in capsys.readouterr().out
    first, second = SampleReader(data.parent / "kept")
    assert (first.id, first.question, first.rationale) == (SAMPLES[0].id, SAMPLES[0].question, SAMPLES[0].rationale)
    assert first.facts["review"] == "approve" and first.images == SAMPLES[0].images
    assert (second.question, second.choices, second.answer_text) == ("How many?", ("one", "two", "three"), "two")
    assert second.facts["answer_text"] == "two" and not second.rationale, "it led to another answer"
    assert second.facts["before_review"]["question"] == SAMPLES[2].question
    manifest = json.loads((data.parent / "kept" / "manifest.json").read_text())
    assert manifest["licences"] == ["theirs"] and manifest["review"]["undecided"] == 2
    cli.run(ReviewConfig, main, [f"data={data}", f"kept={data.parent / 'all'}", "keep_undecided=true"])
    assert SampleReader(data.parent / "all").ids() == [SAMPLES[number].id for number in (0, 2, 3, 4)]


def test_pages_have_the_cards_of_the_gallery(data: Path) -> None:
    with serving(data, page_size=2) as (address, review):
        pages = [urlopen(f"{address}/?page={number}").read().decode() for number in (1, 2, 3)]
        assert [page.count("<article") for page in pages] == [2, 2, 1] and review.pages == 3
        assert all(SAMPLES[4].id in page for page in pages[2:]) and SAMPLES[4].rationale in pages[2]
        assert "connect-src &#x27;self&#x27;" in pages[0] and review.token in pages[0]
        for path in ("/?page=4", "/?page=0", "/?page=x", "/decisions.json"):
            with pytest.raises(HTTPError) as error:
                urlopen(address + path)
            assert error.value.code == 404
            error.value.close()


def test_what_does_not_come_from_the_page_is_refused(data: Path) -> None:
    good = {"id": SAMPLES[0].id, "verdict": "approve"}
    with serving(data) as (address, review):
        assert refused(address, "guess", good)[0] == 403
        assert refused(address, "", good)[0] == 403
        assert refused(address, review.token, good, Host="evil.example:80")[0] == 403
        with pytest.raises(HTTPError) as error:
            urlopen(Request(address, headers={"Host": "evil.example"}))
        error.value.close()
        assert error.value.code == 404
        assert refused(address, review.token, b"x" * 200_000)[0] == 413
        for body, told in (
            (b"{", "must be JSON"),
            ([], "the id of a sample"),
            ({"id": "none", "verdict": "approve"}, "there is no sample 'none'"),
            ({"id": SAMPLES[0].id, "verdict": "burn"}, "verdict.*'burn'"),
            ({"id": SAMPLES[0].id, "verdict": "approve", "by": "me"}, "by"),
            ({"id": SAMPLES[0].id, **EDIT, "answer": "D"}, "'answer'.*must be one of A, B, C"),
            ({"id": SAMPLES[0].id, **EDIT, "choices": ["one", "one"]}, "must differ"),
        ):
            status, answer = refused(address, review.token, body)
            assert status == 400 and re.search(told, json.loads(answer)["error"])
        assert not review.decisions.found and not review.decisions.path.exists()


def test_decisions_on_other_samples_are_refused(data: Path, tmp_path: Path) -> None:
    reader = SampleReader(data)
    decisions = Decisions.read(tmp_path / "decisions.json", reader)
    with pytest.raises(UserError, match="keeps no sample of"):
        main(ReviewConfig(str(data), kept=str(tmp_path / "none")))
    decisions.set(SAMPLES[0], Decision("approve"))
    with pytest.raises(BadSample, match="answer"):
        decisions.set(SAMPLES[0], Decision("edit", "Q?", ("a", "b"), "C"))
    assert Decisions.read(tmp_path / "decisions.json", reader).counts() == {"approve": 1}
    write_shard(tmp_path / "other.parquet", SAMPLES[:1])
    with pytest.raises(UserError, match="decisions on other samples"):
        Decisions.read(tmp_path / "decisions.json", SampleReader(tmp_path / "other.parquet"))
    for wrong, told in (({"page_size": 0}, "page_size"), ({"port": 70_000}, "port")):
        with pytest.raises(UserError, match=told):
            ReviewConfig(str(data), **wrong)  # type: ignore[arg-type]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_reviewer_clicks_through_the_page(data: Path, tmp_path: Path) -> None:
    def click(number: int, value: str) -> str:
        """Press a button of a card and wait for what the page says."""
        return f"""(async () => {{
            const card = document.querySelectorAll("article")[{number}], said = card.querySelector("output");
            const changed = new Promise(done => new MutationObserver(done).observe(said, {{childList: true}}));
            card.querySelector('.review button[value="{value}"]').click();
            await changed;
            return said.textContent;
        }})()"""

    with serving(data) as (address, review), browsing(tmp_path / "profile") as browser:
        browser.open(address)
        assert browser.run(click(0, "approve")) == "approve"
        assert browser.run(click(1, "delete")) == "delete"
        edited = 'document.querySelectorAll("article")[2].querySelector'
        browser.run(f"""{edited}('button[value="open"]').click()""")
        assert browser.run(f"{edited}('.editor').hidden") is False
        browser.run(f"""{edited}('[name="answer"]').value = "Z" """)
        assert "must be one of A, B, C, D" in browser.run(click(2, "edit"))
        browser.run(f"""{edited}('[name="answer"]').value = "A" """)
        assert browser.run(click(2, "edit")) == "edit" and browser.run(f"{edited}('.editor').hidden") is True
        assert browser.run('document.getElementById("decided").textContent').startswith("3 of 5 decided")
        assert browser.run(click(0, "")) == "undecided"
        assert review.decisions.found == {
            SAMPLES[1].id: Decision("delete"),
            SAMPLES[2].id: Decision("edit", SAMPLES[2].question, SAMPLES[2].choices, "A"),
        }
        browser.open(address)
        assert browser.run('[...document.querySelectorAll("article")].map(card => card.dataset.verdict)') == [
            "", "delete", "edit", "", "",
        ]  # fmt: skip
