"""Articles, plurals and lists against a table written by hand."""

from __future__ import annotations

import pytest

from datagen.language import counted, head, listing, numeral, plural, spelled, with_article, without_article


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
        ("tv stand", "a TV stand", "TV stands"),
        ("urinal", "a urinal", "urinals"),
        ("umbrella", "an umbrella", "umbrellas"),
        ("utensil", "a utensil", "utensils"),
        ("exercise bike", "an exercise bike", "exercise bikes"),
    ],
)
def test_one_and_several(noun: str, one: str, several: str) -> None:
    assert with_article(noun) == one and plural(noun) == several


@pytest.mark.parametrize(
    ("count", "noun", "words"),
    [
        (1, "chair", "one chair"),
        (3, "tv stand", "three TV stands"),
        (1, "books", "one set of books"),
        (2, "books", "two sets of books"),
    ],
)
def test_counts_inflect(count: int, noun: str, words: str) -> None:
    assert counted(count, noun) == words


@pytest.mark.parametrize("noun", ["chair", "armchair", "books", "chest of drawers", "tv stand"])
def test_articles_come_off_again(noun: str) -> None:
    assert without_article(with_article(noun)) == spelled(noun)


@pytest.mark.parametrize(
    ("noun", "kind"),
    [("coffee table", "table"), ("chest of drawers", "chest"), ("lamp", "lamp"), ("box of books", "box")],
)
def test_the_head_of_a_noun_is_what_it_is_a_kind_of(noun: str, kind: str) -> None:
    assert head(noun) == kind


def test_numerals_and_lists() -> None:
    assert [numeral(count) for count in (0, 1, 12, 13)] == ["zero", "one", "twelve", "13"]
    assert listing([]) == "nothing" and listing(["a"]) == "a" and listing(["a", "b", "c"]) == "a, b and c"
