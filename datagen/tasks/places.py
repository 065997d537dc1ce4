"""Ids of candidates that share their pictures: a place in a scene, and the noun that is asked about there."""

from __future__ import annotations

import re


def candidate_key(place: str, noun: str) -> str:
    """The key of a question about ``noun`` at a place: one hyphen, so that ids can be taken apart again."""
    return f"{place}-{re.sub(r'[^a-z0-9]+', '_', noun.lower())}"


def place_of(candidate_id: str) -> str:
    """The part of a candidate's id that names its pictures."""
    return candidate_id.rsplit("-", 1)[0]


def scene_of(candidate_id: str) -> str:
    """The part of a candidate's id that names its scene, whichever pass over the scenes it comes from."""
    return re.sub(r"-turn\d+$", "", place_of(candidate_id).rsplit("-", 1)[0])
