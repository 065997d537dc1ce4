"""Stepwise reasoning and captions of imagined views, written from scene facts alone.

Every number in words comes from the coordinates on the ground that stand beside it. Each task has several skeletons, which
selectors deal out evenly. A caption lays out a view, left, centre and right, from near to far, or a map by its parts; it
does not single out what is asked for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from datagen.language import counted, listing, numeral, plural, spelled, with_article

Facts = Mapping[str, Any]
SKELETONS = 3

COLUMNS = ("On the left", "In the middle", "On the right")
#: Parts of a map by thirds, from the top.
PARTS = (
    ("the upper left", "the top", "the upper right"),
    ("the left", "the middle", "the right"),
    ("the lower left", "the bottom", "the lower right"),
)


def bearing(place: Sequence[float]) -> str:
    """``2.1 m ahead and 0.8 m to the left`` for [metres ahead, metres to the left]."""
    ahead, left = place
    parts = []
    if abs(ahead) >= 0.05:
        parts.append(f"{abs(ahead):.1f} m {'ahead' if ahead > 0 else 'behind'}")
    if abs(left) >= 0.05:
        parts.append(f"{abs(left):.1f} m to the {'left' if left > 0 else 'right'}")
    return " and ".join(parts) or "right here"


def steps(sentences: Sequence[str]) -> str:
    """Numbered steps, one per line."""
    return "\n".join(f"{number}. {sentence}" for number, sentence in enumerate(sentences, start=1))


def prose(sentences: Sequence[str]) -> str:
    """One paragraph."""
    return " ".join(sentences)


def capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def pet_rationale(facts: Facts, skeleton: int = 0) -> str:
    """Locate X and object, move, turn, conclude."""
    noun, turn = spelled(facts["object"]["name"]), facts["turn"]
    start, mark, turned = facts["object_from_start"], facts["target_from_start"], facts["object_from_target"]
    moved = [start[0] - mark[0], start[1] - mark[1]]
    before, after = math.hypot(*start), math.hypot(*turned)
    other = "right" if turn == "left" else "left"
    if facts["kind"] == "distance":
        end = (
            f"Its distance on the ground changes from {before:.1f} m to {after:.1f} m, so it gets {facts['answer']}.",
            f"{before:.1f} m before, {after:.1f} m after: it is {facts['answer']}.",
            f"That is {after:.1f} m instead of {before:.1f} m, so the {noun} gets {facts['answer']}.",
        )[skeleton]
    else:
        end = (
            f"So the {noun} is on the {facts['answer']}.",
            f"It ends up on the {facts['answer']}.",
            f"The {noun} is seen on the {facts['answer']}.",
        )[skeleton]
    if skeleton == 0:
        return steps(
            [
                f"In this view the {noun} is {bearing(start)}, {before:.1f} m away.",
                f"The X is {bearing(mark)}.",
                f"From the X, still facing the same way, the {noun} is {bearing(moved)}.",
                f"After turning {turn} by 90 degrees, what was {turn} is ahead: the {noun} is {bearing(turned)}.",
                end,
            ]
        )
    if skeleton == 1:
        return prose(
            [
                f"The X is {bearing(mark)} and the {noun} {bearing(start)}.",
                f"Standing on the X without turning, one has the {noun} {bearing(moved)}.",
                f"A quarter turn to the {turn} brings what was on the {turn} to the front and what was ahead to the "
                f"{other}, which leaves the {noun} {bearing(turned)}.",
                end,
            ]
        )
    return steps(
        [
            f"Go to the X: {bearing(mark)}.",
            f"The {noun}, {bearing(start)} at first, is {bearing(moved)} from there.",
            f"Turn {turn}: now it is {bearing(turned)}.",
            end,
        ]
    )


def pt_rationale(facts: Facts, skeleton: int = 0) -> str:
    """Direction of travel, heading at M1, meaning of the side, what stands there, elimination."""
    side, other = facts["side"], "right" if facts["side"] == "left" else "left"
    thing, bearing_deg = with_article(facts["object"]["name"]), abs(facts["object"]["bearing_deg"])
    opposite = [with_article(name) for name in facts["distractors"] if name in facts["opposite"]]
    elsewhere = [with_article(name) for name in facts["distractors"] if name not in facts["opposite"]]
    heading, aside = (f"the {facts[name]} of the map" for name in ("heading_on_map", "side_on_map"))
    place = f"{facts['object']['distance_m']:.1f} m from M1 and about {bearing_deg:.0f} degrees off the heading"
    way = f"from {facts['start']} to {facts['end']}"
    if facts["variant"].endswith("midpoint"):
        first = (
            "The orange arrow at M1 shows the heading.",
            "M1 is where the orange arrow begins.",
            "Follow the arrow.",
        )
    else:
        length = f"{facts['path_length_m']:.1f} m"
        first = (
            f"The walk goes {way} and is {length} long; M1 is halfway.",
            f"Walking {way}, one passes M1 after half of the {length}.",
            f"Go {way}; M1 is in the middle.",
        )
    across = listing(opposite)
    if skeleton == 0:
        lines = [
            first[0],
            f"At M1 one heads towards {heading}.",
            f"For someone who heads there, the {side}-hand side is towards {aside}.",
            f"On that side there is {thing}, {place}.",
            *([f"{capital(across)} would be seen on the {other}."] if opposite else []),
            *([f"Looking {side} from M1 does not show {listing(elsewhere)}."] if elsewhere else []),
            f"So the object on the {side} is {thing}.",
        ]
        return steps(lines)
    if skeleton == 1:
        lines = [
            first[1],
            f"The heading there is towards {heading}, so {side} means towards {aside}.",
            *([f"That rules out {across}: to be seen on the {other}."] if opposite else []),
            *([f"{capital(listing(elsewhere))} cannot be seen from there on the {side}."] if elsewhere else []),
            f"What remains, {place}, is {thing}.",
        ]
        return prose(lines)
    lines = [
        first[2],
        f"Ahead is {heading}, {side} is {aside}.",
        f"The {side} side has {thing}, {place}.",
        *([f"The {other} side has {across}."] if opposite else []),
        *([f"Out of sight on the {side}: {listing(elsewhere)}."] if elsewhere else []),
        f"The answer is {thing}.",
    ]
    return steps(lines)


def mvc_rationale(facts: Facts, skeleton: int = 0) -> str:
    """Frame by frame, counting each instance once."""
    noun, known, lines, fresh_counts = facts["category"], set[str](), list[str](), list[int]()
    for number, seen in enumerate(facts["instances_per_frame"], start=1):
        fresh = [name for name in seen if name not in known]
        known.update(seen)
        fresh_counts.append(len(fresh))
        again = again_words(len(seen), len(seen) - len(fresh))
        if not seen:
            lines.append(
                (f"Frame {number} shows no {spelled(noun)}.", f"Frame {number} has none.", f"Frame {number}: none.")[
                    skeleton
                ]
            )
            continue
        shown = counted(len(seen), noun)
        lines.append(
            (
                f"Frame {number} shows {shown}{again}; that makes {numeral(len(known))} so far.",
                f"Frame {number} has {shown}{again}, {numeral(len(known))} in all by then.",
                f"Frame {number}: {shown}{again}, so {numeral(len(fresh))} more.",
            )[skeleton]
        )
    if skeleton == 0:
        return steps([*lines, f"The total number is {facts['count']}."])
    if skeleton == 1:
        return prose(
            [f"Count the {plural(noun)}, each of them once.", *lines, f"The total number is {facts['count']}."]
        )
    return steps(
        [*lines, f"{' + '.join(map(str, fresh_counts))} = {facts['count']}: the total number is {facts['count']}."]
    )


def again_words(seen: int, again: int) -> str:
    """``, one of which was seen before`` for some of what a frame shows, or all of it."""
    if not again:
        return ""
    if seen == 1:
        return ", which was seen before"
    if again == seen:
        return f", {'both' if seen == 2 else 'all'} of which were seen before"
    return f", {numeral(again)} of which {'was' if again == 1 else 'were'} seen before"


def view_layout(layout: Sequence[Sequence[Any]]) -> list[str]:
    """Sentences for what a view shows: [noun, place from left (0..1), metres away] each, by thirds, from near to far."""
    sentences = []
    for column, words in enumerate(COLUMNS):
        there = sorted((away, noun) for noun, u, away in layout if min(int(3 * u), 2) == column)
        names = grouped(noun for _, noun in there)
        if names:
            order = ", from near to far" if len(names) > 1 else ""
            sentences.append(f"{words}{order}: {listing(names)}.")
    return sentences or ["Nothing stands out."]


def map_layout(layout: Sequence[Sequence[Any]]) -> list[str]:
    """Sentences for what a map shows: [noun, place from left, place from top] each, by thirds."""
    sentences = []
    for row, parts in enumerate(PARTS):
        for column, part in enumerate(parts):
            there = sorted(noun for noun, u, v in layout if (min(int(3 * v), 2), min(int(3 * u), 2)) == (row, column))
            if there:
                sentences.append(f"In {part}: {listing(grouped(there))}.")
    return sentences or ["The map is empty."]


def grouped(nouns: Iterable[str]) -> list[str]:
    """Each noun once, in order of appearance, with how many there are: ``a lamp``, ``two chairs``."""
    return [with_article(noun) if count == 1 else counted(count, noun) for noun, count in Counter(nouns).items()]


def pet_caption(facts: Facts) -> str:
    """What the view from the X shows, in words."""
    return prose([f"From the X, facing {facts['turn']}.", *view_layout(facts["layout"])])


def pt_caption(facts: Facts) -> str:
    """What the side view at M1 shows, in words."""
    return prose([f"Looking {facts['side']} from M1.", *view_layout(facts["layout"])])


def mvc_caption(facts: Facts) -> str:
    """What the map from above shows, in words."""
    return prose(["Seen from above.", *map_layout(facts["layout"])])


def drawing_caption(facts: Facts) -> str:
    """What a picture that is to be drawn shows, in words; of a view from an arrow on a map, first where it looks."""
    layout = map_layout if facts["kind"] == "plan" else view_layout
    towards = [f"Towards {facts['towards']} o'clock."] if "towards" in facts else []
    return prose([*towards, *layout(facts["layout"])])
