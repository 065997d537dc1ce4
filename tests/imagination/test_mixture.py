"""Mixtures: exact counts, pure functions, distinguishable prompts."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipt.common.registry import UnknownName
from ipt.imagination.mixture import ImaginationConfig, Mixture, assign_modes, make_segmenter
from ipt.imagination.modes.ipt import IptSettings
from ipt.samples.store import SampleReader, write_shard
from ipt.sequence.render import Renderer
from ipt.sequence.segments import Kind, RejectedSample, num_tokens
from ipt.sequence.spans import Role
from tests.imagination.examples import RELEASE, example, mode, renderer
from tests.imagination.recording import same

MIXED = {"ipt": 1.0, "label_only": 1.0}
WEIGHTS = st.lists(st.floats(0, 10), min_size=1, max_size=5).filter(lambda weights: sum(weights) > 0.1)


@given(WEIGHTS, st.integers(0, 300), st.integers(0, 3))
def test_counts_are_exact_in_every_epoch(weights: list[float], rows: int, epoch: int) -> None:
    assigned = assign_modes(weights, rows, 0, epoch)
    counts = np.bincount(assigned, minlength=len(weights))
    assert counts.sum() == rows
    assert (np.abs(counts - rows * np.array(weights) / sum(weights)) < 1 + 1e-9).all()
    assert (counts == np.bincount(assign_modes(weights, rows, 0, epoch + 1), minlength=len(weights))).all()


def test_mixed_is_one_to_one_and_rows_change_their_modes() -> None:
    first, second = (assign_modes([1.0, 1.0], 1001, 7, epoch) for epoch in (0, 1))
    assert sorted(Counter(first.tolist()).values()) == [500, 501]
    assert 400 < (first != second).sum() < 600
    assert (first == assign_modes([1.0, 1.0], 1001, 7, 0)).all()
    assert (first != assign_modes([1.0, 1.0], 1001, 8, 0)).any()


def dataset(folder: Path, rows: int = 12) -> SampleReader:
    write_shard(folder / "a.parquet", [example(id=f"pet-{row}") for row in range(rows)])
    return SampleReader(folder / "a.parquet")


def test_a_mixture_renders_each_row_in_its_mode_under_its_system_prompt(tmp_path: Path) -> None:
    reader = dataset(tmp_path)
    segmenter = make_segmenter(ImaginationConfig(MIXED), renderer(), reader)
    for epoch in (0, 1):
        names = Counter()
        for row, sample in enumerate(reader):
            chosen = segmenter.mode(epoch, row).name
            segments = segmenter(sample, epoch, row)
            assert same(segments, mode(chosen).segments(sample, epoch))
            system = segmenter.renderer.tokenizer.decode(segments[0].payload.ids.tolist())  # type: ignore[union-attr]
            assert segments[0].role is Role.SYSTEM and system == renderer().profile.systems[chosen]
            names[chosen] += 1
        assert names == {"ipt": 6, "label_only": 6}


def test_draws_repeat_the_image_that_is_trained_and_nothing_else(tmp_path: Path) -> None:
    reader = dataset(tmp_path, 1)
    for train_flow, repeated in ((True, 4), (False, 1)):
        config = ImaginationConfig({"ipt": 1.0}, ipt=IptSettings(train_flow=train_flow))
        once, many = (make_segmenter(config, renderer(), reader, draws)(reader[0], 0, 0) for draws in (1, 4))
        place = next(number for number, segment in enumerate(once) if segment.kind is Kind.VAE_NOISED)
        assert same(many, once[:place] + [once[place]] * repeated + once[place + 1 :])


def test_a_sample_too_long_for_its_draws_is_rejected(tmp_path: Path) -> None:
    reader, base = dataset(tmp_path, 1), renderer()
    config = ImaginationConfig({"ipt": 1.0})
    length = num_tokens(make_segmenter(config, base, reader)(reader[0], 0, 0), base.geometry)
    tight = Renderer(base.tokenizer, base.geometry, base.profile, replace(base.config, max_sample_tokens=length))
    assert make_segmenter(config, tight, reader)(reader[0], 0, 0)
    with pytest.raises(RejectedSample, match=rf"at most {length} are allowed"):
        make_segmenter(config, tight, reader, draws=2)(reader[0], 0, 0)


def test_a_segmenter_is_the_same_in_a_worker(tmp_path: Path) -> None:
    reader = dataset(tmp_path)
    segmenter = make_segmenter(ImaginationConfig(MIXED), renderer(), reader)
    copy = pickle.loads(pickle.dumps(segmenter))
    assert all(same(copy(s, 3, row), segmenter(s, 3, row)) for row, s in enumerate(reader))


def test_modes_of_a_mixture_need_different_system_prompts() -> None:
    systems = {**RELEASE.systems, "mvc/label_only": RELEASE.systems["mvc/ipt"]}
    base = renderer()
    made = Renderer(base.tokenizer, base.geometry, replace(RELEASE, systems=systems), base.config)
    with pytest.raises(ValueError, match=r"modes ipt, label_only .* different system prompts for task 'mvc'"):
        Mixture([mode("ipt"), mode("label_only")], [1, 1], made, 4)


def test_mistakes_are_named() -> None:
    with pytest.raises(UnknownName, match=r"unknown imagination mode 'ibt' \(did you mean 'ipt'\?\); valid: caption, "):
        ImaginationConfig({"ibt": 1.0})
    with pytest.raises(ValueError, match=r"positive sum, got \[0, 0\]"):
        Mixture([mode("ipt"), mode("label_only")], [0, 0], renderer(), 4)
    with pytest.raises(ValueError, match="made for 4 rows, there is no row 4"):
        Mixture([mode("ipt")], [1], renderer(), 4).mode(0, 4)
