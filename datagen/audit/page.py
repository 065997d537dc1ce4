"""The audit as a self-contained HTML page with plots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from ipt.common.html import Html, card, join, page, plot, table, tag
from ipt.common.plots import ACCENT, BAD, INK, SOFT, axes, plain

NOTES = (
    "Chance is one over the number of choices of each question, averaged. Baselines fitted on train answer val, fitted on both "
    "test; a single split in five-fold cross-validation with whole scenes held out. Intervals are 95% t intervals over scenes. "
    "With a dozen baselines, one interval in twenty misses chance by luck. An interval below chance is no give-away, but it is "
    "reported as a miss all the same."
)


def render_audit(report: Mapping[str, Any]) -> str:
    """The page of an audit report (the content of ``audit.json``)."""
    verdict = tag(
        "b", "Every bar holds." if report["passed"] else "A bar does not hold.", class_=grade(report["passed"])
    )
    rows = [(bar["task"], bar["bar"], mark(bar["passed"]), bar["figure"]) for bar in report["bars"]]
    body = [
        tag("p", verdict, f" {report['samples']:,} samples from {', '.join(report.get('folders', ()))}."),
        card("Bars", table(["task", "bar", "verdict", "figure"], rows), tag("p", NOTES, class_="soft")),
        *(join(task_sections(task, part)) for task, part in report["tasks"].items()),
        card("Scenes, pictures, answers", *set_section(report)),
    ]
    return page("Audit of generated samples", body)


def task_sections(task: str, part: Mapping[str, Any]) -> list[Html]:
    struck = part["elimination"]
    sentence = (
        f"{len(struck['never_correct'])} options are never correct; "
        f"{struck['questions_with_eliminable_option']:.1%} of questions offer one. "
        f"Guessing among the rest: {struck['guess_rate']:.2%}, chance {struck['chance']:.2%}. "
        f"If answers were drawn at random: {struck['null_mean']:.2%}, 97.5% quantile {struck['null_high']:.2%}."
    )
    facts = [
        plot(count_figure(counts), name.replace("_", " ")) for name, counts in part["facts"].items() if len(counts) > 1
    ]
    return [
        tag("h2", f"{task}: {part['samples']:,} samples of {part['scenes']:,} scenes"),
        card(
            "What blind models reach",
            plot(
                baseline_figure(part),
                "Accuracy with 95% interval; the line is chance. Dark: has to include it; pale: for information",
            ),
        ),
        card(
            "Answer letters",
            plot(letter_figure(part["letters"]["shares"]), "Share of each letter, by number of choices"),
        ),
        card(
            "Options",
            plot(
                option_figure(part["options"]),
                "P(correct | option appears), most frequent options, 95% Wilson interval",
            ),
            tag("p", sentence),
        ),
        card("Balance", tag("div", *facts, class_="row")),
    ]


def set_section(report: Mapping[str, Any]) -> list[Html]:
    shared, close, done = report["scenes_in_two_splits"], report["near_duplicates"], report["recomputed"]
    parts = [
        tag("p", f"Scenes in more than one split: {len(shared)}. {', '.join(list(shared)[:20])}"),
        tag(
            "p",
            f"Near-duplicate pictures of different scenes: {close['pairs']} pairs among {close['pictures']:,} pictures, "
            f"{close['pairs_across_splits']} of them across splits.",
        ),
        table(["picture", "looks like"], close["examples"]),
        tag(
            "p", f"Answers recomputed: {done['checked']:,}, wrong: {done['wrong']}, not possible: {done['unchecked']}."
        ),
        tag("pre", "\n".join(done["examples"])),
    ]
    return parts


def grade(passed: bool | None) -> str:
    return {True: "good", False: "bad", None: "soft"}[passed]


def mark(passed: bool | None) -> Html:
    return tag("b", {True: "pass", False: "FAIL", None: "not tested"}[passed], class_=grade(passed))


def baseline_figure(part: Mapping[str, Any]) -> Figure:
    """Accuracy and interval of every baseline; those with a bar to hold are filled, red where they miss it."""
    rows = list(part["baselines"].items())[::-1]
    figure, drawn = axes(8.5, 0.36 * len(rows) + 0.7)
    drawn.axvline(part["chance"], color=INK, linewidth=1, linestyle="--")
    for height, (_, row) in enumerate(rows):
        colour = SOFT if not row["bar"] else ACCENT if row["holds"] else BAD
        drawn.plot([row["low"], row["high"]], [height, height], color=colour, linewidth=3)
        drawn.plot(row["value"], height, "o", color=colour)
        drawn.annotate(f"{row['value']:.1%}", (row["high"], height), (6, -3), textcoords="offset points", fontsize=8)
    drawn.set_yticks(range(len(rows)), [plain(f"{name.replace('_', ' ')} ({row['shows']})") for name, row in rows])
    drawn.margins(x=0.12)
    return figure


def letter_figure(shares: Mapping[str, Mapping[str, float]]) -> Figure:
    figure, drawn = axes(5, 2.2)
    labels = [(choices, letter) for choices, row in shares.items() for letter in row]
    drawn.bar(range(len(labels)), [shares[choices][letter] for choices, letter in labels], color=ACCENT, width=0.7)
    drawn.hlines(
        [1 / int(choices) for choices, _ in labels],
        [place - 0.45 for place in range(len(labels))],
        [place + 0.45 for place in range(len(labels))],
        color=INK,
        linestyle="--",
        linewidth=1,
    )
    drawn.set_xticks(
        range(len(labels)), [letter if len(shares) == 1 else f"{letter} of {choices}" for choices, letter in labels]
    )
    return figure


def option_figure(options: list[Mapping[str, Any]]) -> Figure:
    shown = options[:60]
    figure, drawn = axes(max(4, 0.2 * len(shown) + 1), 2.8)
    for place, row in enumerate(shown):
        inside = row["low"] <= row["chance"] <= row["high"]
        drawn.plot([place, place], [row["low"], row["high"]], color=SOFT if inside else BAD, linewidth=2)
        drawn.plot(place, row["rate"], "o", markersize=3.5, color=ACCENT if inside else BAD)
        drawn.plot([place - 0.4, place + 0.4], [row["chance"]] * 2, color=INK, linewidth=1)
    drawn.set_xticks(range(len(shown)), [plain(f"{row['option']} ({row['appears']})") for row in shown], rotation=90)
    return figure


def count_figure(counts: Mapping[str, int]) -> Figure:
    shown = list(counts.items())[:25]
    figure, drawn = axes(3.6, 0.17 * len(shown) + 0.5)
    drawn.barh(range(len(shown)), [count for _, count in shown], color=ACCENT, height=0.7)
    drawn.set_yticks(range(len(shown)), [plain(name) for name, _ in shown])
    drawn.invert_yaxis()
    return figure
