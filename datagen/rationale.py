"""Stepwise reasoning and captions of imagined views, written from scene facts alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from datagen.language import listing, numeral, plural, with_article

Facts = Mapping[str, Any]


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


def half(u: float) -> str:
    """Where in a view a horizontal position (0..1) is."""
    return "left half" if u < 0.47 else "right half" if u > 0.53 else "middle"


def pet_rationale(facts: Facts) -> str:
    """Locate X and object, move, turn, conclude."""
    noun, turn = facts["object"]["name"], facts["turn"]
    ahead, left = facts["object_from_start"]
    x_ahead, x_left = facts["target_from_start"]
    moved = [ahead - x_ahead, left - x_left]
    turned = facts["object_from_target"]
    lines = [
        f"In this view the {noun} is {bearing([ahead, left])}, {facts['distance_before_m']:.1f} m away.",
        f"The X is {bearing([x_ahead, x_left])}.",
        f"From the X, still facing the same way, the {noun} is {bearing(moved)}.",
        f"After turning {turn} by 90 degrees, what was {'left' if turn == 'left' else 'right'} is ahead: "
        f"the {noun} is {bearing(turned)}.",
    ]
    if facts["kind"] == "distance":
        lines.append(
            f"Its distance changes from {facts['distance_before_m']:.1f} m to {facts['distance_after_m']:.1f} m, "
            f"so it gets {facts['answer']}."
        )
    else:
        lines.append(f"So the {noun} is on the {facts['answer']}.")
    return steps(lines)


def pet_caption(facts: Facts) -> str:
    """What the view from the X shows, in words."""
    noun = facts["object"]["name"]
    others = [name for name in facts["visible_after"] if name != noun]
    also = f" Also in view: {listing([with_article(name) for name in others])}." if others else ""
    return (
        f"From the X, facing {facts['turn']}, the {noun} is in the {half(facts['position_after'][0])} of the view, "
        f"{facts['distance_after_m']:.1f} m away.{also}"
    )


def pt_rationale(facts: Facts) -> str:
    """Direction of travel, heading at M1, meaning of the side, what stands there, elimination."""
    side, other = facts["side"], "right" if facts["side"] == "left" else "left"
    noun, bearing_deg = facts["object"]["name"], abs(facts["object"]["bearing_deg"])
    opposite = [name for name in facts["distractors"] if name in facts["opposite"]]
    elsewhere = [name for name in facts["distractors"] if name not in facts["opposite"]]
    compass = facts["heading_on_map"]
    lines = [
        f"The walk goes from {facts['start']} to {facts['end']} and is {facts['path_length_m']:.1f} m long; "
        "M1 is halfway.",
        f"At M1 the heading on the map is {compass}.",
        f"Facing {compass}, {side} is {facts['side_on_map']} on the map.",
        f"On that side there is {with_article(noun)}, {facts['object']['distance_m']:.1f} m from M1 and about "
        f"{bearing_deg:.0f} degrees off the heading.",
    ]
    if opposite:
        lines.append(f"{listing([with_article(name) for name in opposite]).capitalize()} would be seen on the {other}.")
    if elsewhere:
        lines.append(f"Looking {side} from M1 does not show {listing([with_article(name) for name in elsewhere])}.")
    lines.append(f"So the object on the {side} is {with_article(noun)}.")
    return steps(lines)


def pt_caption(facts: Facts) -> str:
    """What the side view at M1 shows, in words."""
    return f"Looking {facts['side']} from M1: {listing([with_article(name) for name in facts['visible_side']])}."


def mvc_rationale(facts: Facts) -> str:
    """Frame by frame, counting each instance once."""
    noun, known, lines = facts["category"], set(), []
    for number, seen in enumerate(facts["instances_per_frame"], start=1):
        fresh = [name for name in seen if name not in known]
        again = len(seen) - len(fresh)
        known.update(seen)
        if not seen:
            lines.append(f"Frame {number} shows no {noun}.")
            continue
        text = f"Frame {number} shows {counted(len(seen), noun)}"
        if again:
            text += f", {numeral(again) if fresh else 'all'} of them seen before"
        lines.append(f"{text}; that makes {numeral(len(known))} so far.")
    lines.append(f"The total number is {facts['count']}.")
    return steps(lines)


def mvc_caption(facts: Facts) -> str:
    """What the map from above shows, in words."""
    others = [counted(number, name) for name, number in facts["also_on_map"].items()]
    also = f", with {listing(others)}" if others else ""
    return f"Seen from above, the area holds {counted(facts['count'], facts['category'])}{also}."


def drawing_caption(facts: Facts) -> str:
    """What a picture that is to be drawn shows, in words: counts on a plan, else from left to right."""
    if facts["kind"] == "plan":
        counts: list[tuple[str, int]] = sorted(Counter(facts["shows"]).items())
        return f"From above: {listing([counted(count, noun) for noun, count in counts])}."
    return f"From left to right: {listing([with_article(noun) for noun in facts['shows']])}."


def counted(count: int, noun: str) -> str:
    """``one chair``, ``three chairs``."""
    return f"{numeral(count)} {noun if count == 1 else plural(noun)}"
