"""The published rules of answer extraction, one row each, and what must not be read as an answer."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipt.samples.answers import parse_answer

SIDES = ("Left", "Right")
THINGS = ("a bed", "a sofa", "a lamp", "a sink")
COUNTS = ("1", "2", "3", "4")
NESTED = ("lamp", "floor lamp", "lamp and table", "sink")


@pytest.mark.parametrize(
    ("text", "choices", "expected"),
    [
        # an answer tag, in every form in which decoding may end
        ("<answer>B</answer>", SIDES, 1),
        ("<answer> b </answer>", SIDES, 1),
        ("<ANSWER>(B)</ANSWER>", SIDES, 1),
        ("<answer>B</answer", SIDES, 1),
        ("<answer>B</>", SIDES, 1),
        ("<answer>B", SIDES, 1),
        ("<answer>B<answer>", SIDES, 1),
        ("<think>It is A. The answer is A.</think><answer>B</answer>", SIDES, 1),
        ("<think>Say <answer>A</answer>?</think><answer>B</answer>", SIDES, 1),
        ("<think_image>A bed.</think_image><answer>D</answer>", THINGS, 3),
        ("between <answer> and </answer>: <answer>B</answer>", SIDES, 1),
        ("<answer>B</answer> Next question. <answer>A</answer>", SIDES, 1),
        # the words of an option, in a tag
        ("<answer>Right</answer>", SIDES, 1),
        ("<answer>the LAMP.</answer>", THINGS, 2),
        ("<answer>3</answer>", COUNTS, 2),
        ("<answer>B. Right</answer>", SIDES, 1),
        ("<answer>B) a sofa</answer>", THINGS, 1),
        ("<answer>A lamp</answer>", THINGS, 2),
        ("<answer>\\boxed{B}</answer>", SIDES, 1),
        ("<answer>The answer is B.</answer>", SIDES, 1),
        ("<answer>**B**</answer>", SIDES, 1),
        # a broken tag
        (">B</answer>", SIDES, 1),
        ("B</answer>", SIDES, 1),
        ("swer>B</answer>", SIDES, 1),
        ("B</>", SIDES, 1),
        ("some words\n>B", SIDES, 1),
        # \boxed{}
        (r"So it is \boxed{B}.", SIDES, 1),
        (r"$\boxed{\text{Right}}$", SIDES, 1),
        (r"The answer is A? No: \boxed{B}", SIDES, 1),
        # a declaration
        ("The answer is B.", SIDES, 1),
        ("the answer is: (b)", SIDES, 1),
        ("The answer is **B** since the sofa is there.", SIDES, 1),
        ("The answer is:\nB", SIDES, 1),
        ("The answer is B because A is behind us.", SIDES, 1),
        ("The answer is B, because A is behind us.", SIDES, 1),
        ("Final answer: B", SIDES, 1),
        ("**Answer:** B", SIDES, 1),
        ("Answer - B", SIDES, 1),
        ('{"answer": "B"}', SIDES, 1),
        ("The correct option is B.", SIDES, 1),
        ("The answer is a lamp on the table.", THINGS, 2),
        ("The answer is 3 chairs.", COUNTS, 2),
        ("The answer is the floor lamp by the bed.", NESTED, 1),
        ("First: the answer is A. But then, the answer is B.", SIDES, 1),
        ("<think>The answer is B.</think>", SIDES, 1),
        # a letter that is introduced
        ("The answer is option B.", SIDES, 1),
        ("the answer is Option B", SIDES, 1),
        ("The answer is option B. I am sure.", SIDES, 1),
        ("The answer is option B because option A is behind us.", SIDES, 1),
        ("The answer is the option (B), as it turns right.", SIDES, 1),
        ("Answer: Option B: Right", SIDES, 1),
        ("**Answer: Option B**", SIDES, 1),
        ("The correct answer is choice D, the sink.", THINGS, 3),
        ("The best choice is letter b.", SIDES, 1),
        ("The answer is **option B**.", SIDES, 1),
        ("<answer>Option B</answer>", SIDES, 1),
        ("<answer>option B) a sofa</answer>", THINGS, 1),
        (r"\boxed{\text{Option B}}", SIDES, 1),
        ("So we turn. **Option B**", SIDES, 1),
        ("Let us see.\nOption B.", SIDES, 1),
        ("Option B", SIDES, 1),
        ("Option B is correct.", SIDES, 1),
        ("Let us see.\n**Option C** is the right one.\nThe others are behind us.", THINGS, 2),
        ("The answer is option b.", ("option c", "option b"), 1),
        # an option at the start, a bold one, the last line, nothing else
        ("B. Right", SIDES, 1),
        ("b) right, as it turns", SIDES, 1),
        ("B: it turns right\nand so on", SIDES, 1),
        ("The camera turns **B: Right** here.", SIDES, 1),
        ("It is **B**, yes, **B**.", SIDES, 1),
        ("Let us see.\nIt turns.\n(B)", SIDES, 1),
        ("A. Left: no.\nB. Right: yes.\nB", SIDES, 1),
        ("Let us see.\nright", SIDES, 1),
        ("B", SIDES, 1),
        ("Right.", SIDES, 1),
        ("z", tuple(f"option {letter}" for letter in string.ascii_lowercase), 25),
    ],
)
def test_a_choice_is_read(text: str, choices: tuple[str, ...], expected: int) -> None:
    assert parse_answer(text, choices) == expected


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("", SIDES),
        ("   \n ", SIDES),
        ("<image_start><image_start>", SIDES),
        ("<answer></answer>", SIDES),
        ("<answer>neither</answer> **A**", SIDES),
        ("<answer>C</answer>", SIDES),
        ("<answer>5</answer>", COUNTS),
        ("<answer>13</answer>", COUNTS),
        ("<answer>leftmost</answer>", SIDES),
        ("<answer>A bench</answer>", THINGS),
        ("<answer>left or right</answer>", SIDES),
        ("I see a bed and a sofa on the left.", SIDES),
        ("Answer: Both", SIDES),
        ("Answer: All of them", SIDES),
        ("The answer is a matter of taste.", SIDES),
        ("The answer is not B", SIDES),
        ("The answer is A or B.", SIDES),
        ("The answer is A, B or both.", SIDES),
        ("The answer is a bed or a sofa.", THINGS),
        ("Answer with A or B only.", SIDES),
        ("The answer is option A or B.", SIDES),
        ("The answer is option A or option B.", SIDES),
        ("The answer is option A, B or both.", SIDES),
        ("The answer is option C.", SIDES),
        ("The answer is optional.", SIDES),
        ("The answer is option bed.", SIDES),
        ("The answer is neither option A", SIDES),
        ("Option A is wrong, option B as well.", SIDES),
        ("Option A is not correct.", SIDES),
        ("Option A is correct.\nOption B is correct.", SIDES),
        ("It is hard to say whether option A fits.", SIDES),
        ("Option A shows a bed.", SIDES),
        ("**A** is wrong, **B** as well.", SIDES),
        ("A. Left\nB. Right", SIDES),
        ("A: not visible.\nB: behind us.\nI cannot tell.", SIDES),
        ("<answer>lamp</answer>", ("a lamp", "the lamp")),
    ],
)
def test_nothing_is_read_where_nothing_was_chosen(text: str, choices: tuple[str, ...]) -> None:
    assert parse_answer(text, choices) is None


@given(
    st.lists(
        st.text("abcdefgh ", min_size=2, max_size=8).map(str.strip).filter(lambda t: len(t) > 1),
        min_size=2,
        max_size=6,
        unique=True,
    ),
    st.data(),
)
def test_what_training_writes_is_read_back_whatever_the_options_are(choices: list[str], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(choices) - 1))
    reasoning = data.draw(st.text(max_size=40).filter(lambda text: "<" not in text))
    text = f"<think>{reasoning}</think><answer>{string.ascii_uppercase[index]}</answer>"
    assert parse_answer(text, choices) == index


@given(st.text(max_size=200), st.sampled_from([SIDES, THINGS, COUNTS]))
def test_any_text_is_an_option_or_invalid(text: str, choices: tuple[str, ...]) -> None:
    assert parse_answer(text, choices) in (None, *range(len(choices)))


@pytest.mark.parametrize(
    "piece", ["A ", "**a", "answer is ", " ", "\\boxed{", "x</", "(", "\n>", "- ", "option a", "\n*option "]
)
def test_a_declaration_is_found_behind_a_megabyte_of_anything(piece: str) -> None:
    assert parse_answer(piece * (1_000_000 // len(piece)) + "\nThe answer is B.", SIDES) == 1
    assert parse_answer(piece * (1_000_000 // len(piece)) + "<answer>B</answer>", SIDES) == 1
