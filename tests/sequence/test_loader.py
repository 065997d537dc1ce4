"""The loader: the same batches whatever the workers and ranks, resumed or not; and errors that say where."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ipt.model.codec import PatchPca
from ipt.model.config import presets
from ipt.model.unified import UnifiedModel, add_noise
from ipt.samples.store import SampleReader
from ipt.sequence.batch import PackedBatch
from ipt.sequence.loader import Loader, Part, Rows, merge_states
from ipt.sequence.pictures import Picture, normalised
from ipt.sequence.settings import LoaderConfig
from tests.sequence.loading import (
    GEOMETRY,
    SAMPLES,
    TOKENS,
    Words,
    contents,
    make_loader,
    stored,
    with_broken_image,
)
from tests.waiting import HANGS, ended, until


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> SampleReader:
    return stored(tmp_path_factory.mktemp("samples"))


def first(loader: Loader, count: int) -> list[tuple[object, ...]]:
    return [contents(batch) for batch in itertools.islice(loader, count)]


@pytest.fixture(scope="module")
def expected(reader: SampleReader) -> list[tuple[object, ...]]:
    """28 batches: seven steps, more than one epoch."""
    return first(make_loader(reader, Words(latents=True)), 28)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_change_nothing(reader: SampleReader, expected: list[object], workers: int) -> None:
    assert first(make_loader(reader, Words(latents=True), workers=workers), 28) == expected


def test_spawned_workers_give_the_same_batches(reader: SampleReader, expected: list[object]) -> None:
    loader = make_loader(reader, Words(latents=True), workers=1, start_method="forkserver")
    assert first(loader, 4) == expected[:4]


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_the_packs_of_every_step(reader: SampleReader, expected: list[object], world: int) -> None:
    per_step = 4 // world
    ranks = [first(make_loader(reader, Words(latents=True), rank, world), 28 // world) for rank in range(world)]
    for step in range(7):
        for rank, batches in enumerate(ranks):
            for turn, batch in enumerate(batches[step * per_step : (step + 1) * per_step]):
                assert batch == expected[4 * step + turn * world + rank]


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(("before", "after"), [((1, 0), (4, 2)), ((4, 2), (2, 0)), ((2, 1), (1, 4))])
def test_a_saved_state_continues_exactly_on_other_machines(
    reader: SampleReader, expected: list[object], steps: int, before: tuple[int, int], after: tuple[int, int]
) -> None:
    world, workers = before
    loaders = [make_loader(reader, Words(latents=True), rank, world, workers=workers) for rank in range(world)]
    for loader in loaders:
        first(loader, steps * 4 // world)
    state = json.loads(json.dumps(merge_states(loader.state_dict() for loader in loaders)))
    assert len(json.dumps(state)) < 2000
    world, workers = after
    resumed = [make_loader(reader, Words(latents=True), rank, world, workers=workers) for rank in range(world)]
    for loader in resumed:
        loader.load_state_dict(state)
    rest = [first(loader, (7 - steps) * 4 // world) for loader in resumed]
    interleaved = [batch for turn in zip(*rest, strict=True) for batch in turn]
    assert interleaved == expected[4 * steps :]


def test_a_state_within_a_step_continues_with_the_packs_that_are_missing(
    reader: SampleReader, expected: list[object]
) -> None:
    for done in range(9):
        loader, resumed = (make_loader(reader, Words(latents=True)) for _ in range(2))
        first(loader, done)
        resumed.load_state_dict(loader.state_dict())
        assert first(resumed, 4) == expected[done : done + 4] == first(loader, 4)


def test_prefetched_packs_are_not_part_of_the_state(reader: SampleReader) -> None:
    quick, slow = make_loader(reader, workers=4), make_loader(reader)
    for loader in (quick, slow):
        first(loader, 3)
    assert quick.state_dict() == slow.state_dict()


def test_an_epoch_holds_every_row_once_and_the_mixture_exactly(reader: SampleReader, tmp_path: Path) -> None:
    other = stored(tmp_path, SAMPLES[:10])
    parts = [Part("a", reader, Words(), weight=2.0), Part("b", other, Words(), weight=1.0)]
    config = LoaderConfig(budget=120, packs_per_step=2, epochs=2, epoch_rows=45)
    origins = [origin for batch in Loader(parts, TOKENS, GEOMETRY, config) for origin in batch.origins]
    assert Counter(origin.part for origin in origins) == {"a": 60, "b": 30}
    assert len({origin.position for origin in origins}) == len(origins), "every place of the order is used once"
    uses = Counter((origin.part, origin.sample_id) for origin in origins)
    assert len(uses) == 40
    assert {count for (part, _), count in uses.items() if part == "a"} == {2}
    assert {count for (part, _), count in uses.items() if part == "b"} == {3}


def test_origins_name_the_sample_behind_every_span(reader: SampleReader) -> None:
    for batch in itertools.islice(make_loader(reader), 8):
        assert len(batch.origins) == batch.spans.num_samples > 0
        assert batch.spans.num_tokens <= 120
        place = 0
        for number, origin in enumerate(batch.origins):
            length = int(batch.spans.sample_lengths[number])
            ids = batch.token_ids_X[place : place + length - 4].tolist()  # all tokens but the four patches
            place += length - 4
            assert any(
                ids[3:-1] == Words()(SAMPLES[int(origin.sample_id.split("-")[1])], epoch, 0)[1].payload.ids.tolist()
                for epoch in range(3)
            )


def test_rejected_samples_are_counted_logged_and_remembered(
    reader: SampleReader, caplog: pytest.LogCaptureFixture
) -> None:
    loader = make_loader(reader, Words(rejected=7), packs_per_step=1, epochs=1)
    origins = [origin for batch in loader for origin in batch.origins]
    assert len(origins) == 29 and "sample-00007" not in {origin.sample_id for origin in origins}
    assert loader.state_dict()["lanes"]["0"]["rejected"] == 1
    assert "row 7: sample 'sample-00007': too long (lane 0: 1 so far)" in caplog.text


def test_rejecting_everything_is_an_error(tmp_path: Path) -> None:
    reader = stored(tmp_path, SAMPLES[7:8])
    with pytest.raises(ValueError, match="every sample of a whole epoch was rejected"):
        first(make_loader(reader, Words(rejected=7), packs_per_step=1), 1)


def test_a_sample_beyond_the_budget_is_an_error_that_names_it(reader: SampleReader) -> None:
    with pytest.raises(
        ValueError, match=r"row \d+, sample 'sample-\d+' .* 48 tokens does not fit into packs of 47 tokens"
    ):
        first(make_loader(reader, Words(length=40), budget=47), 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_located(tmp_path: Path, workers: int) -> None:
    samples = [with_broken_image(sample) if number == 11 else sample for number, sample in enumerate(SAMPLES)]
    loader = make_loader(stored(tmp_path, samples), epochs=1, workers=workers)
    with pytest.raises(
        ValueError, match=r"train-00000\.parquet, row 11, sample 'sample-00011' .*images\.frame_0: broken"
    ):
        first(loader, 100)


def test_a_worker_that_dies_is_an_error(reader: SampleReader) -> None:
    with pytest.raises(RuntimeError, match="a loader worker died"):
        first(make_loader(reader, Words(deadly=11), workers=1, epochs=1), 100)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_signals_that_end_a_run_leave_its_workers_to_the_main_process(
    number: signal.Signals, reader: SampleReader, expected: list[object]
) -> None:
    batches = iter(make_loader(reader, Words(latents=True), workers=1))
    assert contents(next(batches)) == expected[0]
    for worker in multiprocessing.active_children():
        os.kill(worker.pid or 0, number)
    assert [contents(batch) for batch in itertools.islice(batches, 27)] == expected[1:]


def test_every_row_is_prepared_once(reader: SampleReader, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    prepare = Rows.__getitem__
    monkeypatch.setattr(Rows, "__getitem__", lambda rows, position: made.append(position) or prepare(rows, position))
    loader = make_loader(reader)
    used = [origin.position for batch in itertools.islice(loader, 8) for origin in batch.origins]
    assert len(set(made)) == len(made) >= len(used) and set(used) <= set(made)


ORPHANED = """
import multiprocessing, sys
from pathlib import Path
from ipt.samples.store import SampleReader
from tests.sequence.loading import make_loader
if __name__ == "__main__":
    batches = iter(make_loader(SampleReader(Path(sys.argv[1])), workers=2, start_method=sys.argv[2]))
    next(batches)
    print(*(process.pid for process in multiprocessing.active_children()), flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("method", ["fork", pytest.param("forkserver", marks=pytest.mark.long)])
def test_workers_end_when_the_main_process_is_killed(reader: SampleReader, tmp_path: Path, method: str) -> None:
    (tmp_path / "program.py").write_text(ORPHANED)
    command = [sys.executable, str(tmp_path / "program.py"), str(reader.source), method]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    main = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert main.stdout is not None
    workers = [psutil.Process(int(pid)) for pid in main.stdout.readline().split()]
    assert len(workers) == 2
    main.kill()
    main.communicate(timeout=HANGS)  # every process that was started holds this pipe
    until(lambda: all(map(ended, workers)), "the end of the workers")


def test_data_that_changed_since_the_state_was_saved_is_noticed(reader: SampleReader) -> None:
    loader = make_loader(reader)
    first(loader, 4)
    other = make_loader(reader, Words(length=39))
    other.load_state_dict(loader.state_dict())
    with pytest.raises(ValueError, match=r"sample 'sample-\d+' .* has 47 tokens, but had \d+ when it was measured"):
        first(other, 20)


def test_a_foreign_or_incomplete_state_is_refused(reader: SampleReader) -> None:
    state = make_loader(reader).state_dict()
    with pytest.raises(ValueError, match="budget: 120 there, 99 here"):
        make_loader(reader, budget=99).load_state_dict(state)
    halves = [make_loader(reader, rank=rank, world=2).state_dict() for rank in range(2)]
    with pytest.raises(ValueError, match=r"lacks the lanes \[1, 3\]; merge"):
        make_loader(reader).load_state_dict(halves[0])
    with pytest.raises(ValueError, match="two of the loader states hold the lanes 0, 2"):
        merge_states([halves[0], halves[0]])
    with pytest.raises(ValueError, match="another run"):
        merge_states([halves[0], make_loader(reader, seed=1, rank=1, world=2).state_dict()])
    assert merge_states(halves) == state


def test_ranks_must_share_a_step_evenly(reader: SampleReader) -> None:
    for rank, world in ((0, 3), (2, 2)):
        with pytest.raises(ValueError, match="packs_per_step must be a multiple"):
            make_loader(reader, rank=rank, world=world)
    with pytest.raises(ValueError, match="open_packs must be positive"):
        replace(LoaderConfig(), open_packs=0)


def summed_loss(batches: list[PackedBatch], codec: PatchPca) -> Tensor:
    """Cross-entropy over all trained tokens and squared error over all noised ones, both summed over the batches."""
    config = replace(
        presets["tiny"], decoder=replace(presets["tiny"].decoder, hidden=32, intermediate=32, layers=2, vocab=64)
    )
    model = UnifiedModel(config).double()
    model.initialise(torch.Generator().manual_seed(0))
    total = torch.zeros((), dtype=torch.float64)
    for batch in batches:
        clean = batch.encoded(codec.encode)
        latents = clean.noised_latents()
        times = torch.full((len(clean.spans.noised_images),), 0.3)
        noised, target = add_noise(clean, times, latents.cos())
        with torch.no_grad():
            output = model(clean, noised)
        assert output.logits_CV is not None
        total += F.cross_entropy(output.logits_CV, clean.labels_C, reduction="sum")
        total += (output.velocities_FD - target).square().sum()
    return total


def test_the_loss_of_an_epoch_does_not_depend_on_the_packing(reader: SampleReader) -> None:
    codec = PatchPca.fit(
        [normalised(Picture(s.imagination.data, ((16, 16),)).pixels()) for s in SAMPLES], patch=8, channels=48
    )
    losses = [
        summed_loss(list(make_loader(reader, Words(latents=True), epochs=1, **settings)), codec)
        for settings in ({}, {"budget": 400, "packs_per_step": 1}, {"budget": 60, "seed": 5, "packs_per_step": 2})
    ]
    assert losses[0] > 0
    for other in losses[1:]:
        assert torch.isclose(losses[0], other, rtol=1e-5)
