"""From what a model wrote to the option it chose, or to nothing.

The rules are those of the paper's released evaluation, in its order: an answer tag; a broken one;
``\boxed{}``; "the answer is"; an option at the start; a bold one; the last line. They read letters and the words of an option.
They are conservative, since a scorer that searches reasoning for letters counts guesses as answers: an earlier published one
that did raised a score of 47.75 to 99.73. Ours differ from the published ones where those read what nobody said: an article as
option A ("the answer is a lamp"), the first letter of a word ("Answer: Both"), a part of a word that equals an option, and an
option from a list that goes through all of them. They also read letters that are introduced ("the answer is option B").
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Sequence

MAX_PHRASE = 300

REASONING_END = re.compile(r"</think(?:_image)?>", re.IGNORECASE)
TAGGED = re.compile(r"<answer>(.*?)(?:</?answer|</>|$)", re.IGNORECASE | re.DOTALL)
CLOSED = re.compile(r"(?:^|[>\n])([^<>\n]*)(?:</answer|</>)", re.IGNORECASE)
QUOTED = re.compile(r"^>([A-Za-z])$", re.MULTILINE)
BOXED = re.compile(r"\\boxed\{(?:\\text\w*\{)?([^{}\n]*)\}")
DECLARED = re.compile(
    r"\b(?:answer|(?:correct|right|best) (?:option|choice))[\"'*_]*\s*(?:is\b|[:=-])[\"'*_:\s-]*"
    rf"(?=([^\n]{{0,{MAX_PHRASE}}}))",
    re.IGNORECASE,
)
BOLD = re.compile(r"\*\*([^*\n]+)\*\*")
LETTER = re.compile(r"[\W_]*([A-Za-z])[\W_]*")
LETTERED = re.compile(r"[\s*(\[]*([A-Za-z])\s*(?:[).:\]]|-\s)")
CAPITAL = re.compile(r"[\s*(\[]*([A-Z])(?:\*|\s(?!(?:or|and|nor)\b)|,\s(?![A-Z]\b))")
MARKS = r"[ \t*_(\[\"':#-]{0,8}"
INTRODUCED = re.compile(
    rf"{MARKS}(?:the )?(?:option|choice|letter)\b{MARKS}([A-Za-z])(?![A-Za-z0-9'])"
    r"(?!\W{1,8}(?:or|and|nor)\b)(?!\s?[,/]\s?(?-i:[A-Z])\b)",
    re.IGNORECASE,
)
PUNCTUATED = re.compile(r"[*_\"')\]]{0,4}(?:[).:,\]]| - )")
CONFIRMED = re.compile(
    rf"^{MARKS}(?:option|choice)\b{MARKS}([A-Za-z])[*_)\]\"']{{0,8}} is (?:the )?(?:correct|right|best)\b",
    re.IGNORECASE | re.MULTILINE,
)
LISTED = re.compile(r"^[\s*(\[-]*([A-Za-z])[).:\]](?=\s)", re.MULTILINE)
OTHERS = re.compile(r" (?:or|and|nor)\b")
ARTICLE = re.compile(r"^(?:a|an|the) ")


def parse_answer(text: str, choices: Sequence[str]) -> int | None:
    """Index of the option that ``text`` chooses, or None where it chooses none: an invalid output, never a guess.

    A tag decides: where there is one and nothing in it is an option, the output is invalid, whatever else is written. What
    follows the reasoning comes before the reasoning; a later declaration before an earlier one.
    """
    options = Options(choices)
    for part in dict.fromkeys((REASONING_END.split(text)[-1], text)):
        tagged = [match[1] for match in TAGGED.finditer(part)] or [match[1] for match in CLOSED.finditer(part)]
        found = next((choice for content in tagged if (choice := untagged(content, options)) is not None), None)
        if found is None and not tagged:
            found = untagged(part, options)
        if found is not None:
            return found
    return None


class Options:
    """The options of one question, as a phrase may name them."""

    def __init__(self, choices: Sequence[str]) -> None:
        self.letters = string.ascii_uppercase[: len(choices)]
        self.words = [normalized(choice) for choice in choices]

    def lettered(self, match: re.Match[str] | None) -> int | None:
        place = -1 if match is None else self.letters.find(match[1].upper())
        return None if place < 0 else place

    def exact(self, phrase: str) -> int | None:
        """The option whose letter or words are all of ``phrase``."""
        if (found := self.lettered(LETTER.fullmatch(phrase))) is not None:
            return found
        words = normalized(phrase)
        if self.words.count(words) == 1:
            return self.words.index(words)
        introduced = INTRODUCED.match(phrase)
        return self.lettered(introduced) if introduced and not normalized(phrase[introduced.end() :]) else None

    def named(self, phrase: str) -> int | None:
        """The option that ``phrase`` is, or whose letter it begins with as lists do ("B) a sofa", "option B: a sofa")."""
        if (found := self.exact(phrase)) is not None:
            return found
        introduced = INTRODUCED.match(phrase)
        if introduced and PUNCTUATED.match(phrase, introduced.end()):
            return self.lettered(introduced)
        return self.lettered(LETTERED.match(phrase))

    def declared(self, phrase: str) -> int | None:
        """The option that a declaration goes on with; more words may follow it."""
        if (found := self.named(phrase)) is not None:
            return found
        words = normalized(phrase) + " "
        longest = max((choice for choice in self.words if words.startswith(choice + " ")), key=len, default="")
        if longest and self.words.count(longest) == 1 and not OTHERS.match(words[len(longest) :]):
            return self.words.index(longest)
        return self.lettered(INTRODUCED.match(phrase) or CAPITAL.match(phrase))


def untagged(text: str, options: Options) -> int | None:
    """The choice of a text without an answer tag: what the first rule that reads something reads."""
    return next((found for found in readings(text.strip(), options) if found is not None), None)


def readings(text: str, options: Options) -> Iterator[int | None]:
    """What each rule reads, in the order of the rules."""
    for pattern in (QUOTED, BOXED):
        yield from (options.named(match[1]) for match in pattern.finditer(text))
    declarations = [match[1] for match in DECLARED.finditer(text)]
    yield from map(options.declared, reversed(declarations))
    confirmed = {options.lettered(match) for match in CONFIRMED.finditer(text)}
    yield confirmed.pop() if len(confirmed) == 1 else None
    goes_through_options = len({match[1].upper() for match in LISTED.finditer(text)}) > 1
    if not goes_through_options:
        yield options.lettered(LISTED.match(text))
    bold = {options.named(match[1]) for match in BOLD.finditer(text)} - {None}
    yield bold.pop() if len(bold) == 1 else None
    last = text[text.rfind("\n") + 1 :][:MAX_PHRASE]
    yield options.exact(last) if goes_through_options else options.named(last)


def normalized(phrase: str) -> str:
    """Lower case, without punctuation, surplus spaces or a leading article: ``**A lamp.**`` is ``lamp``."""
    return ARTICLE.sub("", " ".join(re.findall(r"\w+", phrase[:MAX_PHRASE].lower())))


MARK = re.compile(r"(?:^|(?<=\s))\(?([A-Z])[).](?=\s|$)")


def split_options(text: str) -> tuple[str, tuple[str, ...]]:
    """The question without its options, and the options in the order of their letters; no options where there are not at least
    two, lettered from A without a gap."""
    marks = list(MARK.finditer(text))
    for first in reversed([place for place, mark in enumerate(marks) if mark.group(1) == "A"]):
        run = [marks[first]]
        for mark in marks[first + 1 :]:
            if mark.group(1) == string.ascii_uppercase[len(run) % 26]:
                run.append(mark)
        ends = [mark.start() for mark in run[1:]] + [len(text)]
        choices = tuple(text[mark.end() : end].strip() for mark, end in zip(run, ends, strict=True))
        if len(choices) > 1 and all(choices):
            return text[: run[0].start()].strip(), choices
    return text.strip(), ()
