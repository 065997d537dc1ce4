"""The page of the demo: checks, accuracies, pictures beside the truth, and curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ipt.common.html import Html, page, picture, plot, table, tag
from ipt.evaluation.metrics import evaluate
from ipt.evaluation.quality.similarity import sheet
from ipt.evaluation.tables import percent, span
from ipt.inference.prediction import Prediction
from ipt.model.config import EXPORT
from ipt.samples.sample import SpatialSample
from ipt.samples.store import SampleReader
from ipt.study.report import MODES, Findings

SHOWN = 24
COLUMNS = 8
STYLE = """
.sample { display: grid; grid-template-columns: repeat(3, 160px) 1fr; gap: .8rem; align-items: start; }
.sample img { width: 160px; image-rendering: pixelated; }
"""


@dataclass(frozen=True)
class Check:
    """Something that should hold, the figure behind it, and whether it does."""

    what: str
    figure: str
    passed: bool


def demo_page(findings: Findings, checks: Sequence[Check]) -> str:
    """The page as HTML text."""
    study = findings.study
    samples = {sample.id: sample for sample in SampleReader(study.dataset("pet", study.split))}
    body = [
        tag(
            "p",
            f"A model of {size(findings) / 1e6:.1f} million parameters, trained for minutes on block rooms, answers about rooms "
            "it has not seen.",
        ),
        tag("h2", "Checks"),
        *(verdict(check) for check in checks),
        tag("h2", "Accuracy on unseen rooms, with 95% intervals over scenes"),
        accuracies(findings),
        tag("h2", "Losses while training"),
        curves(findings),
        tag("h2", "What it imagines"),
        *gallery(findings, samples),
    ]
    return page("The demo: imagine the unseen view, then answer", body, STYLE)


def size(findings: Findings) -> int:
    """How many numbers the imagining model has."""
    from ipt.model.checkpoint import read_config  # torch takes seconds to import
    from ipt.model.weights import headers

    run = findings.of("pet", "imagining")[0]
    folder = findings.folder / f"pet-imagining-{run['seed']}" / EXPORT
    return sum(math.prod(shape) for shape, _ in headers(read_config(folder)[2]).values())


def verdict(check: Check) -> Html:
    mark = tag("b", "pass" if check.passed else "FAIL", class_="good" if check.passed else "bad")
    return tag("p", mark, " ", check.what, ": ", check.figure)


def accuracies(findings: Findings) -> Html:
    """Rows are trainings, columns modes of inference."""
    rows = []
    for name, arm in findings.study.arms.items():
        cells = []
        for mode in MODES:
            if mode not in arm.modes:
                cells.append("")
                continue
            (found,) = evaluate(findings.answers("pet", name, mode, [0])[0].predictions).tasks
            cells.append(f"{percent(found.overall.value)} {span(found.overall.interval)}")
        rows.append([f"{name}: {arm.about}", *cells])
    return table(["training", *(mode.replace("_", " ") for mode in MODES)], rows)


def curves(findings: Findings) -> Html:
    """Cross-entropy and flow loss of all trainings."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained")
    for number, (kind, title) in enumerate((("ce", "text"), ("flow", "picture")), start=1):
        axes = figure.add_subplot(1, 2, number)
        for result in findings.results:
            curve = result["curve"][1:]
            axes.plot([point["step"] for point in curve], [point[kind] for point in curve], label=result["arm"])
        axes.set(title=f"{title} loss", xlabel="step")
        axes.legend()
    return plot(figure, "means of 50 steps")


def drawn(findings: Findings, number: int) -> list[tuple[Prediction, bytes]]:
    """Some questions, evenly spread, with the PNG that was imagined for each."""
    run = findings.answers("pet", "imagining", "imagination", [0])[0]
    found = sorted((each for each in run.predictions if each.images), key=lambda each: each.sample_id)
    chosen = found[:: max(len(found) // number, 1)][:number]
    return [(prediction, (run.folder / prediction.images[0]).read_bytes()) for prediction in chosen]


def atlas(findings: Findings) -> Image.Image:
    """Columns of input, imagined and true picture, one above the other."""
    samples = {sample.id: sample for sample in SampleReader(findings.study.dataset("pet", findings.study.split))}
    columns = []
    for prediction, imagined in drawn(findings, COLUMNS):
        sample = samples[prediction.sample_id]
        columns.append([sample.images[0].data, imagined, sample.imagination.data])
    return sheet(columns)


def gallery(findings: Findings, samples: dict[str, SpatialSample]) -> list[Html]:
    """Input, imagined and true picture of some questions, with the answers."""
    shown: list[Html] = []
    for prediction, imagined in drawn(findings, SHOWN):
        sample = samples[prediction.sample_id]
        parts: list[Any] = [
            picture(sample.images[0].data, "input"),
            picture(imagined, "imagined"),
            picture(sample.imagination.data, "truth"),
            tag("div", tag("p", sample.question), answer_line(prediction)),
        ]
        shown.append(tag("div", tag("div", *parts, class_="sample"), class_="card"))
    return shown


def answer_line(prediction: Prediction) -> Html:
    said = "no answer" if prediction.answer is None else prediction.choices[prediction.answer]
    right = prediction.choices[prediction.expected]
    return tag("p", f"answered {said}, right is {right}", class_="good" if prediction.correct else "bad")
