"""``python -m datagen.gallery data=DIR``: generated samples on one self-contained page, made for testing oneself.

Choosing an option marks it right or wrong, keeps score and opens what the sample knows: the true imagination, the
counterfactual views, rationale, facts, a plan and the provenance. Nothing that tells the answer is shown before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datagen.plan import draw_plan
from ipt.common import cli
from ipt.common.files import write_bytes
from ipt.common.html import MENU_SCRIPT, MENU_STYLE, Html, menu, page, picture, shown_count, tag
from ipt.common.progress import tracked
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.samples.store import SampleReader

STYLE = """
nav b { margin-left: auto; }
.views { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(min(240px, 45%), 1fr)); }
.single { display: grid; grid-template-columns: minmax(240px, 380px) 1fr; gap: .6rem 1.6rem; }
.single .views { grid-template-columns: 1fr; }
.views img { width: 100%; border: 1px solid var(--line); }
.question { font-size: 1.08rem; margin: .5rem 0 .8rem; max-width: 60rem; }
.options { display: flex; flex-wrap: wrap; gap: .5rem; margin: 0 0 .7rem; }
.options button { text-align: left; padding: .4rem .9rem; }
.options .right { border-color: var(--good); background: #e3f4ea; font-weight: 600; }
.options .wrong { border-color: var(--bad); background: #fbe6e4; }
.truth { display: grid; grid-template-columns: minmax(240px, 1fr) minmax(280px, 2fr); gap: 1rem; margin: .8rem 0; }
.truth img { width: 100%; border: 2px solid var(--accent); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem .9rem; margin: .6rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.plan { max-width: 340px; }
@media (max-width: 640px) { .truth, .single { grid-template-columns: 1fr; } nav b { margin-left: 0; } }
"""
SCRIPT = """
const score = document.getElementById("score");
let asked = 0, right = 0;
function reveal(card) {
  card.querySelector("details").open = true;
  card.querySelector(`button[value="${card.dataset.answer}"]`).classList.add("right");
}
document.getElementById("all").addEventListener("click", () => cards.filter(card => !card.hidden).forEach(reveal));
for (const card of cards) {
  card.querySelector("details").addEventListener("toggle", () => reveal(card), {once: true});
  for (const option of card.querySelectorAll(".options button")) option.addEventListener("click", () => {
    if (card.querySelector("details").open) return;
    asked += 1;
    right += option.value === card.dataset.answer;
    if (option.value !== card.dataset.answer) option.classList.add("wrong");
    score.textContent = `${right} of ${asked} right`;
    reveal(card);
  });
}
"""


def gallery(source: Path, output: Path, limit: int = 100, quiet: bool = False) -> int:
    """Write the page for at most ``limit`` samples of a sealed folder or shard, spread evenly; returns how many it shows."""
    reader = SampleReader(source)
    rows = np.unique(np.linspace(0, len(reader) - 1, min(limit, len(reader))).round().astype(int)).tolist()
    shown = rows if quiet else tracked(rows, "reading samples", len(rows))
    samples = [reader[row] for row in shown]
    write_bytes(output, render_gallery(samples, f"{source.name}: {len(rows)} of {len(reader)} samples").encode())
    return len(rows)


def render_gallery(samples: Sequence[SpatialSample], title: str) -> str:
    """The page as text."""
    controls = tag(
        "nav",
        *(menu(name, [value(sample) for sample in samples]) for name, value in FILTERS.items()),
        tag("button", "Open all answers", id="all", type="button"),
        shown_count(),
        tag("b", "0 of 0 right", id="score"),
    )
    return page(title, [controls, *(card(sample) for sample in samples)], MENU_STYLE + STYLE, MENU_SCRIPT + SCRIPT)


FILTERS: Mapping[str, Callable[[SpatialSample], str]] = {
    "task": lambda sample: sample.task,
    "type": lambda sample: sample.question_type,
    "answer": lambda sample: sample.answer,
}


def card(sample: SpatialSample, *more: Html, opened: bool = False, **data: str) -> Html:
    """One sample: pictures, question and options, and a part with everything else, closed unless ``opened``; then ``more``.
    ``data``: more attributes of the card."""
    options = [
        tag("button", f"{letter}. {choice}", value=letter, type="button")
        for letter, choice in zip(sample.letters, sample.choices, strict=True)
    ]
    return tag(
        "article",
        tag("p", f"{sample.task}, {sample.split}, {sample.id}", class_="soft"),
        tag(
            "div",
            tag("div", *(shown(image) for image in sample.images), class_="views"),
            tag("div", tag("p", sample.question, class_="question"), tag("div", *options, class_="options")),
            class_="single" if len(sample.images) == 1 else "several",
        ),
        tag("details", tag("summary", "Answer, imagination and facts"), *truth(sample), open=opened),
        *more,
        class_="card",
        data_task=sample.task,
        data_type=sample.question_type,
        data_answer=sample.answer,
        **data,
    )


def truth(sample: SpatialSample) -> list[Html]:
    origin = sample.provenance
    words = {
        **({"answer": f"{sample.answer}. {sample.answer_text}"} if sample.choices else {}),
        "type": sample.question_type,
        "caption": sample.caption,
        "rationale": sample.rationale,
        "scene": f"{origin.scene_id} (seed {origin.seed})",
        "made by": f"{origin.backend} {origin.backend_version} {origin.code_revision}",
    }
    terms = [part for name, value in words.items() for part in (tag("dt", name), tag("dd", value))]
    lines = "\n".join(f"{name}: {json.dumps(value)}" for name, value in sorted(sample.facts.items()))
    facts = tag("details", tag("summary", "facts"), tag("pre", lines))
    parts = [
        tag("div", shown(sample.imagination), tag("div", tag("dl", *terms), draw_plan(sample), facts), class_="truth")
    ]
    if sample.counterfactuals:
        wrong = tag("div", *(shown(image) for image in sample.counterfactuals), class_="views")
        parts.append(tag("details", tag("summary", f"{len(sample.counterfactuals)} counterfactual views"), wrong))
    return parts


def shown(image: SampleImage) -> Html:
    return picture(image.data, image.role)


@dataclass(frozen=True)
class GalleryConfig:
    """Show at most limit samples of data (a sealed folder, or a shard), spread evenly, on one page: gallery.html in output_dir
    (default: beside the samples)."""

    data: str
    output_dir: str = ""
    limit: int = 100


def main(config: GalleryConfig) -> None:
    """Write the page and say where it is."""
    data = Path(config.data)
    output = Path(config.output_dir or (data if data.is_dir() else data.parent)) / "gallery.html"
    print(f"{gallery(data, output, config.limit)} samples: {output}")


if __name__ == "__main__":
    cli.run(GalleryConfig, main)
