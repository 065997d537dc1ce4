"""Prompts: escaping, layouts, profiles."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipt.common.files import CorruptFile
from ipt.common.seeding import generator
from ipt.imagination.modes import modes
from ipt.imagination.recipe import load_profile
from ipt.samples.prompts import (
    ANSWER,
    IMAGE_START,
    RELEASE_LAYOUTS,
    THINK,
    Layout,
    Profile,
    describe,
    escape,
    render_prompt,
    think,
    write_prompts,
)
from ipt.samples.sample import TASKS, BadSample, SpatialSample
from tests.synthetic import make_sample

TAGS = [
    *(f"<{slash}{name}>" for slash in ("", "/") for name in ("think", "think_image", "image_start", "image_end", "answer")),
    *("<img>", "</img>", "<|image_1|>", "<image_12>", "<image>", "<|im_start|>", "<|im_end|>", "<|vision_start|>"),
]  # fmt: skip
DEFAULT = load_profile()
SYSTEM = DEFAULT.systems["label_only"]
HOSTILE = st.lists(st.sampled_from([*TAGS, *"<>/|& aI", "THINK>", "image_start", "\n"]), max_size=12).map("".join)


def default_with(layout: Layout) -> Profile:
    return replace(DEFAULT, layouts={"mvc": layout})


@given(HOSTILE)
def test_no_tag_survives_and_nothing_else_changes(text: str) -> None:
    escaped = escape(text)
    assert not any(tag in escaped.lower() for tag in TAGS)
    assert escaped.replace("&lt;", "<") == text.replace("&lt;", "<")
    assert escape(escaped) == escaped


def test_harmless_text_is_left_alone() -> None:
    text = "Is x < 3 and y > 2? See <b>, <thinking> & &lt;"
    assert escape(text) == text
    assert escape("<THINK>") == "&lt;THINK>"


@given(HOSTILE.filter(lambda text: "<image_12>" not in text), HOSTILE, st.sampled_from(["default", "release"]))
def test_data_cannot_open_a_tag_in_a_prompt_or_a_mediator(question: str, choice: str, name: str) -> None:
    sample = make_sample(question=f"? {question}", choices=(f"1 {choice}", "2"), answer="A")
    layout = DEFAULT.layout("mvc") if name == "default" else RELEASE_LAYOUTS["mvc"]
    texts = [part.text for part in render_prompt(sample, "label_only", default_with(layout)) if part.role == "question"]
    for text in (*(text.removeprefix(SYSTEM) for text in texts), think(question)[7:-8], describe(question)[13:-14]):
        assert not any(tag in text.lower() for tag in TAGS)


@pytest.mark.parametrize(("task", "mode"), itertools.product(TASKS, modes))
def test_the_default_profile_names_the_tags_that_the_mode_writes(task: str, mode: str) -> None:
    system = DEFAULT.system(task, mode)
    assert (ANSWER in system) == modes[mode].answers and system.isascii()
    assert (THINK in system) == (mode in ("text_cot", "ipt", "draw"))
    assert (IMAGE_START in system) == (modes[mode].draws or mode == "discrete")


def parts(sample: SpatialSample, layout: Layout) -> list[tuple[str, str]]:
    return [
        (part.role, part.text if part.image is None else part.image.role)
        for part in render_prompt(sample, "ipt", default_with(layout))
    ]


def test_layouts_order_texts_images_and_options() -> None:
    sample = make_sample(question="How many on <image_2>?", choices=("1", "2"), answer="A")
    system, images = DEFAULT.systems["ipt"], [("observation", "frame_0"), ("observation", "frame_1")]
    question = "How many on image 2?\n(A) 1\n(B) 2"
    assert parts(sample, Layout()) == [("system", system), *images, ("question", question)]
    joined = Layout(order=(("images",), ("system", "question")), joint=" ", option="{letter}) {choice}", separator=" ")
    assert parts(sample, joined) == [*images, ("question", f"{system} How many on image 2? A) 1 B) 2")]
    named = parts(sample, RELEASE_LAYOUTS["pt"])
    assert named[-1][1].startswith("How many on <img><|image_2|></img>?")


@pytest.mark.parametrize("number", [0, 3])
def test_an_image_that_is_not_there_cannot_be_named(number: int) -> None:
    with pytest.raises(BadSample, match=rf"field 'question': names image {number}, the sample has 2 images"):
        render_prompt(make_sample(question=f"<image_{number}>"), "ipt", DEFAULT)


@pytest.mark.parametrize("order", [(("system",), ("question",)), (("system", "images"), ("question",))])
def test_a_layout_holds_everything_once(order: tuple[tuple[str, ...], ...]) -> None:
    with pytest.raises(ValueError, match=r"once each|cannot share"):
        Layout(order=order)  # type: ignore[arg-type]


def test_the_release_profile_is_what_was_written(tmp_path: Path) -> None:
    systems, thoughts = {"pet/ipt": "Think.", "label_only": "Answer."}, {"pet": ["Let me see.", "Now."]}
    path = write_prompts(tmp_path, systems, thoughts)
    for source in (tmp_path, path):
        profile = load_profile("release", source)
        assert profile.system("pet", "ipt") == "Think." and profile.system("mvc", "label_only") == "Answer."
        assert profile.thoughts_of("pet") == ("Let me see.", "Now.")
    with pytest.raises(ValueError, match=r"no system prompt for mode 'ipt' of task 'pt'; it has: label_only, pet/ipt"):
        profile.system("pt", "ipt")
    with pytest.raises(ValueError, match="no thoughts for task 'pt'"):
        profile.thoughts_of("pt")


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        '{"systems": {"ipt": ""}, "thoughts": {}}',
        '{"systems": {"pet/dreams": "x"}, "thoughts": {}}',
        '{"systems": {}, "thoughts": {"chess": ["x"]}}',
        '{"systems": {}, "thoughts": {"pet": [1]}}',
        "[]",
    ],
)
def test_a_wrong_prompts_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "prompts.json").write_text(content)
    with pytest.raises(
        CorruptFile, match=r"prompts\.json( does not hold 'systems'|: expected a JSON object, got \[\])"
    ):
        load_profile("release", tmp_path)


def test_profiles_are_chosen_by_name(tmp_path: Path) -> None:
    assert load_profile("default") == DEFAULT
    with pytest.raises(ValueError, match="unknown profile 'ours'"):
        load_profile("ours")
    with pytest.raises(ValueError, match=r"reads its system prompts from the prompts\.json"):
        load_profile("release")


def test_a_published_row_keeps_its_own_thought_in_the_release_profile_only() -> None:
    """PT's published thoughts name the queried side: another row's would be wrong."""
    sample = make_sample()
    own = replace(sample, facts={**sample.facts, "thought": "Looking left from midpoint M1:"})
    rng = generator(0, "thought")
    default = DEFAULT
    release = replace(default, name="release")
    assert release.thought_of(own, rng) == "Looking left from midpoint M1:"
    assert release.thought_of(sample, rng) in release.thoughts_of(sample.task)
    assert default.thought_of(own, rng) in default.thoughts_of(sample.task)
