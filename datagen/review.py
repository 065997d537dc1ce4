"""``python -m datagen.review data=DIR``: go through samples by eye and approve, delete or edit each, on a page of this machine.

Every decision is written at once to ``decisions.json``, so that one may stop at any moment and go on with the same command;
``kept=DIR`` writes a dataset of what was approved and edited. The page can be reached from this machine only (127.0.0.1), and its
requests carry a word that only the page knows.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from datagen import gallery
from ipt.common import cli
from ipt.common.errors import UserError
from ipt.common.files import CorruptFile, read_json, read_manifest, write_json
from ipt.common.html import MENU_STYLE, Html, page, tag
from ipt.common.local_server import HTML, JSON, LocalHandler, local_server, serve_until_interrupted
from ipt.common.registry import unknown_name
from ipt.common.settings import typed
from ipt.samples.sample import SpatialSample
from ipt.samples.store import SampleReader, seal, write_shards

DECISIONS = "decisions.json"
VERDICTS = ("approve", "delete", "edit")
TOKEN = "X-Review-Token"
MAX_BODY = 100_000  # bytes of a decision
STYLE = """
.review { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; margin-top: .8rem; }
.review output { font-weight: 600; } .editor { display: grid; gap: .4rem; width: 100%; } .editor[hidden] { display: none; }
.editor textarea, .editor input { font: inherit; width: 100%; padding: .3rem; }
article[data-verdict="approve"] { border-left: 6px solid var(--good); }
article[data-verdict="delete"] { border-left: 6px solid var(--bad); opacity: .6; }
article[data-verdict="edit"] { border-left: 6px solid var(--accent); }
"""
SCRIPT = """
const nav = document.querySelector("nav");
async function decide(card, body) {
  const said = card.querySelector("output");
  const sent = {method: "POST", headers: {"Content-Type": "application/json", "X-Review-Token": nav.dataset.token},
                body: JSON.stringify({id: card.dataset.id, ...body})};
  try {
    const reply = await fetch("/decide", sent);
    const told = await reply.json();
    if (!reply.ok) { said.textContent = told.error; return; }
    card.dataset.verdict = body.verdict;
    said.textContent = body.verdict || "undecided";
    document.getElementById("decided").textContent = told.decided;
    card.querySelector(".editor").hidden = true;
  } catch (error) { said.textContent = `not saved: ${error}`; }
}
for (const card of document.querySelectorAll("article")) {
  const editor = card.querySelector(".editor"), part = name => editor.querySelector(`[name=${name}]`).value;
  for (const button of card.querySelectorAll(".review button")) button.addEventListener("click", () => {
    if (button.value === "open") editor.hidden = !editor.hidden;
    else if (button.value !== "edit") decide(card, {verdict: button.value});
    else decide(card, {verdict: "edit", question: part("question"), answer: part("answer").trim(),
                       choices: part("choices").split("\\n").map(line => line.trim()).filter(line => line)});
  });
}
"""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a reviewer says of a sample: ``verdict`` of `VERDICTS`; of an edit, the new words, with the letter of the answer."""

    verdict: str
    question: str = ""
    choices: tuple[str, ...] = ()
    answer: str = ""

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise UserError(unknown_name("verdict", self.verdict, VERDICTS))

    def applied(self, sample: SpatialSample) -> SpatialSample | None:
        """The sample as it is kept; None where it is deleted. ``BadSample`` for an edit that makes no sample.

        Of an edit, the facts keep that there was one and the first words; a rationale that led to another answer is dropped.
        """
        if self.verdict == "delete":
            return None
        facts = {**sample.facts, "review": self.verdict}
        if self.verdict == "approve":
            return replace(sample, facts=facts)
        words = {"question": self.question.strip(), "choices": self.choices, "answer": self.answer}
        changed = replace(sample, **words)  # type: ignore[arg-type]
        before = {name: getattr(sample, name) for name in words if getattr(sample, name) != getattr(changed, name)}
        told = {"answer_text": changed.answer_text} if changed.choices else {}
        same = not sample.choices or (changed.answer_text == sample.answer_text and changed.answer == sample.answer)
        return replace(
            changed, facts={**facts, **told, "before_review": before}, rationale=sample.rationale if same else ""
        )


@dataclass
class Decisions:
    """The decisions on a dataset, in a file that is written anew with each; ``sha256``: digest of the dataset."""

    path: Path
    sha256: str
    found: dict[str, Decision] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def read(cls, path: Path, reader: SampleReader) -> Decisions:
        """The file's decisions, none where there is no file. ``UserError`` where they are on other samples."""
        decisions = cls(path, reader.digest())
        if not path.is_file():
            return decisions
        record = read_json(path)
        if record.get("data_sha256") != decisions.sha256:
            raise UserError(
                f"{path} holds decisions on other samples than those in {reader.source}; set another output_dir"
            )
        entries = record.get("decisions")
        if not isinstance(entries, dict):
            raise CorruptFile(f"{path}: field 'decisions' must be an object from sample id to decision")
        for name, entry in entries.items():
            decisions.found[name] = typed(Decision, entry, f"{path}, {name}")
        return decisions

    def set(self, sample: SpatialSample, decision: Decision | None) -> None:
        """Keep a decision on a sample, or none; ``BadSample`` for an edit that makes no sample."""
        if decision is not None:
            decision.applied(sample)
        with self.lock:
            if decision is None:
                self.found.pop(sample.id, None)
            else:
                self.found[sample.id] = decision
            entries = {name: as_json(each) for name, each in sorted(self.found.items())}
            write_json(self.path, {"data_sha256": self.sha256, "decisions": entries})

    def counts(self) -> dict[str, int]:
        """How many samples have each verdict."""
        return dict(Counter(decision.verdict for decision in self.found.values()))


def as_json(decision: Decision) -> dict[str, Any]:
    """A decision as JSON values, without words that only an edit has."""
    words = {"question": decision.question, "choices": list(decision.choices), "answer": decision.answer}
    return {"verdict": decision.verdict, **(words if decision.verdict == "edit" else {})}


@dataclass(frozen=True)
class ReviewConfig:
    """Go through the samples of data, a sealed folder or a shard, on a page at http://127.0.0.1:port (0: a free one).

    output_dir: where decisions.json goes (default: DATA-review beside the data). page_size: samples of a page. kept: instead of
    the page, write a dataset of the samples that were approved and edited; keep_undecided: and of those nobody has decided on.
    """

    data: str
    output_dir: str = ""
    port: int = 0
    page_size: int = 20
    kept: str = ""
    keep_undecided: bool = False

    def __post_init__(self) -> None:
        if self.page_size < 1 or not 0 <= self.port < 2**16:
            raise UserError(
                f"page_size must be at least 1 and port in 0..{2**16 - 1}, got {self.page_size} and {self.port}"
            )


class Review:
    """What the server needs: samples by place and by id, decisions, and the page's secret word."""

    def __init__(self, reader: SampleReader, decisions: Decisions, page_size: int) -> None:
        self.reader, self.decisions, self.page_size = reader, decisions, page_size
        self.token = secrets.token_urlsafe(24)
        self._places = {name: place for place, name in enumerate(reader.ids())}
        self._reading = threading.Lock()  # a reader is not shared by threads

    @property
    def pages(self) -> int:
        return max(1, -(-len(self.reader) // self.page_size))

    def sample(self, name: str) -> SpatialSample:
        """A sample by its id; ``UserError`` where there is none."""
        if name not in self._places:
            raise UserError(f"there is no sample '{name}' in {self.reader.source}")
        with self._reading:
            return self.reader[self._places[name]]

    def render(self, number: int) -> str:
        """A page, counted from 1."""
        first = (number - 1) * self.page_size
        with self._reading:
            samples = [self.reader[place] for place in range(first, min(first + self.page_size, len(self.reader)))]
        links = (
            tag("b", str(n)) if n == number else tag("a", str(n), href=f"/?page={n}") for n in range(1, self.pages + 1)
        )
        controls = tag("nav", tag("span", self.decided(), id="decided"), *links, data_token=self.token)
        cards = [reviewed(sample, self.decisions.found.get(sample.id)) for sample in samples]
        title = f"Review of {self.reader.source.name}"
        return page(title, [controls, *cards], MENU_STYLE + gallery.STYLE + STYLE, SCRIPT, talks=True)

    def decided(self) -> str:
        """How far one is, in words."""
        counts = self.decisions.counts()
        told = ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in VERDICTS)
        return f"{sum(counts.values())} of {len(self.reader)} decided: {told}"

    def decide(self, body: bytes) -> dict[str, Any]:
        """Keep what the page sent; ``UserError`` says what is wrong with it."""
        try:
            sent = json.loads(body)
        except ValueError as error:
            raise UserError(f"a decision must be JSON: {error}") from error
        if not isinstance(sent, dict) or not isinstance(sent.get("id"), str):
            raise UserError("a decision must be an object with the id of a sample")
        sample = self.sample(sent.pop("id"))
        undone = sent == {"verdict": ""}
        self.decisions.set(sample, None if undone else typed(Decision, sent, "decision"))
        return {"decided": self.decided()}


def reviewed(sample: SpatialSample, decision: Decision | None) -> Html:
    """The gallery's card of a sample, opened, with what one may decide, and the words of an earlier edit."""
    words = decision if decision is not None and decision.verdict == "edit" else None
    verdict = "" if decision is None else decision.verdict
    buttons = [("approve", "Approve"), ("delete", "Delete"), ("open", "Edit"), ("", "Undo")]
    question, choices, answer = (getattr(words or sample, name) for name in ("question", "choices", "answer"))
    editor = tag(
        "div",
        tag("label", "Question", tag("textarea", question, name="question", rows="3")),
        tag("label", "Choices, one a line", tag("textarea", "\n".join(choices), name="choices", rows="5")),
        tag("label", "Letter of the answer", tag("input", name="answer", value=answer, maxlength="1")),
        tag("button", "Save the edit", value="edit", type="button"),
        class_="editor",
        hidden=True,
    )
    row = tag(
        "div",
        *(tag("button", label, value=value, type="button") for value, label in buttons),
        tag("output", verdict or "undecided"),
        editor,
        class_="review",
    )
    return gallery.card(sample, row, opened=True, data_id=sample.id, data_verdict=verdict)


def make_server(review: Review, port: int = 0) -> ThreadingHTTPServer:
    """The page at / and what it sends to /decide, bound to 127.0.0.1."""

    class Handler(LocalHandler):
        def do_GET(self) -> None:
            """A page of samples, under a local name only."""
            address = urlsplit(self.path)
            number = parse_qs(address.query).get("page", ["1"])[0]
            known = number.isdecimal() and 1 <= int(number) <= review.pages
            if not self.is_local or address.path != "/" or not known:
                self.send_error(404)
                return
            self.reply(review.render(int(number)).encode(), HTML)

        def do_POST(self) -> None:
            """A decision, from the page alone."""
            size = self.headers.get("Content-Length", "")
            told = secrets.compare_digest(self.headers.get(TOKEN, "").encode(), review.token.encode())
            if not self.is_local or self.path != "/decide" or not told:
                self.send_error(403)
                return
            if not size.isdecimal() or int(size) > MAX_BODY:
                self.send_error(413)
                return
            try:
                answer, status = review.decide(self.rfile.read(int(size))), 200
            except UserError as error:
                answer, status = {"error": str(error)}, 400
            self.reply(json.dumps(answer).encode(), JSON, status)

    return local_server(Handler, port)


def kept(reader: SampleReader, decisions: Mapping[str, Decision], keep_undecided: bool) -> Iterator[SpatialSample]:
    """The samples that were approved and edited, as they are kept, and the undecided ones where they are wanted."""
    for sample in reader:
        decision = decisions.get(sample.id)
        if decision is None:
            if keep_undecided:
                yield sample
        elif (changed := decision.applied(sample)) is not None:
            yield changed


def write_kept(config: ReviewConfig, reader: SampleReader, decisions: Decisions) -> None:
    """Write the dataset of what was kept, with the decisions in its manifest; prints counts. ``UserError`` where it is empty."""
    folder, data = Path(config.kept), Path(config.data)
    counts = decisions.counts()
    review = {
        **{verdict: counts.get(verdict, 0) for verdict in VERDICTS},
        "undecided": len(reader) - sum(counts.values()),
    }
    if not review["approve"] + review["edit"] + (review["undecided"] if config.keep_undecided else 0):
        raise UserError(
            f"{decisions.path} keeps no sample of {data}: approve some on the page, or set keep_undecided=true"
        )
    write_shards(folder, "reviewed", kept(reader, decisions.found, config.keep_undecided))
    licences = read_manifest(data).get("licences", []) if data.is_dir() else []
    seal(folder, {"data_sha256": decisions.sha256, "licences": licences, "review": review})
    said = ", ".join(f"{count} {verdict}" for verdict, count in review.items())
    print(f"{folder}: {len(SampleReader(folder))} of {len(reader)} samples ({said})")


def main(config: ReviewConfig) -> None:
    """Serve the page until interrupted, or write what was kept."""
    data = Path(config.data)
    reader = SampleReader(data)
    folder = Path(config.output_dir) if config.output_dir else data.with_name(f"{data.stem}-review")
    decisions = Decisions.read(folder / DECISIONS, reader)
    if config.kept:
        write_kept(config, reader, decisions)
        return
    print(f"decisions go to {decisions.path}")
    serve_until_interrupted(make_server(Review(reader, decisions, config.page_size), config.port))


if __name__ == "__main__":
    cli.run(ReviewConfig, main)
