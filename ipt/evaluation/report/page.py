"""A report as one page that needs nothing else: tables, plots, and the gallery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ipt.common.html import MENU_SCRIPT, MENU_STYLE, Html, card, page, plot, table, tag
from ipt.common.plots import ACCENT, INK, SOFT, axes, plain
from ipt.evaluation.comparison import Comparison
from ipt.evaluation.metrics import Score, TaskScores
from ipt.evaluation.quality.judge import Figure as Mean
from ipt.evaluation.quality.judge import Quality, QualityRow
from ipt.evaluation.report import cards
from ipt.evaluation.report.choice import Gallery
from ipt.evaluation.report.figures import Curve, Figures, RunFigures
from ipt.evaluation.tables import percent, span
from ipt.inference.selective import Point, best

STYLE = """
td .soft, th .soft { display: block; font-size: .8rem; font-weight: 400; white-space: nowrap; }
.figures td:first-child .soft { white-space: normal; min-width: min(15rem, 30vw); }
.note { max-width: 62rem; }
"""
ACCURACY_NOTE = (
    "Each mode is a column of its own, and no figure is a maximum over modes. Brackets are 95% intervals from resampling whole "
    "scenes; Wilson's interval, which takes questions as independent, stands below. An output that names no option (invalid) "
    "and a question whose answering failed (error) count as wrong. Chance is one over the number of options, averaged."
)
DIFFERENCE_NOTE = (
    "Paired question by question, with intervals from resampling scenes. McNemar's exact test takes questions as "
    "independent; the last column is adjusted for all comparisons on this page (Holm)."
)
SELECTIVE_NOTE = (
    "Accuracy where an imagination is drawn for the least sure answers alone, against the share of questions for which it is. "
    "The dot is the best threshold on these very questions, which flatters it: fit it on a validation set with "
    "mode=selective mode.fit=[RUN,RUN]."
)
QUALITY_NOTE = (
    "Permuted: what the run imagined for a question about another scene, against this truth. Mean: the mean true picture of "
    "all other scenes. Gains are paired, positive where the imagination is better, with 95% intervals over scenes. What "
    "pictures show is read by a small probe that never saw the scene; beside it, what the same probe reads from the true "
    "pictures of the same questions (its held-out accuracy) and the best constant guess. A figure that the probe cannot read "
    "from the truth, better than that guess and than from the mean picture, is withheld. Heading and position errors (with "
    "quality.shifted) are those of the camera whose true view the imagination is nearest to."
)


def render(figures: Figures, gallery: Gallery) -> str:
    """The page as text."""
    runs, labels = figures.runs, [each.label for each in figures.runs]
    body = [
        card("Runs", run_table(runs)),
        card("Accuracy", accuracy_table(runs), *accuracy_plots(runs), note(ACCURACY_NOTE)),
    ]
    if figures.notes:
        body.insert(0, card("Left out", *(tag("p", words, class_="bad") for words in figures.notes)))
    if figures.comparisons:
        body.append(card("Paired differences", difference_table(figures.comparisons), note(DIFFERENCE_NOTE)))
    if figures.selective:
        plots = [plot(selective_figure(points), name) for name, points in figures.selective.items()]
        body.append(card("Imagining only where unsure", tag("div", *plots, class_="row"), note(SELECTIVE_NOTE)))
    judged = [(each.label, quality) for each in runs for quality in each.quality]
    if judged:
        tables = [part for label, quality in judged for part in quality_section(label, quality)]
        body.append(card("Imagination quality", *tables, note(QUALITY_NOTE)))
    curves = curve_plots(runs)
    if curves:
        body.append(card("Training", tag("div", *curves, class_="row")))
    body += cards.gallery_section(gallery, [each.run for each in runs], labels)
    return page("Report", body, STYLE + MENU_STYLE + cards.STYLE, MENU_SCRIPT)


def note(words: str) -> Html:
    return tag("p", words, class_="soft note")


def run_table(runs: Sequence[RunFigures]) -> Html:
    rows = []
    for each in runs:
        about, done = each.run.manifest, each.run.done
        state = f"{done['seconds']:.0f} s" if done is not None else "UNFINISHED"
        left_out = f", {each.scores.unread} unreadable" if each.scores.unread else ""
        rows.append(
            (
                each.label,
                about.mode,
                about.checkpoint,
                about.checkpoint_sha256[:12],
                about.data,
                f"{len(each.run.predictions):,}{left_out}",
                about.seed,
                state,
                about.code_revision,
            )
        )
    header = ["run", "mode", "checkpoint", "weights", "data", "questions", "seed", "time", "code"]
    return table(header, rows)


def columns(runs: Sequence[RunFigures]) -> list[tuple[str, dict[str, TaskScores]]]:
    """Heading and scores by task of each column: one per run and mode."""
    found = []
    for each in runs:
        modes = list(dict.fromkeys(task.mode for task in each.scores.tasks))
        for mode in modes:
            heading = each.label if len(modes) == 1 else f"{each.label}: {mode}"
            found.append((heading, {task.task: task for task in each.scores.tasks if task.mode == mode}))
    return found


def accuracy_table(runs: Sequence[RunFigures]) -> Html:
    """A row per task and sub-category, a column per run and mode."""
    found, guesses = columns(runs), chances(runs)
    tasks = sorted({task for _, scores in found for task in scores})
    rows: list[list[object]] = []
    for task in tasks:
        of_task = [scores.get(task) for _, scores in found]
        metric = next(scores.metric for scores in of_task if scores is not None)
        cells = [Html("") if scores is None else score_cell(scores.overall) for scores in of_task]
        rows.append([tag("b", f"{task}: {metric}"), percent(guesses[task]), *cells])
        parts = sorted({part for scores in of_task if scores is not None for part in scores.parts})
        for part in parts if len(parts) > 1 else []:
            scored = [None if scores is None else scores.parts.get(part) for scores in of_task]
            rows.append([part, "", *(Html("") if score is None else score_cell(score) for score in scored)])
    return table(["%", "chance", *(heading for heading, _ in found)], rows)


def chances(runs: Sequence[RunFigures]) -> dict[str, float]:
    """The mean of 1 / number of options, by task."""
    shares: dict[str, list[float]] = {}
    for each in runs:
        for prediction in each.run.predictions:
            if prediction.choices:
                shares.setdefault(prediction.task, []).append(1 / len(prediction.choices))
    return {task: float(np.mean(values)) for task, values in shares.items()}


def score_cell(score: Score) -> Html:
    """An accuracy with its intervals, what it rests on, and what went wrong."""
    about = f"n {score.count:,}, {score.scenes:,} scenes"
    failed = [f"{number} {name}" for number, name in ((score.invalid, "invalid"), (score.errors, "errors")) if number]
    return tag(
        "span",
        f"{percent(score.value)} {span(score.interval)}",
        tag("span", f"Wilson {span(score.wilson)}", class_="soft"),
        tag("span", ", ".join([about, *failed]), class_="soft"),
    )


def accuracy_plots(runs: Sequence[RunFigures]) -> list[Html]:
    """Per task: every column's accuracy with its interval, and chance."""
    found, guesses, plots = columns(runs), chances(runs), []
    for task in sorted(guesses):
        rows = [(heading, scores[task].overall) for heading, scores in found if task in scores][::-1]
        figure, drawn = axes(7.5, 0.36 * len(rows) + 0.7)
        drawn.axvline(guesses[task], color=INK, linewidth=1, linestyle="--")
        for height, (_, score) in enumerate(rows):
            low, high = score.interval or score.wilson
            drawn.plot([low, high], [height, height], color=SOFT, linewidth=4)
            drawn.plot(score.value, height, "o", color=ACCENT)
            drawn.annotate(percent(score.value), (high, height), (6, -3), textcoords="offset points", fontsize=8)
        drawn.set_yticks(range(len(rows)), [plain(heading) for heading, _ in rows])
        drawn.set_ylim(-0.6, len(rows) - 0.4)
        drawn.margins(x=0.12)
        plots.append(plot(figure, f"{task}: accuracy with its interval over scenes; the line is chance"))
    return plots


def difference_table(comparisons: Sequence[Comparison]) -> Html:
    header = ["task", "run", "minus", "points", "95% by scene", "n", "scenes", "gained", "lost", "McNemar p", "Holm p"]
    rows = [
        (
            row.task,
            row.other,
            row.reference,
            f"{100 * row.difference:+.1f}",
            span(row.interval, signed=True),
            row.count,
            row.scenes,
            len(row.gained),
            len(row.lost),
            f"{row.p_value:.2g}",
            f"{row.adjusted:.2g}",
        )
        for row in comparisons
    ]
    return table(header, rows)


def quality_section(label: str, quality: Quality) -> list[Html]:
    """The rows of one run and task."""
    width, height = quality.size
    sentence = (
        f"{quality.judged:,} of {quality.imagined:,} imaginations, {width} x {height} pixels, judged at that size."
    )
    header = [
        "",
        "imagined",
        "permuted",
        "mean",
        "gain over permuted",
        "gain over mean",
        "probe on truth",
        "guess",
        "n",
    ]
    rows = [quality_cells(row) for row in quality.rows]
    return [
        tag("h3", f"{label}: {quality.task}"),
        note(sentence),
        tag("div", table(header, rows), class_="figures"),
        *map(note, quality.notes),
    ]


def quality_cells(row: QualityRow) -> list[object]:
    shown = amounts if row.truth is None else shares
    about = stacked(row.metric, row.meaning)
    truth = "" if row.truth is None else shown(row.truth)
    guess = "" if row.chance is None else percent(row.chance)
    counts = stacked(f"{row.count:,}", f"{row.scenes:,} scenes")
    if not row.valid:
        return [
            about,
            tag("span", "withheld: the probe cannot read it", class_="bad"),
            "",
            "",
            "",
            "",
            truth,
            guess,
            counts,
        ]
    figures = [shown(row.figures[name]) for name in ("imagined", "permuted", "mean")]
    gains = [shown(row.gains[name], True) for name in ("permuted", "mean")]
    return [about, *figures, *gains, truth, guess, counts]


def shares(mean: Mean, signed: bool = False) -> Html:
    """A share as percentage, with its interval."""
    return stacked(f"{100 * mean.value:{'+' if signed else ''}.1f}", span(mean.interval, signed))


def amounts(mean: Mean, signed: bool = False) -> Html:
    """A number with its interval."""
    sign = "+" if signed else ""
    bounds = "-" if mean.interval is None else "[" + ", ".join(f"{bound:{sign}.3g}" for bound in mean.interval) + "]"
    return stacked(f"{mean.value:{sign}.3g}", bounds)


def stacked(value: str, below: str) -> Html:
    return tag("span", value, tag("span", below, class_="soft"))


def selective_figure(points: Sequence[Point]) -> Figure:
    figure, drawn = axes(4.6, 2.6)
    drawn.step([100 * p.imagined for p in points], [100 * p.accuracy for p in points], where="post", color=ACCENT)
    chosen = best(points)
    drawn.plot(100 * chosen.imagined, 100 * chosen.accuracy, "o", color=ACCENT)
    drawn.set_xlabel("questions imagined, %", fontsize=8)
    drawn.set_ylabel("accuracy, %", fontsize=8)
    return figure


def curve_plots(runs: Sequence[RunFigures]) -> list[Html]:
    """A plot per curve, with the trainings of all checkpoints; runs of one checkpoint share a line."""
    by_name: dict[str, dict[str, Mapping[str, Curve]]] = {}
    for each in runs:
        for name, kinds in each.curves.items():
            by_name.setdefault(name, {}).setdefault(each.run.manifest.checkpoint, kinds)
    return [plot(curve_figure(lines), name.replace("_", " ")) for name, lines in sorted(by_name.items())]


def curve_figure(lines: Mapping[str, Mapping[str, Curve]]) -> Figure:
    figure, drawn = axes(4.6, 2.6)
    for number, (checkpoint, kinds) in enumerate(lines.items()):
        for kind, points in kinds.items():
            steps, values = zip(*points, strict=True) if points else ((), ())
            style = {"training": "-", "validation": "o--"}[kind]
            name = f"{checkpoint}, {kind}" if len(lines) > 1 else kind
            drawn.plot(steps, values, style, color=f"C{number}", linewidth=1, markersize=3, label=plain(name))
    drawn.set_xlabel("step", fontsize=8)
    drawn.legend(fontsize=6, frameon=False)
    return figure
