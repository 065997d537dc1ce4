"""What a model answers, as a table of bars; and pictures in a row."""

from __future__ import annotations

from collections.abc import Sequence

from ipt.app.game import Play
from ipt.app.player import EDITED, WAYS
from ipt.common.html import Html, data_uri, tag
from ipt.inference.prediction import Prediction

WIDTH = 7.0  # of a bar of 100 %, in rem


def answer_table(play: Play) -> str:
    """A row per way of answering, a column per option: its probability; the right option is green, the chosen one bold."""
    if not play.answers:
        return ""
    sample, rows = play.sample, list[Html]()
    known = play.room != "own"
    for way, prediction in play.answers.items():
        name = EDITED if way == EDITED else WAYS[way]
        cells = [
            cell(prediction, option, known and option == sample.answer_index) for option in range(len(sample.choices))
        ]
        rows.append(tag("tr", tag("td", name), *cells))
    head = [tag("th", choice, "  ✓" if known and choice == sample.answer_text else "") for choice in sample.choices]
    header = tag("tr", tag("th", "answers"), *head)
    return tag("table", tag("thead", header), tag("tbody", *rows))


def cell(prediction: Prediction, option: int, right: bool) -> Html:
    """The probability of an option."""
    share = prediction.probabilities[option] if prediction.probabilities else float(prediction.answer == option)
    bar = tag("span", class_="bar", style=f"width: {WIDTH * share:.2f}rem")
    classes = " ".join(name for name, holds in (("right", right), ("chosen", prediction.answer == option)) if holds)
    return tag("td", bar, f"{share:.0%}", class_=classes)


def picture_row(pictures: Sequence[bytes]) -> str:
    """Encoded pictures side by side, numbered."""
    images = [
        tag("img", src=data_uri(data, f"view {number}"), alt=f"view {number}")
        for number, data in enumerate(pictures, start=1)
    ]
    return tag("div", *images, class_="views")
