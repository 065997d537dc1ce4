"""The card: one page that opens anywhere, pictures first, then figures with what they rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from ipt.common.html import Html, card, page, plot, table, tag
from ipt.common.plots import ACCENT, BAD, INK, SOFT, axes, plain
from ipt.common.statistics import Estimate
from ipt.evaluation.report.cards import cut, small_picture
from ipt.evaluation.tables import percent, span
from ipt.faithfulness.effects import Dose, Effect
from ipt.faithfulness.uncertainty import Uncertainty
from ipt.inference.prediction import Prediction
from ipt.samples.sample import SpatialSample

if TYPE_CHECKING:
    from ipt.faithfulness.dependence import Pairs
    from ipt.faithfulness.probes import Probes
    from ipt.faithfulness.report import Findings

STYLE = """
.note { max-width: 62rem; } li { max-width: 62rem; margin: .25rem 0; }
.views { display: grid; gap: .7rem; grid-template-columns: repeat(auto-fill, minmax(118px, 1fr)); margin: .6rem 0; }
.views > div { border: 1px solid var(--line); border-radius: 8px; padding: .4rem; overflow-wrap: anywhere; font-size: .78rem; }
.views img { width: 100%; image-rendering: pixelated; } .views meter { width: 100%; }
.views .flipped { border-color: var(--bad); }
"""
NOTE = (
    "Brackets are 95 % intervals from resampling whole scenes. An arm is compared with identity, in which the model's own "
    "mediator is put back; arms of the truth (gt., render:) with gt. Gained and lost: questions that only the arm, or only the "
    "reference, answers rightly; p: exact McNemar test, adjusted within its family (Holm). Moved: questions whose probabilities "
    "change at all. No effect: two one-sided tests say that accuracies differ by less than the margin; undecided: neither that "
    "nor a difference could be shown."
)
MEDIATION_NOTE = (
    "Inputs and mediator are both set, so nothing is assumed: TE changes both, NDE the inputs alone (mediator of absent inputs), "
    "TNIE the mediator alone (inputs present), PNIE the mediator alone (inputs absent). TE = NDE + TNIE; INT = TNIE - PNIE; "
    "PM = TNIE / TE, only where TE differs from zero. Sufficiency: accuracy from the mediator with absent inputs."
)
STEERING_NOTE = (
    "Of the questions answered rightly before: how much more often the answer becomes the one that the changed mediator asks for "
    "than it does with a mediator without content. Above zero, the mediator is read; at zero, it at most disturbs."
)
DERIVED_NOTE = (
    "Questions about something else in the view that was imagined (where the object is, for how far it is), answered from the "
    "mediator of the first question alone. From the truth they can be answered if the model reads its mediator at all."
)
PAIRS_NOTE = (
    "The same question of a scene in which one thing is missing. Moves: distance of the two imaginations over that between "
    "questions. Inside over outside: how much more the imagination's colours change where those of the true view do."
)
MAY_NOT = (
    "Not concluded: that a mediator which is read is right, that one which is not read was useless in training, or anything "
    "about questions unlike these. Effects hold for this checkpoint, these questions, and interventions at the mediator alone."
)


@dataclass(frozen=True)
class Shown:
    """A question of the gallery: what each arm answered, with the run folder that its pictures lie in."""

    sample: SpatialSample
    answers: tuple[tuple[str, Path, Prediction], ...]


def render(findings: Sequence[Findings], shown: Sequence[Sequence[Shown]], about: Mapping[str, Any]) -> str:
    """The page as text."""
    body: list[Html] = []
    if len(findings) > 1:
        body.append(card("Checkpoints", summary(findings)))
    for each, pictures in zip(findings, shown, strict=True):
        body += section(each, pictures)
    facts = ", ".join(f"{name} {value}" for name, value in about.items())
    body.append(card("How", tag("p", NOTE, class_="note soft"), tag("p", facts, class_="soft")))
    return page("Does the imagination carry the answer?", body, STYLE)


def section(found: Findings, pictures: Sequence[Shown]) -> list[Html]:
    """All of one checkpoint."""
    head = f"{found.checkpoint}: {found.questions:,} questions in {found.scenes:,} scenes, mediator: {found.kind}"
    said = [tag("ul", *(tag("li", words) for words in found.conclusions)), tag("p", MAY_NOT, class_="soft note")]
    warned = [tag("ul", *(tag("li", words, class_="bad") for words in found.guards))] if found.guards else []
    parts = [tag("h2", found.label), tag("p", head, class_="soft"), card("What may be concluded", *said)]
    if warned:
        parts.append(card("Guards", *warned))
    if pictures:
        parts.append(card("What each intervention did", *(question(each) for each in pictures)))
    if found.telescope:
        bars = [plot(telescope_figure(found.telescope), "accuracy, in points"), estimates(found.telescope)]
        parts.append(card("Where the accuracy comes from", tag("div", *bars, class_="row")))
    parts.append(card("Effects", effect_table(found.effects), accuracies(found.accuracy)))
    if found.doses:
        plots = (plot(dose_figure(each), dose_caption(each)) for each in found.doses)
        parts.append(card("Dose and response", tag("div", *plots, class_="row")))
    for title, values, note in (
        ("Mediation", found.mediation, MEDIATION_NOTE),
        ("Directed steering", found.steering, STEERING_NOTE),
        ("Derived questions, inputs hidden", found.derived, DERIVED_NOTE),
        ("Trust", found.trust, ""),
    ):
        if values:
            parts.append(card(title, estimates(values), tag("p", note, class_="soft note")))
    if found.dependence is not None:
        parts.append(card("Dependence and collapse", dependence_table(found)))
    if found.pairs is not None:
        parts.append(card("Minimal pairs of inputs", *pair_parts(found.pairs)))
    if found.probes is not None:
        parts.append(card("Probes of hidden states", *probe_parts(found.probes)))
    if found.uncertainty is not None:
        parts.append(card("Uncertainty", *uncertainty_parts(found.uncertainty)))
    return parts


def summary(findings: Sequence[Findings]) -> Html:
    rows = []
    for each in findings:
        by_arm = {effect.arm: effect for effect in each.effects}
        destroyed = next((e for e in each.effects if e.family == "destroy"), None)
        steered = max(each.steering.values(), key=lambda estimate: estimate.value, default=None)
        cells = [None if e is None else e.accuracy for e in (destroyed, by_arm.get("gt"))]
        own = each.accuracy.get("self")
        rows.append([each.label, each.kind, *(points(e, False) for e in (own,)), *(points(e) for e in (*cells, steered)),
                     (each.conclusions or ["-"])[0]])  # fmt: skip
    return table(
        ["checkpoint", "mediator", "accuracy", "without content", "from the truth", "steered", "reading"], rows
    )


def question(shown: Shown) -> Html:
    """The inputs, then what every arm put before the answer and what came of it."""
    sample = shown.sample
    inputs = [tag("div", small_picture(image.data, image.role)) for image in sample.images]
    before = next((p for name, _, p in shown.answers if name == "identity"), None)
    tiles = [arm_tile(name, folder, prediction, before) for name, folder, prediction in shown.answers]
    options = " / ".join(sample.choices)
    return tag(
        "div",
        tag("p", cut(f"{sample.question} ({options}; right: {sample.answer_text})")),
        tag("div", *inputs, *tiles, class_="views"),
    )


def arm_tile(name: str, folder: Path, prediction: Prediction, before: Prediction | None) -> Html:
    """The mediator, the probability of the right option, and the answer; framed where it is another one than before."""
    pictures = [small_picture(folder / image, name) for image in prediction.images[:1]]
    words = (
        [tag("span", cut(prediction.thoughts[0])[:160], class_="soft")] if prediction.thoughts and not pictures else []
    )
    said = "no option" if prediction.answer is None else prediction.choices[prediction.answer]
    flipped = before is not None and prediction.answer != before.answer
    answer = tag("div", said, class_="good" if prediction.correct else "bad")
    if not pictures:
        words.insert(0, tag("div", name))
    share = [
        tag("meter", value=f"{prediction.probabilities[prediction.expected]:.4f}", min="0", max="1",
            title="probability of the right option")
    ] if prediction.probabilities else []  # fmt: skip
    return tag("div", *pictures, *words, answer, *share, class_="flipped" if flipped else "")


def points(estimate: Estimate | None, signed: bool = True) -> str:
    """A difference in points, or a share in percent, with its interval."""
    if estimate is None:
        return "-"
    low, high = estimate.low, estimate.high
    interval = (low, high) if np.isfinite(low) and np.isfinite(high) else None
    return f"{100 * estimate.value:{'+' if signed else ''}.1f} {span(interval, signed)}"


def estimates(values: Mapping[str, Estimate]) -> Html:
    rows = [[name, points(each), f"{each.count:,}", f"{each.clusters:,}"] for name, each in values.items()]
    return table(["", "points", "questions", "scenes"], rows)


def accuracies(values: Mapping[str, Estimate]) -> Html:
    rows = [[name, points(each, False), f"{each.count:,}"] for name, each in values.items()]
    return tag("details", tag("summary", "accuracy of every run"), table(["run", "%", "questions"], rows))


VERDICTS = {"lower": "bad", "higher": "good", "no effect": "", "undecided": "soft", "bit for bit the same": "soft"}


def effect_table(effects: Sequence[Effect]) -> Html:
    rows = []
    for each in effects:
        p_value = "<.001" if each.adjusted < 0.001 else f"{each.adjusted:.3f}"
        rows.append([
            each.arm, each.family, each.reference, percent(each.value), points(each.accuracy), points(each.probability),
            f"{each.gained} / {each.lost}", p_value, f"{each.moved:.0%}", each.invalid, each.accuracy.count,
            tag("span", each.verdict, class_=VERDICTS[each.verdict]),
        ])  # fmt: skip
    header = ["arm", "family", "against", "%", "accuracy, points", "probability, points", "gained / lost", "p adjusted",
              "moved", "invalid", "n", "accuracy is"]  # fmt: skip
    return table(header, rows)


def telescope_figure(terms: Mapping[str, Estimate]) -> Figure:
    """Every term from where the last one ended."""
    figure, drawn = axes(5.2, 0.45 * len(terms) + 0.8)
    start, rows = 0.0, list(terms.items())
    for place, (name, each) in enumerate(rows):
        left = 0.0 if name == "total" else start - 100 * each.value if name == "headroom" else start
        colour = INK if name == "total" else SOFT if name == "headroom" else ACCENT if each.value >= 0 else BAD
        drawn.barh(place, 100 * each.value, left=left, color=colour, height=0.6)
        if np.isfinite(each.low) and np.isfinite(each.high):
            ends = [100 * (each.value - each.low), 100 * (each.high - each.value)]
            drawn.errorbar(
                left + 100 * each.value, place, xerr=np.array([ends]).T.clip(0), color=INK, linewidth=1, capsize=2
            )
        start = left + 100 * each.value
    drawn.axvline(0, color=INK, linewidth=0.5)
    drawn.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    drawn.invert_yaxis()
    drawn.set_xlabel("points of accuracy", fontsize=8)
    return figure


def dose_figure(dose: Dose) -> Figure:
    figure, drawn = axes(3.4, 2.4)
    steps = [step for step, _, _ in dose.points]
    series = (
        ("accuracy", ACCENT, [each for _, each, _ in dose.points]),
        ("probability", SOFT, [e for _, _, e in dose.points]),
    )
    for name, colour, points_ in series:
        drawn.plot(steps, [e.value for e in points_], "o-", color=colour, markersize=3, linewidth=1, label=name)
        if all(np.isfinite(e.low) and np.isfinite(e.high) for e in points_):
            drawn.fill_between(
                steps, [e.low for e in points_], [e.high for e in points_], color=colour, alpha=0.2, linewidth=0
            )
    if dose.d50 is not None:
        drawn.axvline(dose.d50.value, color=BAD, linewidth=0.8, linestyle="--")
    drawn.set_xlabel(plain(dose.name), fontsize=8)
    drawn.legend(fontsize=6, frameon=False)
    return figure


def dose_caption(dose: Dose) -> str:
    if dose.d50 is None:
        half = f"half of the content effect is not lost ({dose.reached:.0%} of replicates)"
    else:
        half = f"d50 {dose.d50.value:.3g} [{dose.d50.low:.3g}, {dose.d50.high:.3g}]"
    return f"{dose.name}: {half}; Spearman {dose.rank:+.2f}, slope {dose.slope:+.3g} per unit"


def dependence_table(found: Findings) -> Html:
    d = found.dependence
    assert d is not None
    rows: list[list[object]] = [
        [
            "cosine of different questions",
            *(" / ".join(f"{v:.3f}" for v in each) for each in (d.cosine, d.true_cosine)),
        ],
        ["similarity of different questions, centred", f"{d.similarity:+.3f}", f"{d.true_similarity:+.3f}"],
        ["effective rank", f"{d.rank:.1f}", f"{d.true_rank:.1f}"],
        ["own truth is the most similar of all", f"{d.retrieval:.1%}", f"chance {1 / d.count:.1%}"],
        ["another question's imagination is nearer than the own truth", f"{d.unspecific:.1%}", ""],
        ["diversity, over that of truths (0: collapse)", f"{d.diversity:.2f}", "1"],
        ["questions with an imagination that another one has, too", d.identical, ""],
    ]
    if d.within is not None:
        rows.insert(1, ["cosine of the slots of one question", f"{d.within:.3f}", ""])
    if d.seed_diversity is not None:
        rows.append(["distance between seeds, over that between questions", f"{d.seed_diversity:.2f}", ""])
    if found.moved_by_inputs is not None:
        rows.append(
            ["distance that it moves without inputs, over that between questions", f"{found.moved_by_inputs:.2f}", ""]
        )
    return table([f"{d.count} questions", "imagined", "truth"], rows)


def pair_parts(pairs: Pairs) -> list[Html]:
    def cell(value: Estimate | None) -> str:
        return "-" if value is None else f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"

    shown = {"remove": "what is asked about", "other": "something else"}
    rows = [
        [shown[role], cell(moved), cell(pairs.inside.get(role)), points(pairs.answers[role], False), moved.count]
        for role, moved in pairs.moves.items()
    ]
    header = [
        "taken out of the inputs",
        "imagination moves",
        "changes inside over outside",
        "answers that change %",
        "n",
    ]
    return [
        table(header, rows),
        tag("p", f"Selectivity (asked about over something else): {cell(pairs.selectivity)}."),
        tag("p", PAIRS_NOTE, class_="soft note"),
    ]


def probe_parts(probes: Probes) -> list[Html]:
    note = (
        "Ridge classifiers on mean states of a role, in five folds that share no scene: what the imagination adds to the "
        "inputs, and what the state before the answer holds that the imagination does not."
    )
    return [table(*probes.table()), tag("p", note, class_="soft note")]


def uncertainty_parts(found: Uncertainty) -> list[Html]:
    columns = range(1, found.imaginations + 1)
    rows = [[name, *(percent(v) for v in values)] for name, values in found.accuracy.items() if name != "at once"]
    calibrated = [[name, percent(c["accuracy"]), *(f"{c[key]:.3f}" for key in ("ECE", "Brier", "NLL"))]
                  for name, c in found.calibration.items()]  # fmt: skip
    scores = [[name, f"{area:.3f}", f"{rank:+.2f}"] for name, (area, rank) in found.scores.items()]
    split = (
        f"Entropy of the mean answer {found.total:.3f} nats = {found.reader:.3f} of the reader given an imagination + "
        f"{found.disagreement:.3f} that imaginations disagree about."
    )
    return [
        table(["accuracy % at K =", *columns], rows),
        table(["probabilities", "%", "ECE", "Brier", "NLL"], calibrated),
        tag("p", split),
        table(["confidence", "area under risk and coverage", "rank correlation with errors"], scores),
        tag("div", plot(curve_figure(found.curves, "coverage"), "answering only the surest questions"),
            plot(curve_figure({"least sure first": found.gate, "at random": found.random}, "share of questions imagined"),
                 "imagining only where the answer at once is unsure"), class_="row"),
    ]  # fmt: skip


def curve_figure(curves: Mapping[str, Sequence[tuple[float, float]]], across: str) -> Figure:
    figure, drawn = axes(3.6, 2.4)
    for number, (name, curve) in enumerate(curves.items()):
        drawn.plot(*zip(*curve, strict=True), color=f"C{number}", linewidth=1, label=plain(name))
    drawn.set_xlabel(across, fontsize=8)
    drawn.set_ylabel("accuracy", fontsize=8)
    drawn.legend(fontsize=6, frameon=False)
    return figure
