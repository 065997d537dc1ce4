"""Articles, plurals and lists against a table written by hand."""

from __future__ import annotations

import pytest

from datagen.language import listing, numeral, plural, with_article


@pytest.mark.parametrize(
    ("noun", "one", "several"),
    [
        ("chair", "a chair", "chairs"),
        ("armchair", "an armchair", "armchairs"),
        ("bookshelf", "a bookshelf", "bookshelves"),
        ("shelf", "a shelf", "shelves"),
        ("box", "a box", "boxes"),
        ("bench", "a bench", "benches"),
        ("tissue box", "a tissue box", "tissue boxes"),
        ("washing machine", "a washing machine", "washing machines"),
        ("toy", "a toy", "toys"),
        ("berry", "a berry", "berries"),
        ("books", "some books", "books"),
        ("kitchen drawers", "some kitchen drawers", "kitchen drawers"),
        ("chest of drawers", "a chest of drawers", "chests of drawers"),
        ("bar of soap", "a bar of soap", "bars of soap"),
        ("box of books", "a box of books", "boxes of books"),
        ("urinal", "a urinal", "urinals"),
        ("umbrella", "an umbrella", "umbrellas"),
        ("utensil", "a utensil", "utensils"),
        ("exercise bike", "an exercise bike", "exercise bikes"),
    ],
)
def test_one_and_several(noun: str, one: str, several: str) -> None:
    assert with_article(noun) == one and plural(noun) == several


def test_numerals_and_lists() -> None:
    assert [numeral(count) for count in (0, 1, 12, 13)] == ["zero", "one", "twelve", "13"]
    assert listing([]) == "nothing" and listing(["a"]) == "a" and listing(["a", "b", "c"]) == "a, b and c"
