"""Drawing and describing alone: the prompt, what is asked for, and nothing to answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ipt.common.errors import UserError
from ipt.imagination.mixture import ImaginationConfig
from ipt.imagination.modes.draw import Draw, DrawSettings
from ipt.imagination.modes.ipt import IptSettings
from ipt.inference.plans import answers_unseen
from ipt.samples.prompts import IMAGE_END, IMAGE_START, describe, think
from ipt.samples.sample import BadSample
from ipt.sequence.spans import Loss, Role
from tests.imagination.examples import example, ipt, mode
from tests.imagination.recording import same


def drawing(settings: DrawSettings) -> Draw:
    return Draw(mode("draw").renderer, settings)


DRAWING = replace(example("pet"), question="Move to the X, turn left.", choices=(), answer="")


def test_a_picture_is_announced_and_drawn_and_nothing_follows() -> None:
    draw = mode("draw")
    *prompt, announced, image = draw.segments(DRAWING, 0)
    decode = draw.renderer.tokenizer.decode
    assert [segment.loss for segment in prompt] == [Loss.NONE] * len(prompt)
    assert decode(prompt[0].payload.ids.tolist()) == draw.renderer.profile.system("pet", "draw")
    assert decode(prompt[-1].payload.ids.tolist()) == DRAWING.question
    thought = draw.renderer.profile.thoughts_of("pet")[0]
    assert decode(announced.payload.ids.tolist()) == think(thought) + IMAGE_START and announced.loss is Loss.CE
    assert image.loss is Loss.FLOW and image.role is Role.IMAGINATION


def test_a_picture_is_asked_for_as_where_an_answer_follows() -> None:
    """So that training goes on from it: announcement and image are those of the mode ipt, for the same sample."""
    asked = example("pet")
    drawn, answered = mode("draw").segments(asked, 0), mode("ipt").segments(asked, 0)
    place = next(number for number, segment in enumerate(answered) if segment.loss is Loss.FLOW)
    assert same(drawn[-2:], answered[place - 1 : place + 1])


def test_a_picture_that_is_described_is_shown_as_to_an_answer() -> None:
    """In as many samples as are asked for, and after what is drawn anyhow."""
    settings = DrawSettings(described=1.0, condition=("vit",))
    draw, plain = drawing(settings), mode("draw").segments(DRAWING, 0)
    *drawn, shown, text = draw.segments(DRAWING, 0)
    answered = ipt(settings=IptSettings(condition=("vit",))).segments(example("pet"), 0)
    assert same(drawn, plain) and same([shown], answered[-2:-1])
    assert draw.renderer.tokenizer.decode(text.payload.ids.tolist()) == IMAGE_END + describe(DRAWING.caption)
    assert (text.loss, text.role) == (answered[-1].loss, answered[-1].role) == (Loss.CE, Role.ANSWER)
    both = drawing(replace(settings, condition=("vae", "vit"))).segments(DRAWING, 0)
    assert len(both) == len(plain) + 3
    some = drawing(replace(settings, described=0.3))
    lengths = [len(some.segments(DRAWING, epoch)) for epoch in range(200)]
    assert 35 <= lengths.count(len(plain) + 2) <= 85 and lengths.count(len(plain)) == 200 - lengths.count(
        len(plain) + 2
    )
    with pytest.raises(UserError, match=r"imagination.draw.described is a probability, got 1.5"):
        DrawSettings(described=1.5)


LESSON = {"question": "Which is there?", "choices": ["a lamp", "a sofa"], "answer": "a sofa"}


def test_a_picture_that_is_asked_about_is_shown_and_the_letter_of_what_it_shows_is_trained() -> None:
    """After its description where there is one; in as many samples as are asked for, and never where the pair has no question."""
    pair = replace(DRAWING, facts={**DRAWING.facts, "asked": LESSON})
    settings = DrawSettings(asked=1.0, condition=("vit",))
    draw, plain = drawing(settings), mode("draw").segments(pair, 0)
    question = "Which is there?\n(A) a lamp\n(B) a sofa"

    def texts(segments: list[Any]) -> list[str]:
        return [draw.renderer.tokenizer.decode(segment.payload.ids.tolist()) for segment in segments]

    *drawn, shown, asked, answer = draw.segments(pair, 0)
    assert same(drawn, plain) and shown.role is Role.IMAGINATION
    assert texts([asked, answer]) == [IMAGE_END + question, "<answer>B</answer>"]
    assert (asked.role, asked.loss, answer.role, answer.loss) == (Role.QUESTION, Loss.NONE, Role.ANSWER, Loss.CE)
    both = drawing(replace(settings, described=1.0)).segments(pair, 0)
    assert texts(both[-3:]) == [IMAGE_END + describe(pair.caption), question, "<answer>B</answer>"]
    some = drawing(replace(settings, asked=0.3))
    asked_at = [len(some.segments(pair, epoch)) > len(plain) for epoch in range(200)]
    assert 35 <= sum(asked_at) <= 85
    assert same(draw.segments(replace(pair, facts={"asked": None}), 0), plain)
    with pytest.raises(BadSample, match=r"facts: has no 'asked'.*task.asked=true"):
        draw.segments(DRAWING, 0)
    with pytest.raises(UserError, match=r"imagination.draw.asked is a probability, got -0.5"):
        DrawSettings(asked=-0.5)


def test_a_description_is_written_and_nothing_follows() -> None:
    described = mode("describe")
    *_, text = described.segments(DRAWING, 0)
    assert described.renderer.tokenizer.decode(text.payload.ids.tolist()) == describe(DRAWING.caption)
    assert text.loss is Loss.CE
    with pytest.raises(BadSample, match="field 'caption'"):
        described.segments(replace(DRAWING, caption=""), 0)


@pytest.mark.parametrize("name", ["label_only", "text_cot", "caption", "ipt"])
def test_a_sample_that_asks_for_a_picture_trains_no_answer(name: str) -> None:
    with pytest.raises(BadSample, match="sample 'pet-0', field 'choices': this sample asks for a picture alone"):
        mode(name).segments(DRAWING, 0)


def test_who_also_draws_without_answering_answers_as_before() -> None:
    def trained(*modes: str) -> ImaginationConfig:
        return replace(ImaginationConfig(dict.fromkeys(modes, 1.0)), ipt=IptSettings(reveal=0.5))

    assert answers_unseen(trained("ipt", "draw", "describe")) == answers_unseen(trained("ipt")) == "ipt"
    assert answers_unseen(trained("ipt", "label_only")) is None
    assert trained("draw", "describe").mediators == () and trained("draw", "describe").drawing == ("draw",)
