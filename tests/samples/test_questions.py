"""Question templates: enough of them, in three persons, with every blank filled."""

from __future__ import annotations

import string
from collections import Counter

import pytest

from datagen.language import listing, numeral, plural, with_article
from ipt.samples.questions import PLAIN, TEMPLATES, word

BLANKS = {
    "pet_distance": {"object", "turn"},
    "pet_position": {"object", "turn"},
    "pet_distance_arrow": {"object"},
    "pet_position_arrow": {"object"},
    "pt_path": {"map", "start", "end", "side", "views"},
    "pt_midpoint": {"map", "side", "views"},
    "mvc_count": {"objects"},
    "pet_view": {"motion"},
}


@pytest.mark.parametrize("family", BLANKS)
def test_ten_templates_in_three_persons(family: str) -> None:
    chosen = TEMPLATES[family]
    assert len({template.text for template in chosen}) == len(chosen) >= 10
    assert min(Counter(template.person for template in chosen)[person] for person in (1, 2, 3)) >= 3  # type: ignore[index]


@pytest.mark.parametrize("family", BLANKS)
def test_every_template_uses_exactly_its_blanks(family: str) -> None:
    for template in TEMPLATES[family]:
        names = {name for _, name, _, _ in string.Formatter().parse(template.text) if name}
        assert names == BLANKS[family], template.text
        text = word(template, **dict.fromkeys(names, "WORD"))
        assert text.count("WORD") >= len(names) and "{" not in text and "  " not in text
        assert text.rstrip(". WORD").endswith("?") or "?" in text or text.startswith("Count") or family == "pet_view"


def test_plain_wording_asks_every_type_of_question_in_one_short_way() -> None:
    assert PLAIN.keys() == TEMPLATES.keys()
    for family, (template,) in PLAIN.items():
        names = {name for _, name, _, _ in string.Formatter().parse(template.text) if name}
        assert names == BLANKS[family] - {"views"}
        assert len(template.text.split()) <= min(len(other.text.split()) for other in TEMPLATES[family])


def test_no_template_opens_a_tag_or_names_an_answer() -> None:
    for family, chosen in [*TEMPLATES.items(), *PLAIN.items()]:
        for template in chosen:
            assert not set("<>[]") & set(template.text)
            if family.startswith("pt"):
                assert "left" not in template.text and "right" not in template.text


def test_small_english() -> None:
    assert [plural(noun) for noun in ("chair", "box", "bookshelf", "toy", "washing machine", "baby")] == [
        "chairs", "boxes", "bookshelves", "toys", "washing machines", "babies",
    ]  # fmt: skip
    assert with_article("armchair") == "an armchair" and with_article("books") == "some books"
    assert listing([]) == "nothing" and listing(["a", "b", "c"]) == "a, b and c"
    assert numeral(3) == "three" and numeral(40) == "40"
