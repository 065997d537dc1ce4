"""Options that are numbers ("3", "two", "4 m"), and the number that a phrase says, where it says one and no other."""

# ruff: noqa: RUF001 (signs that look alike are what is told apart here)
from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

# fmt: off
WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)
# fmt: on
CHINESE = {"零": 0, "〇": 0, "两": 2} | {word: place for place, word in enumerate("一二三四五六七八九十", start=1)}
NUMBER = (
    rf"(?<![A-Za-z0-9_.,-])(?:[-+]?(?:\d+(?:,\d{{3}})*(?:\.\d+)?|\.\d+)|(?:{'|'.join(WORDS)})(?![A-Za-z])"
    rf"|[{''.join(CHINESE)}](?![{''.join(CHINESE)}百千半]))"
)
MARKS = r"[\s*_(\[\"'`:#$\\{]{0,8}"
START = re.compile(
    rf"(?:-\s)?{MARKS}(?:(?:there (?:are|is)|exactly|only|just|a total of|一?共有?|总共有?|有)\s?){{0,2}}{MARKS}({NUMBER})",
    re.IGNORECASE,
)
OPTION = re.compile(rf"\W*?({NUMBER})(.*)", re.IGNORECASE | re.DOTALL)
#: "1 + 2 = 3", "1 chair + 2 chairs = 3 chairs": what follows is the result.
EQUATION = re.compile(
    r"[\s*_$(]{0,8}\d+(?:\s?[A-Za-z]{1,20})?(?:\s?(?:[-+*/x×÷]|plus)\s?\d+(?:\s?[A-Za-z]{1,20})?){1,12}\s?(?:=|equals)"
)
#: What makes a number part of another amount: a range, a sum, a fraction, a share, a limit.
NOT_ALONE = re.compile(
    r"[A-Za-z0-9_+%°⁄]|[.,]\d|\s*[-+*/=~^<>|&x×÷±–—]\s?\d|-[a-z]|\s?[+%°/=&|]"
    r"|\W{0,4}(?:or|and|nor|to|through|till|until|plus|minus|times|of|out|over|point|half|more|less|fewer|other|another|percent"
    r"|degrees?|that|which|where|the|x)\b|\s?(?:或|和|与|到|至|加|减|以上|以下|左右|多|分)",
    re.IGNORECASE,
)
NEXT = re.compile(rf"[\s,;(\[]{{1,4}}({NUMBER})", re.IGNORECASE)
#: Words after which "2 are hidden" is no answer.
SENTENCE = re.compile(r"\b(?:is|are|was|were|has|have|can|more|less|fewer|other|of|or|and|to|not)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Numbers:
    """The options of a question whose options are all numbers, of one ``unit`` ("" where they have none)."""

    values: tuple[Fraction, ...]
    unit: str

    @classmethod
    def of(cls, choices: Sequence[str]) -> Numbers | None:
        """None where an option is no number, or one more than a number of the common unit."""
        matches = [OPTION.fullmatch(choice) for choice in choices]
        found = [match for match in matches if match]
        units = {match[2].strip(" .").lower().removesuffix("s") for match in found}
        if not found or len(found) < len(choices) or len(units) != 1 or any(map(str.isdigit, unit := units.pop())):
            return None
        return cls(tuple(value_of(match[1]) for match in found), unit)

    def read(self, phrase: str) -> tuple[int, str] | None:
        """The option whose number ``phrase`` begins with, and what follows it; None for an amount that is none of them."""
        equation = EQUATION.match(phrase)
        phrase = phrase[equation.end() :] if equation else phrase
        said = START.match(phrase)
        if said is None:
            return None
        value, rest = value_of(said[1]), phrase[said.end() :]
        if self.unit and rest.lstrip().lower().startswith(self.unit):
            rest = rest.lstrip()[len(self.unit) :].removeprefix("s")
        elif self.unit and re.match(r"\s*[\w%°]", rest):
            return None
        if NOT_ALONE.match(rest):
            return None
        if again := NEXT.match(rest):
            if value_of(again[1]) != value:
                return None
            rest = rest[again.end() :]
        return (self.values.index(value), rest) if self.values.count(value) == 1 else None

    def exact(self, phrase: str) -> int | None:
        """The option whose number is all of ``phrase``."""
        found = self.read(phrase)
        return found[0] if found and not re.search(r"[^\W_]", found[1]) else None

    def counted(self, phrase: str) -> int | None:
        """The same, of things that up to three words name ("3 wooden chairs")."""
        found = self.read(phrase)
        if found is None or len(found[1].split()) > 3 or re.search(r"\d", found[1]) or SENTENCE.search(found[1]):
            return None
        return found[0]

    def begun(self, phrase: str) -> int | None:
        """The option whose number ``phrase`` begins with, whatever follows."""
        found = self.read(phrase)
        return None if found is None else found[0]


def value_of(text: str) -> Fraction:
    """The value of what ``NUMBER`` matches."""
    text = text.lower()
    if text in WORDS:
        return Fraction(WORDS.index(text))
    return Fraction(CHINESE[text]) if text in CHINESE else Fraction(text.replace(",", ""))
