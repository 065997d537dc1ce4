"""What questions and answers about the motion of a camera tell: directions, and from which picture they are seen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from datagen.backends.base import SceneError
from datagen.yields import Yields

KINDS = ("move", "turn")
#: Directions by axis, a direction and its opposite.
AXES = (("forward", "backward"), ("left", "right"), ("up", "down"))
OPPOSITE = {one: other for pair in AXES for one, other in (pair, pair[::-1])}
WORDS: Mapping[str, str] = {
    **dict.fromkeys(("forward", "forwards", "ahead"), "forward"),
    **dict.fromkeys(("backward", "backwards", "back"), "backward"),
    **{name + end: name for name in ("left", "right", "up", "down") for end in ("", "ward", "wards")},
}
#: How an instruction says the directions of each kind.
SAID: Mapping[str, Mapping[str, str]] = {
    "move": {**{name: name for name in OPPOSITE}, "left": "to the left", "right": "to the right"},
    "turn": {"left": "turn to the left", "right": "turn to the right", "up": "tilt up", "down": "tilt down"},
}
FILLERS = frozenset(
    {
        *("a", "and", "at", "bit", "by", "camera", "direction", "in", "it", "its", "side", "slightly", "the", "then"),
        *("to", "toward", "towards", "was", "while"),
    }
)
MOVING = re.compile(r"mov(e|es|ed|ing|ement)|shift\w*|translat\w*")
TURNING = re.compile(r"rotat\w*|turn\w*|tilt\w*|pan(s|ned|ning)?")
#: Words of an answer that there is none.
UNDETERMINED = frozenset(
    ("cannot", "impossible", "no", "none", "nothing", "not", "static", "stationary", "unable", "unclear", "unknown")
)
ABOUT_TURNING = re.compile(rf"\b({TURNING.pattern}|orient\w*|angle|facing|heading|view(ing)? direction)\b")
ABOUT_MOVING = re.compile(rf"\b({MOVING.pattern}|location|position|travel\w*|displac\w*)\b")
PICTURE = r"(?:(?P<first>first|1st)|(?P<second>second|2nd))"
SEEN_FROM = (
    r"relative to|with respect to|compared (?:to|with)|with reference to|from the (?:view|viewpoint|perspective) of"
)
REFERENCES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"\b(?:{SEEN_FROM})\s+(?:\w+\s+){{0,5}}?{PICTURE}\b",
        rf"\b{PICTURE}\s+\w+\s+(?:as|is|serves as|being)\s+(?:the|a)\s+(?:reference|origin|base)",
        rf"\bfrom (?:the )?{PICTURE}\s+\w+\s+to (?:the )?(?:first|second|1st|2nd)\b",
    )
)
OPTION = re.compile(r"(?<![A-Za-z])([A-Z])[.)]\s*(.+?)\s*(?=,?\s*(?<![A-Za-z])[A-Z][.)]\s|\n|$)")


@dataclass(frozen=True, slots=True)
class Motion:
    """How one gets from the first picture to the second: ``kind`` of `KINDS`, directions in the order of `AXES`.

    ``reference``: the picture (``first``, ``second``) from which the set describes it.
    """

    kind: str
    directions: tuple[str, ...]
    reference: str

    @property
    def name(self) -> str:
        """Such as ``move forward left``: what is compared when answers are recomputed."""
        return " ".join((self.kind, *self.directions))

    @property
    def instruction(self) -> str:
        """Such as ``move forward and to the left``."""
        parts = [SAID[self.kind][direction] for direction in self.directions]
        told = " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
        return f"move {told}" if self.kind == "move" else told


def motion_of(question: str, answer: str, where: str, yields: Yields) -> Motion | None:
    """The motion from the first picture to the second that the words tell, or None, with a count of why.

    ``SceneError`` where the answer contradicts the options of its question.
    """
    question, _, listed = question.partition("Options:")
    asked = question.lower() if listed else OPTION.sub(" ", question).lower()
    words = re.findall(r"[a-z]+", answer_words(answer, listed or question, where).lower())
    if not yields.check("motion.determined", not UNDETERMINED.intersection(words)):
        return None
    directions = {WORDS[name] for name in words if name in WORDS}
    rest = {name for name in words if name not in WORDS} - FILLERS
    ordered = tuple(direction for axis in AXES for direction in axis if direction in directions)
    moving, turning = ({name for name in rest if verb.fullmatch(name)} for verb in (MOVING, TURNING))
    clear = bool(ordered) and not any(OPPOSITE[one] in directions for one in ordered) and rest == moving | turning
    if not yields.check("motion.understood", clear):
        return None
    hints = {
        "move": bool(moving) or (not rest and ABOUT_MOVING.search(asked) is not None),
        "turn": bool(turning) or (not rest and ABOUT_TURNING.search(asked) is not None),
    }
    kinds = [kind for kind, hinted in hints.items() if hinted]
    possible = len(kinds) == 1 and all(direction in SAID[kinds[0]] for direction in ordered)
    if not yields.check("motion.one_kind", possible):
        return None
    references = references_of(asked)
    if not yields.check("motion.one_reference", len(references) < 2):
        return None
    reference = next(iter(references), "first")
    if reference == "second":
        ordered = tuple(OPPOSITE[direction] for direction in ordered)
    return Motion(kinds[0], ordered, reference)


def answer_words(answer: str, options: str, where: str) -> str:
    """An answer without its letter; where it is a letter alone, the option's words."""
    listed = dict(OPTION.findall(options))
    letter, told = "", answer.strip().rstrip(".")
    if found := re.match(r"^\(?([A-Z])(?:[.):]\s*|$)", told):
        letter, told = found[1], told[found.end() :].strip()
    if not letter:
        return told
    if letter not in listed:
        raise SceneError(f"{where}: answer '{answer}' is none of the options {', '.join(listed) or '(there are none)'}")
    option = listed[letter].rstrip(".")
    if told and told.lower() != option.lower():
        raise SceneError(f"{where}: answer '{answer}' is not what option {letter} says, '{option}'")
    return option


def references_of(question: str) -> set[str]:
    """The pictures (``first``, ``second``) that a question takes as its reference."""
    found = (match for pattern in REFERENCES for match in pattern.finditer(question))
    return {"first" if match["first"] else "second" for match in found}
