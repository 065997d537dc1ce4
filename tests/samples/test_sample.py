"""A sample equals its record, its JSON line and its parquet row, and refuses what is not a sample."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipt.common.images import BadImage
from ipt.samples.camera import Camera, CameraPose
from ipt.samples.sample import BadSample, Provenance, SampleImage, SpatialSample
from tests.synthetic import make_sample

texts = st.text(st.characters(codec="utf-8"), max_size=30)
filled = texts.filter(lambda text: bool(text.strip()))
finite = st.floats(-1e6, 1e6)
cameras = st.builds(
    Camera,
    st.builds(CameraPose, st.tuples(finite, finite, finite), finite, finite, finite),
    st.integers(1, 4096),
    st.integers(1, 4096),
    st.floats(1, 170),
    st.none() | st.floats(0.1, 100),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | finite | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def images(role: st.SearchStrategy[str] = texts) -> st.SearchStrategy[SampleImage]:
    return st.builds(SampleImage, st.binary(max_size=64), role, st.none() | cameras)


@st.composite
def samples(draw: st.DrawFn) -> SpatialSample:
    choices = draw(st.lists(filled, min_size=2, max_size=6, unique=True))
    return SpatialSample(
        id=draw(filled),
        task=draw(st.sampled_from(["pet", "pt", "mvc"])),
        split=draw(st.sampled_from(["train", "val", "test"])),
        question=draw(filled),
        question_type=draw(texts),
        choices=tuple(choices),
        answer="ABCDEF"[draw(st.integers(0, len(choices) - 1))],
        images=tuple(draw(st.lists(images(), min_size=1, max_size=4))),
        imagination=draw(images(st.sampled_from(["view", "side_view", "bev"]))),
        rationale=draw(texts),
        caption=draw(texts),
        provenance=draw(st.builds(Provenance, texts, texts, texts, st.integers(0, 2**63 - 1), texts, texts)),
        facts=draw(st.dictionaries(texts, values, max_size=3)),
        counterfactuals=tuple(draw(st.lists(images(), max_size=2))),
    )


@given(samples())
def test_record_and_json_round_trip(sample: SpatialSample) -> None:
    assert SpatialSample.from_record(sample.to_record()) == sample
    assert SpatialSample.from_json(sample.to_json()) == sample


def test_a_sample_without_an_imagination_is_stored_as_one_and_using_it_says_so() -> None:
    sample = make_sample(imagination=SampleImage(b"", "view"))
    assert sample.to_record()["imagination"] is None and not sample.has_imagination
    assert SpatialSample.from_record(sample.to_record()) == sample == SpatialSample.from_json(sample.to_json())
    with pytest.raises(BadImage, match="there is no image"):
        sample.imagination.pixels()


@given(samples(), st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_reordered_choices_keep_the_answer_text(sample: SpatialSample, random: Any) -> None:
    shuffled = random.sample(sample.choices, len(sample.choices))
    assert sample.with_choices(shuffled, sample.answer_text).answer_text == sample.answer_text


def test_tuples_in_facts_become_the_lists_that_are_stored() -> None:
    sample = make_sample(facts={"position": (1, 2.5)})
    assert sample.facts == {"position": [1, 2.5]}
    assert SpatialSample.from_json(sample.to_json()) == sample


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema_version", 2),
        ("id", ""),
        ("task", "chess"),
        ("split", "dev"),
        ("question", "  "),
        ("question", None),
        ("caption", 3),
        ("choices", ("one",)),
        ("choices", ("one", "one")),
        ("choices", ("one", 2)),
        ("answer", "E"),
        ("images", ()),
        ("imagination", SampleImage(b"", "frame_0")),
        ("facts", {"distance": float("nan")}),
        ("facts", {"object": object()}),
        ("facts", [1, 2]),
    ],
)
def test_a_wrong_field_is_named(field: str, value: Any) -> None:
    with pytest.raises(BadSample, match=rf"field '{field}"):
        make_sample(**{field: value})


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("images", [{"bytes": None, "path": "http://example.org/x.png"}] * 2),
        ("images", [{"bytes": b"x", "path": "/etc/passwd"}] * 2),
        ("images_role", ["frame_0"]),
        ("imagination", {"bytes": None, "path": None}),
        ("imagination_camera", "{"),
        ("facts", "{"),
        ("facts", "[1, 2]"),
        ("provenance", {"backend": "toy"}),
        ("choices", None),
    ],
)
def test_a_wrong_column_is_named(column: str, value: Any) -> None:
    with pytest.raises(BadSample, match=f"field '{column.split('_')[0]}'"):
        SpatialSample.from_record({**make_sample().to_record(), column: value})


def test_a_sample_may_ask_for_its_imagination_alone() -> None:
    sample = make_sample(choices=(), answer="")
    assert sample == SpatialSample.from_record(sample.to_record()) == SpatialSample.from_json(sample.to_json())
    for changes, field in (({"answer": "A"}, "answer"), ({"imagination": SampleImage(b"", "view")}, "imagination")):
        with pytest.raises(BadSample, match=f"field '{field}'.*no choices"):
            make_sample(**{"choices": (), "answer": "", **changes})
    with pytest.raises(BadSample, match="field 'choices': this sample asks for a picture alone"):
        _ = sample.answer_index


def test_missing_and_unknown_columns_are_listed() -> None:
    record = make_sample().to_record()
    record["extra"] = record.pop("caption")
    with pytest.raises(BadSample, match=r"unknown fields \['extra'\], missing fields \['caption'\]"):
        SpatialSample.from_record(record)


def test_samples_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_sample().answer = "B"  # type: ignore[misc]
