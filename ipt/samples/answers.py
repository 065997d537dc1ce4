"""From what a model wrote to the option it chose, or to nothing.

The text is brought to one form first (`ipt.samples.plain_text`). The rules are then those of the paper's released evaluation, in
its order: an answer tag; a broken one; ``\boxed{}``; "the answer is"; an option at the start; a bold one; the last line. They
read letters, the words of an option and, where all options are numbers, a number. They are conservative, since a scorer that
searches reasoning for letters counts guesses as answers: an earlier published one that did raised a score of 47.75 to 99.73.
Ours differ from the published ones where those read what nobody said: an article as option A ("the answer is a lamp"), the
first letter of a word ("Answer: Both"), a part of a word or of a number that equals an option ("3.5", "-3"), the first of
several ("2 to 3", "(A) and (B)"), an option that is called wrong or taken back, and one from a list that goes through all of
them. They also read letters that are introduced ("the answer is option B") and what is said in Chinese.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Sequence

from ipt.samples.numbers import Numbers
from ipt.samples.plain_text import plain_text

MAX_PHRASE = 300

REASONING_END = re.compile(r"</think(?:_image)?>", re.IGNORECASE)
TAGGED = re.compile(r"<answer>(.*?)(?:</?answer|</>|$)", re.IGNORECASE | re.DOTALL)
CLOSED = re.compile(r"(?:^|[>\n])([^<>\n]*)(?:</answer|</>)", re.IGNORECASE)
QUOTED = re.compile(r"^>([A-Za-z])$", re.MULTILINE)
BOXED = re.compile(r"\\boxed\{(?:\\text\w*\{)?([^{}\n]*)\}")
DECLARED = re.compile(
    r"(?:\b(?:answer|(?:correct|right|best) (?:option|choice))[\"'*_]*\s*"
    r"(?:(?:is|must be|should be|has to be)\b|(?P<not>isn't|cannot be|can't be)\b|[:=]|-(?!\d))"
    r"|(?<!if )(?<!when )(?<!should )\bI(?:'d| would|'ll| will)? (?:choose|pick|select|go with|go for)\b"
    r"|答案\s?(?:应该|应当|应|就|只能)?(?:是|为|选)?|(?<![不别勿可供任])选择?(?![择项题]))"
    rf"(?:[\"'*_:\s]|-(?!\d))*(?=([^\n]{{0,{MAX_PHRASE}}}))",
    re.IGNORECASE,
)
NEGATED = re.compile(r"(?:not|neither|never)\b|不是?", re.IGNORECASE)
TAKEN_BACK = re.compile(
    r"\b(?:wait|scratch that|or rather|i mean|correction|on second thoughts?|let me re\w+)\b|等等", re.IGNORECASE
)
BOLD = re.compile(r"\*\*([^*\n]+)\*\*")
LETTER = re.compile(r"[\W_]*([A-Za-z])[\W_]*")
LETTERED = re.compile(r"[\s*(\[]*([A-Za-z])\s*(?:[).:\]、]|-\s)")
JOINING = r"(?:(?:or|and|nor|to|vs|versus)\b|[&+/|、]|[或和与及]|还是)"
CAPITAL = re.compile(rf"[\s*(\[]*([A-Z])(?:\*|\s(?!{JOINING})|,\s(?![A-Z]\b))")
MARKS = r"[ \t*_(\[\"':#-]{0,8}"
INTRODUCED = re.compile(
    rf"{MARKS}(?:the )?(?:(?:option|choice|letter)\b|选项){MARKS}([A-Za-z])(?![A-Za-z0-9'])"
    rf"(?!\W{{0,8}}{JOINING})(?!\s?[,/]\s?(?-i:[A-Z])\b)",
    re.IGNORECASE,
)
PUNCTUATED = re.compile(r"[*_\"')\]]{0,4}(?:[).:,\]]| - )")
CONFIRMED = re.compile(
    rf"(?:^|[.,;!]\s)\s?(?:(?:so|and|but|then|thus|therefore|所以|因此|故),?\s?)?{MARKS}"
    rf"(?:(?:option|choice)\b{MARKS}([A-Za-z])|选项\s([A-Za-z])|(?-i:([A-Z])))(?![A-Za-z0-9'])[*_)\]\"']{{0,8}}\s?"
    r"(?:is (?:clearly |the )?(?:correct|right|best)(?: (?:answer|option|choice|one))?"
    r"(?=[*_)]{0,4}(?:[.,;:!\n]|$)| (?:because|since|as)\b)|选?项?是?(?:正确|对)的?(?:答案|选项)?(?=\s?(?:[.,;!\n]|$)))",
    re.IGNORECASE | re.MULTILINE,
)
SUPPOSED = re.compile(r"\b(?:if|whether|suppose|assume|assuming)\b|如果|假设", re.IGNORECASE)
LISTED = re.compile(r"^[\s*(\[-]*([A-Za-z])[).:\]、](?=\s|[^\x00-\x7f])", re.MULTILINE)
ECHOED = re.compile(r"(?:^|[\s,;(])([A-Z])[).:\]、]\s?")
JOINED = re.compile(
    rf"[\s*_)\]\"'.:,]{{0,8}}(?:{JOINING}(?<!to)|(?:to|-)(?=\s(?:option )?[A-Z]\b))[\s*_(\[\"':]{{0,8}}"
)
OTHERS = re.compile(r"[\s*_)\]\"']{0,8}(?:(?:or|and|nor|vs|versus)\b|[&+/|、]|[或和与及]|还是)")
WRONG = re.compile(
    r"\b(?:wrong|incorrect|false|impossible|ruled out|(?:not|n't) (?:be )?(?:correct|right|true|possible|the answer))\b"
    r"|不对|不正确|错",
    re.IGNORECASE,
)
OTHER_SUBJECT = re.compile(r"\b(?:others?|rest|remaining)\b|其他|其它|其余", re.IGNORECASE)
ASKED = re.compile(r"[^.!?\n]*\?")
TOKEN = re.compile(r"(?<![^\W_])(?<![)\]])-?(?:\d+(?:[.,]\d+)*|\.\d+)(?![^\W_])|[^\W_]+")
YES_NO = re.compile(
    rf"{MARKS}(yes|no|true|false|是的?|否|对|错)[*_\"')]{{0,4}}(?:[,.;:!]|\s(?:it|there|they|this|that|you|we|i)\b)"
    r"(?!\W{1,4}(?:yes|no|true|false|maybe)\b)",
    re.IGNORECASE,
)
UNSURE = re.compile(
    r"\b(?:not sure|unsure|cannot tell|can't tell|don't know|maybe|perhaps)\b|不确定|不知道|无法", re.IGNORECASE
)
LEAD = re.compile(
    r"(?:(?:so|thus|therefore|hence|then|finally)\b,?\s)?(?:it|this|that)(?:'s| is| must be| should be)\s",
    re.IGNORECASE,
)
#: A declaration that names several options, or takes one back: what was declared before it does not stand either.
AMBIGUOUS = -1


def parse_answer(text: str, choices: Sequence[str]) -> int | None:
    """Index of the option that ``text`` chooses, or None where it chooses none: an invalid output, never a guess.

    A tag decides: where there is one and nothing in it is an option, the output is invalid, whatever else is written. What
    follows the reasoning comes before the reasoning; a later declaration before an earlier one.
    """
    options, text = Options(choices), plain_text(text)
    for part in dict.fromkeys((REASONING_END.split(text)[-1], text)):
        tagged = [match[1] for match in TAGGED.finditer(part)] or [match[1] for match in CLOSED.finditer(part)]
        found = next((choice for content in tagged if (choice := untagged(content, options, True)) is not None), None)
        if found is None and not tagged:
            found = untagged(part, options)
        if found is not None:
            return found
    return None


class Options:
    """The options of one question, as a phrase may name them."""

    def __init__(self, choices: Sequence[str]) -> None:
        self.letters = string.ascii_uppercase[: len(choices)]
        self.words = [normalized(plain_text(choice)) for choice in choices]
        self.numbers = Numbers.of([plain_text(choice) for choice in choices])
        self.yes_no = {"yes", "no"} == {*self.words} or {"true", "false"} == {*self.words} or "否" in self.words

    def lettered(self, match: re.Match[str] | None) -> int | None:
        letter = "" if match is None else next((group for group in match.groups() if group), "")
        place = self.letters.find(letter.upper()) if letter else -1
        return None if place < 0 else place

    def exact(self, phrase: str) -> int | None:
        """The option whose letter, words or number are all of ``phrase``."""
        if (found := self.lettered(LETTER.fullmatch(phrase))) is not None:
            return found
        if self.numbers:
            return self.introduced(phrase) if (found := self.numbers.exact(phrase)) is None else found
        words = normalized(phrase)
        return self.words.index(words) if self.words.count(words) == 1 else self.introduced(phrase)

    def introduced(self, phrase: str) -> int | None:
        """An option that is introduced by name ("option B"), and nothing else."""
        introduced = INTRODUCED.match(phrase)
        return self.lettered(introduced) if introduced and not normalized(phrase[introduced.end() :]) else None

    def named(self, phrase: str, declared: bool = False) -> int | None:
        """The option that ``phrase`` is, or whose letter it begins with as lists do ("B) a sofa", "option B: a sofa"), unless
        it goes on to call that option wrong or to name another beside it."""
        if (found := self.exact(phrase)) is not None:
            return found
        if self.numbers and (found := self.numbers.counted(phrase)) is not None:
            return found
        if (found := self.yes_or_no(phrase)) is not None:
            return found
        introduced = INTRODUCED.match(phrase)
        if introduced and not PUNCTUATED.match(phrase, introduced.end()):
            return None
        begun = introduced or LETTERED.match(phrase)
        found = self.lettered(begun)
        if begun is None or found is None or self.joined(phrase[begun.end(1) :], found):
            return None
        return None if not declared and self.doubted(phrase[begun.end() :], found) else found

    def declared(self, phrase: str) -> int | None:
        """The option that a declaration goes on with; more words may follow it. ``AMBIGUOUS`` where it is not one alone."""
        if TAKEN_BACK.search(phrase):
            return AMBIGUOUS
        if (found := self.named(phrase, declared=True)) is not None:
            return found
        if self.numbers:
            found = self.numbers.begun(phrase)
        else:
            tokens = list(TOKEN.finditer(phrase))
            longest = max((choice for choice in self.words if beginning(tokens, choice)), key=len, default="")
            if longest:
                rest = phrase[beginning(tokens, longest)[-1].end() :]
                if self.words.count(longest) > 1 or OTHERS.match(rest) or self.listed_next(rest, longest):
                    return AMBIGUOUS
                return self.words.index(longest)
        if found is None:
            found = self.lettered(INTRODUCED.match(phrase) or CAPITAL.match(phrase))
        return AMBIGUOUS if self.several(phrase) else found

    def several(self, phrase: str) -> bool:
        """Whether a declaration begins with a letter and goes on with another option."""
        begun = re.match(rf"{MARKS}(?:option |choice )?{MARKS}([A-Za-z])(?![A-Za-z0-9'])", phrase)
        found = self.lettered(begun)
        return begun is not None and found is not None and self.joined(phrase[begun.end(1) :], found)

    def joined(self, rest: str, found: int) -> bool:
        """Whether ``rest``, what follows an option's letter and maybe its words, names another option beside it."""
        if own := beginning(list(TOKEN.finditer(rest[:MAX_PHRASE])), self.words[found]):
            rest = rest[own[-1].end() :]
        joining = JOINED.match(rest)
        return joining is not None and self.another(rest[joining.end() :], found)

    def another(self, phrase: str, found: int) -> bool:
        """Whether ``phrase`` begins with the letter or the words of an option that is not ``found``."""
        tokens = [token for token in TOKEN.finditer(phrase[:MAX_PHRASE]) if token[0].lower() not in LED]
        lettered = (
            bool(tokens) and len(tokens[0][0]) == 1 and tokens[0][0] in self.letters.replace(self.letters[found], "")
        )
        if not tokens or re.search(r"[.!?:]", phrase[: tokens[0].start()]):
            return False
        return lettered or any(
            beginning(tokens, normalized_led(words)) for place, words in enumerate(self.words) if place != found
        )

    def listed_next(self, rest: str, longest: str) -> bool:
        """Whether the words of an option are followed by those of another, with nothing but a comma between ("left, right")."""
        gap = re.match(r"[\s,;*_]*", rest)
        return self.another(rest[gap.end() if gap else 0 :], self.words.index(longest))

    def doubted(self, rest: str, found: int) -> bool:
        """Whether ``rest``, what follows an option's letter, asks about that option or calls it wrong, and not another one."""
        line = rest.partition("\n")[0][:MAX_PHRASE]
        if ASKED.match(line) and not self.about_another(line.partition("?")[0], found):
            return True
        wrong = WRONG.search(line)
        return wrong is not None and not self.about_another(line[: wrong.start()], found)

    def about_another(self, phrase: str, found: int) -> bool:
        others = [place for place in range(len(self.words)) if place != found]
        said = f" {normalized(phrase)} "
        return (
            OTHER_SUBJECT.search(phrase) is not None
            or any(
                re.search(rf"(?<![A-Za-z0-9']){self.letters[place]}(?![A-Za-z0-9'])", phrase) for place in others[:25]
            )
            or any(f" {self.words[place]} " in said for place in others if self.words[place])
        )

    def yes_or_no(self, phrase: str) -> int | None:
        """What a sentence begins with that answers yes or no ("Yes, it is"), where these are the options."""
        said = YES_NO.match(phrase) if self.yes_no else None
        if said is None or UNSURE.search(phrase) or TAKEN_BACK.search(phrase):
            return None
        word = said[1].lower().removesuffix("的")
        return self.words.index(word) if self.words.count(word) == 1 else None

    def echoed(self, text: str) -> bool:
        """Whether the options are gone through, each with its letter and words or on a line of its own."""
        if len({match[1].upper() for match in LISTED.finditer(text)}) > 1:
            return True
        marks = (match for match in ECHOED.finditer(text[: 4 * MAX_PHRASE]) if match[1] in self.letters)
        own = {
            match[1]
            for match in marks
            if beginning(
                list(TOKEN.finditer(text[match.end() :][:MAX_PHRASE])), self.words[self.letters.find(match[1])]
            )
        }
        return len(own) > 1


def untagged(text: str, options: Options, tagged: bool = False) -> int | None:
    """The choice of a text without an answer tag: what the first rule that reads something reads."""
    return next((found for found in readings(text.strip(), options, tagged) if found is not None), None)


def readings(text: str, options: Options, tagged: bool) -> Iterator[int | None]:
    """What each rule reads, in the order of the rules."""
    for pattern in (QUOTED, BOXED):
        yield from (options.named(match[1]) for match in pattern.finditer(text))
    yield last_declared(text, options)
    yield confirmed(text, options)
    echoed = options.echoed(text)
    if not echoed:
        yield options.named(text[:MAX_PHRASE]) if LISTED.match(text) else None
        yield options.yes_or_no(text[:MAX_PHRASE])
    bold = {options.named(match[1]) for match in BOLD.finditer(text)} - {None}
    yield bold.pop() if len(bold) == 1 else None
    last = LEAD.sub("", text[text.rfind("\n") + 1 :][:MAX_PHRASE], count=1)
    yield options.exact(last) if echoed else options.named(last)


def last_declared(text: str, options: Options) -> int | None:
    """The option that the last readable declaration names, unless a later one takes it back or names several."""
    denied = set()
    for match in reversed(list(DECLARED.finditer(text))):
        phrase = match[2]
        negated = NEGATED.match(phrase)
        if negated or match["not"]:
            denied.add(options.declared(phrase[negated.end() if negated else 0 :].lstrip()))
        elif (found := options.declared(phrase)) is not None:
            return None if found == AMBIGUOUS or found in denied else found
    return None


def confirmed(text: str, options: Options) -> int | None:
    """The one option of which the text says that it is the right one."""
    found = {
        options.lettered(match)
        for match in CONFIRMED.finditer(text)
        if not SUPPOSED.search(text, text.rfind("\n", 0, match.start() + 1) + 1, match.start())
    } - {None}
    return found.pop() if len(found) == 1 else None


ARTICLES = ("a", "an", "the")
LED = (*ARTICLES, "option", "choice", "letter", "选项", "maybe", "possibly", "also")


def beginning(tokens: Sequence[re.Match[str]], words: str) -> Sequence[re.Match[str]]:
    """The first of the ``tokens`` where these are the ``words`` of an option, an article apart; else none."""
    tokens = tokens[1:] if len(tokens) > 1 and tokens[0][0].lower() in ARTICLES else tokens
    first = tokens[: len(words.split())]
    return first if [token[0].lower() for token in first] == words.split() else []


def normalized_led(words: str) -> str:
    return " ".join(word for word in words.split() if word not in LED)


def normalized(phrase: str) -> str:
    """Lower case, without punctuation, surplus spaces or a leading article: ``**A lamp.**`` is ``lamp``. Numbers stay whole."""
    words = [token.lower() for token in TOKEN.findall(phrase[:MAX_PHRASE])]
    return " ".join(words[1:] if len(words) > 1 and words[0] in ARTICLES else words)


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
