"""Small English: articles, plurals and numerals for object nouns."""

from __future__ import annotations

IRREGULAR = {"shelf": "shelves", "bookshelf": "bookshelves", "knife": "knives", "loaf": "loaves", "person": "people"}
ALREADY_PLURAL = ("curtains", "books", "scissors", "blinds", "stairs", "drawers")
SPELLINGS = {"tv": "TV"}
LIKE_YOU = ("uni", "use", "uti", "ute", "uri", "eu", "one")  # begin with a vowel letter but a consonant sound
NUMERALS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def spelled(noun: str) -> str:
    """A noun as it is written: ``TV stand``."""
    return " ".join(SPELLINGS.get(word, word) for word in noun.split(" "))


def counted(count: int, noun: str) -> str:
    """``one chair``, ``three chairs``; ``one set of books``, ``two sets of books`` for what is plural already."""
    if is_plural(noun):
        return f"{numeral(count)} {'set' if count == 1 else 'sets'} of {spelled(noun)}"
    return f"{numeral(count)} {spelled(noun) if count == 1 else plural(noun)}"


def head(noun: str) -> str:
    """What a noun phrase is a kind of: ``table`` for ``coffee table``, ``chest`` for ``chest of drawers``."""
    return noun.partition(" of ")[0].rpartition(" ")[2]


def is_plural(noun: str) -> bool:
    """Whether a noun phrase speaks of several things already: ``books``, but not ``chest of drawers``."""
    return head(noun) in ALREADY_PLURAL


def with_article(noun: str) -> str:
    """``a chair``, ``an armchair``, ``a TV stand``; ``some books`` for a plural noun."""
    if is_plural(noun):
        return f"some {spelled(noun)}"
    vowel = noun[0] in "aeiou" and not noun.startswith(LIKE_YOU)
    return f"{'an' if vowel else 'a'} {spelled(noun)}"


def without_article(phrase: str) -> str:
    """``chair`` for ``a chair``: what :func:`with_article` was given."""
    article, space, noun = phrase.partition(" ")
    return noun if space and article in ("a", "an", "some") else phrase


def plural(noun: str) -> str:
    """``chairs``, ``bookshelves``, ``boxes``, ``washing machines``, ``chests of drawers``."""
    thing, of, rest = spelled(noun).partition(" of ")
    kind, space, last = thing.rpartition(" ")
    if last in ALREADY_PLURAL:
        return spelled(noun)
    if last in IRREGULAR:
        several = IRREGULAR[last]
    elif last.endswith(("s", "x", "z", "ch", "sh")):
        several = last + "es"
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        several = last[:-1] + "ies"
    else:
        several = last + "s"
    return kind + space + several + of + rest


def numeral(count: int) -> str:
    """``three``; digits from thirteen on."""
    return NUMERALS[count] if 0 <= count < len(NUMERALS) else str(count)


def listing(items: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``; ``nothing`` for no items."""
    if not items:
        return "nothing"
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
