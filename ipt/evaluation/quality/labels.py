"""What a ground-truth imagination shows, from the facts of its sample: what a probe learns to read and is judged by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ipt.common.errors import UserError
from ipt.samples.sample import SpatialSample

#: First-person facts name at most this many objects, the largest; a full list leaves smaller ones unknown.
MOST_LISTED = 6


@dataclass(frozen=True, slots=True)
class Labels:
    """The content of one picture. Nouns are those of the facts.

    ``counts``: instances by noun; 1 stands for "at least one" unless ``counted``. ``complete``: every other noun is absent.
    ``asked``: the noun of the question. ``place``: where its object is, 0 at the left edge of the picture to 1 at the right.
    ``distance_m``: from the camera to it; ``distance_before_m``: from where the question is asked, ``None`` where the question is
    not about distances. ``options``: the nouns that the question offers, for questions of what is there.
    """

    counts: Mapping[str, int]
    complete: bool
    counted: bool
    asked: str
    place: float | None = None
    distance_m: float | None = None
    distance_before_m: float | None = None
    options: tuple[str, ...] = ()


def labels_of(sample: SpatialSample) -> Labels:
    """The labels of a sample's true imagination; ``ValueError`` names the sample whose facts do not tell them."""
    try:
        return READERS[sample.task](sample.facts)
    except KeyError as error:
        raise UserError(
            f"sample '{sample.id}' has no fact {error}: what its imagination shows can be judged for generated datasets only"
        ) from error


def perspective(facts: Mapping[str, Any]) -> Labels:
    asked = facts["object"]["name"]
    return Labels(
        counts=dict.fromkeys([*facts["visible_after"], asked], 1),
        complete=len(facts["visible_after"]) < MOST_LISTED,
        counted=False,
        asked=asked,
        place=float(facts["position_after"][0]),
        distance_m=float(facts["distance_after_m"]),
        distance_before_m=float(facts["distance_before_m"]) if facts["kind"] == "distance" else None,
    )


def side_view(facts: Mapping[str, Any]) -> Labels:
    asked = facts["object"]["name"]
    return Labels(
        counts=dict.fromkeys([*facts["visible_side"], asked], 1),
        complete=len(facts["visible_side"]) < MOST_LISTED,
        counted=False,
        asked=asked,
        options=tuple(facts["options"]),
    )


def counting(facts: Mapping[str, Any]) -> Labels:
    others = {noun: number for noun, number in facts["also_on_map"].items() if noun not in facts["members"]}
    return Labels({**others, facts["category"]: int(facts["count"])}, True, True, facts["category"])


READERS: Mapping[str, Callable[[Mapping[str, Any]], Labels]] = {"pet": perspective, "pt": side_view, "mvc": counting}
