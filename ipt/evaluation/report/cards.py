"""The gallery of a report: question, inputs, true and imagined pictures, and every run's answer with its probabilities."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ipt.common.errors import UserError
from ipt.common.files import MANIFEST, sha256_file
from ipt.common.html import Html, menu, picture, shown_count, tag
from ipt.common.images import BadImage, encode_image, open_image
from ipt.evaluation.report.choice import Gallery, Shown, flip, without_imagination
from ipt.inference.prediction import Prediction, Run
from ipt.samples.sample import SpatialSample
from ipt.samples.store import SampleReader

STYLE = """
article .views { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(150px, 220px)); margin: .6rem 0; }
article img { width: 100%; border: 1px solid var(--line); }
article .truth img { border: 2px solid var(--accent); }
.question { font-size: 1.08rem; margin: .5rem 0; max-width: 60rem; overflow-wrap: anywhere; }
.answers { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); align-items: start; }
.answers > div { border: 1px solid var(--line); border-radius: 8px; padding: .6rem .8rem; overflow-wrap: anywhere; }
.answers img { max-width: 220px; }
.option { display: grid; grid-template-columns: 1fr 5rem 3rem; gap: .4rem; align-items: center; font-size: .9rem; }
.option meter { width: 100%; } .option .mark { font-weight: 600; }
.verdict { text-transform: uppercase; font-size: .78rem; font-weight: 700; letter-spacing: .04em; }
"""
PICTURE_SIDE, PICTURE_BYTES = 256, 24 * 1024
MAX_TEXT, MAX_IMAGINED = 1500, 4
VERDICTS = {"right": "good", "wrong": "bad", "corrected": "good", "broken": "bad"}


class Pictures:
    """Small copies of pictures of the datasets that the runs answered; ``notes`` say which could not be opened."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.notes: list[str] = []
        self._readers: dict[str, tuple[SampleReader, dict[str, int]]] = {}
        for run in runs:
            if run.manifest.data_sha256 not in self._readers:
                self._open(run)

    def _open(self, run: Run) -> None:
        source = Path(run.manifest.data)
        try:
            reader = SampleReader(source)
            if sha256_file(source / MANIFEST if source.is_dir() else source) != run.manifest.data_sha256:
                raise UserError(f"{source} is not the dataset that was asked, its manifest differs")
            rows = {name: row for row, name in enumerate(reader.ids())}
        except (OSError, UserError) as error:
            self.notes.append(f"No input pictures for {run.folder}: {error}.")
            return
        self._readers[run.manifest.data_sha256] = reader, rows

    def sample(self, shown: Shown) -> SpatialSample | None:
        """The sample with its pictures; ``None`` where its data is not at hand."""
        if shown.data_sha256 not in self._readers:
            return None
        reader, rows = self._readers[shown.data_sha256]
        return reader[rows[shown.sample_id]] if shown.sample_id in rows else None


def gallery_section(gallery: Gallery, runs: Sequence[Run], labels: Sequence[str]) -> list[Html]:
    """Menus, cards, and a sentence on how they were chosen."""
    pictures, plain = Pictures(runs), without_imagination(runs)
    flips = {number: base for number, base in enumerate(plain) if base is not None}
    parts = [sample_card(shown, pictures.sample(shown), runs, labels, flips) for shown in gallery.shown]
    notes = [
        f"{len(gallery.shown)} of {gallery.total:,} samples, drawn with seed {gallery.seed}, one by one from each of the "
        f"{len(gallery.patterns)} combinations of outcomes in turn: shares on this page are no accuracies.",
        *pictures.notes,
    ]
    if not flips:
        notes.append(
            "No flips are marked: they need a run of mode answer_only and one that imagines, of one checkpoint."
        )
    menus = [
        menu("task", [shown.example.task for shown in gallery.shown]),
        menu("kind", [shown.example.sub_category for shown in gallery.shown]),
        *(
            menu(f"run{number}", [shown.outcomes[number] for shown in gallery.shown], label)
            for number, label in enumerate(labels)
        ),
        *(
            menu(f"flip{number}", [flipped(shown, number, base) for shown in gallery.shown], f"{labels[number]} flips")
            for number, base in flips.items()
        ),
    ]
    return [
        tag("h2", "Gallery", id="gallery"),
        *(tag("p", note, class_="soft") for note in notes),
        tag("nav", *menus, shown_count()),
        *parts,
    ]


def flipped(shown: Shown, number: int, base: int) -> str:
    return flip(shown.outcomes[base], shown.outcomes[number])


def sample_card(
    shown: Shown, sample: SpatialSample | None, runs: Sequence[Run], labels: Sequence[str], flips: Mapping[int, int]
) -> Html:
    """One sample with all its answers."""
    example, outcomes = shown.example, shown.outcomes
    changed = {number: flipped(shown, number, base) for number, base in flips.items()}
    images = []
    if sample is not None:
        images = [small_picture(image.data, image.role) for image in sample.images]
        images.append(
            small_picture(sample.imagination.data, f"ground truth: {sample.imagination.role}", class_="truth")
        )
    answers = [
        answer(prediction, labels[number], runs[number].folder, outcomes[number], changed.get(number))
        for number, prediction in enumerate(shown.predictions)
        if prediction is not None
    ]
    values = {f"data_run{number}": value for number, value in enumerate(outcomes)}
    values |= {f"data_flip{number}": value for number, value in changed.items()}
    return tag(
        "article",
        tag("p", cut(f"{example.task}, {example.sub_category}, {example.sample_id}"), class_="soft"),
        tag("p", cut(example.question), class_="question"),
        tag("div", *images, class_="views"),
        tag("div", *answers, class_="answers"),
        class_="card",
        data_task=example.task,
        data_kind=example.sub_category,
        **values,
    )


def answer(prediction: Prediction, label: str, folder: Path, verdict: str, change: str | None) -> Html:
    """What one run answered: imagined pictures, options with probabilities, and the texts in a closed part."""
    words = [verdict, change] if change in ("corrected", "broken") else [verdict]
    marks = [tag("span", f"{word} ", class_=f"verdict {VERDICTS.get(word, 'soft')}") for word in words]
    imagined = [small_picture(folder / name, "imagined") for name in prediction.images[:MAX_IMAGINED]]
    if len(prediction.images) > MAX_IMAGINED:
        imagined.append(tag("p", f"and {len(prediction.images) - MAX_IMAGINED} more", class_="soft"))
    options = [option(prediction, number) for number in range(len(prediction.choices))]
    texts = [*prediction.thoughts, prediction.text] if prediction.error is None else [prediction.error]
    facts = f"{prediction.seconds:.2f} s, {prediction.text_tokens} text and {prediction.image_tokens} image tokens"
    written = tag("details", tag("summary", "text"), tag("pre", cut("\n".join(texts))), tag("p", facts, class_="soft"))
    return tag("div", tag("h3", label), tag("p", *marks), *imagined, *options, written)


def option(prediction: Prediction, number: int) -> Html:
    """One choice: the right one is coloured, the given one is marked, with its probability where there is one."""
    right, given = number == prediction.expected, number == prediction.answer
    name = f"{string.ascii_uppercase[number % 26]}. {prediction.choices[number]}"
    cells = [tag("span", cut(f"{name}{' (answer)' if given else ''}"))]
    if prediction.probabilities:
        share = prediction.probabilities[number]
        cells += [tag("meter", value=f"{share:.4f}", min="0", max="1"), tag("span", f"{share:.0%}")]
    return tag("div", *cells, class_=f"option{' good' if right else ''}{' mark' if given else ''}")


def small_picture(source: bytes | Path, caption: str, **attributes: str) -> Html:
    """A copy of at most 256 pixels a side; where the picture cannot be opened, the reason."""
    try:
        image = open_image(source, caption)
        data = source if isinstance(source, bytes) else source.read_bytes()
    except (BadImage, OSError) as error:
        return tag("p", f"{caption}: no picture ({error})", class_="soft")
    if max(image.size) > PICTURE_SIDE or len(data) > PICTURE_BYTES:
        image.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BICUBIC)
        data = encode_image(np.asarray(image), "jpeg", 85)
    return picture(data, caption, **attributes)


def cut(text: str) -> str:
    """A text of bounded length."""
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} ... ({len(text):,} characters)"
