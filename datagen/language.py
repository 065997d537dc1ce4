"""Small English: articles, plurals and numerals for object nouns."""

from __future__ import annotations

IRREGULAR = {"shelf": "shelves", "bookshelf": "bookshelves", "knife": "knives", "loaf": "loaves", "person": "people"}
ALREADY_PLURAL = ("curtains", "books", "scissors", "blinds", "stairs", "drawers")
NUMERALS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def with_article(noun: str) -> str:
    """``a chair``, ``an armchair``; ``some books`` for a plural noun."""
    if noun.rsplit(" ", 1)[-1] in ALREADY_PLURAL:
        return f"some {noun}"
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(noun: str) -> str:
    """``chairs``, ``bookshelves``, ``boxes``, ``washing machines``."""
    head, space, last = noun.rpartition(" ")
    if last in ALREADY_PLURAL:
        return noun
    if last in IRREGULAR:
        return head + space + IRREGULAR[last]
    if last.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if last.endswith("y") and last[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def numeral(count: int) -> str:
    """``three``; digits from thirteen on."""
    return NUMERALS[count] if 0 <= count < len(NUMERALS) else str(count)


def listing(items: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``; ``nothing`` for no items."""
    if not items:
        return "nothing"
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
