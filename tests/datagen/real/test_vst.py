"""VST from its published layout: instructions by hand, what is left out and why, errors with row, resume, equal bytes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datagen import run
from datagen.backends.base import SceneError
from datagen.config import RunConfig, run_config
from datagen.judge import judge, probes
from datagen.real.vst import VstBackend, VstConfig, VstMotion
from datagen.tasks.base import SceneView
from datagen.verify import recheck
from datagen.yields import NoYield, Yields
from ipt.common.endpoint import Endpoint
from ipt.common.errors import UserError
from ipt.common.seeding import generator
from ipt.samples.store import SampleReader
from tests.datagen.conftest import interrupted, shards
from tests.datagen.real.made_vst import GOOD, ROWS, rows, save, write
from tests.stub_endpoint import Stub, serving

EACH = len(GOOD)  # samples of a file


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("vst") / "vst_500k")


def settings(root: Path, output: Path, backend: dict[str, Any] | None = None, **changes: Any) -> RunConfig:
    """A run of all good rows; ``backend`` settings as the command line gives them."""
    values = {"num_samples": 2 * EACH, "seed": 3, "image_size": 48, "samples_per_shard": 8, **changes}
    where = {"name": "vst", "root": str(root), **(backend or {})}
    return run_config({"task": {"name": "pet"}, **values, "backend": where, "output_dir": str(output)})


def generate(config: RunConfig) -> dict[str, Any]:
    return run.generate(config, quiet=True)


@pytest.fixture(scope="module")
def made(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    generate(settings(root, folder))
    return folder


def row_of(scene_id: str) -> int:
    return int(scene_id.rpartition("-row")[2])


def test_every_row_that_tells_a_motion_becomes_an_instruction(made: Path) -> None:
    samples = list(SampleReader(made))
    assert Counter(row_of(sample.provenance.scene_id) for sample in samples) == dict.fromkeys(GOOD, 2)
    for sample in samples:
        question, _, answer, instruction, _, _ = ROWS[row_of(sample.provenance.scene_id)]
        assert instruction is not None and instruction in sample.question and sample.facts["said"] == answer
        assert question in sample.facts["asked"] and "<|image_pad|>" not in sample.facts["asked"]
        assert sample.task == "pet" and not sample.choices and not sample.answer
        first, second = sample.images[0], sample.imagination
        assert (first.role, second.role) == ("observation", "view")
        assert first.pixels().shape == (36, 48, 3), "the longer side is image_size"
        assert first.pixels()[:, -1].mean() < 60 < 140 < second.pixels()[:, -1].mean(), (
            "the second picture is the target"
        )
    kinds = Counter(sample.question_type for sample in samples)
    assert kinds == {"view_after_move": 2 * (EACH - 3), "view_after_turn": 6}


def test_what_is_left_out_is_counted_by_its_reason(root: Path, tmp_path: Path) -> None:
    config = settings(root, tmp_path)
    yields, task = Yields(), VstMotion(config.task)
    with VstBackend(VstConfig(str(root))) as backend:
        for scene_id in backend.scenes("train"):
            task.propose(SceneView(backend, backend.load(scene_id), 48, config.task), generator(0), yields)
    assert {name: count for name, count in yields.rejected.items() if count} == {
        "row.two_pictures": 2,
        "motion.determined": 2,
        "motion.understood": 4,
        "motion.one_kind": 4,
        "motion.one_reference": 2,
        "pictures.differ": 2,
    }


def test_the_manifest_names_the_licence_and_motions_are_read_again(root: Path, made: Path) -> None:
    manifest = json.loads((made / "manifest.json").read_text())
    assert manifest["complete"] and any("VST" in licence for licence in manifest["licences"])
    samples = list(SampleReader(made))
    with VstBackend(VstConfig(str(root))) as backend:
        assert not list(recheck(samples, backend))
        wrong = replace(samples[0], facts={**samples[0].facts, "answer": "move down"})
        assert [mismatch.sample_id for mismatch in recheck([wrong], backend)] == [wrong.id]


def test_two_workers_and_a_killed_run_give_the_same_bytes(root: Path, made: Path, tmp_path: Path) -> None:
    generate(settings(root, tmp_path / "two", workers=2))
    killed = settings(root, tmp_path / "killed")
    interrupted(killed, 7)
    generate(killed)
    assert shards(made) == shards(tmp_path / "two") == shards(tmp_path / "killed") and len(shards(made)) == 3


def test_every_setting_is_heard(root: Path, tmp_path: Path) -> None:
    turns = settings(root, tmp_path / "turns", {"kinds": ["turn"]}, num_samples=6)
    generate(turns)
    assert {sample.question_type for sample in SampleReader(tmp_path / "turns")} == {"view_after_turn"}
    generate(settings(root, tmp_path / "alike", {"min_change": 0.0}, num_samples=2 * EACH + 2))
    plain = settings(root, tmp_path / "plain", num_samples=1, task={"name": "pet", "plain": True})
    generate(plain)
    assert next(iter(SampleReader(tmp_path / "plain"))).question.startswith("Draw: ")
    with pytest.raises(UserError, match="elsewhere has no"):
        generate(settings(root, tmp_path / "folder", {"folder": "elsewhere"}))
    with pytest.raises(UserError, match=r"backend\.kinds.*'fly'"):
        settings(root, tmp_path / "kinds", {"kinds": ["fly"]})
    with pytest.raises(UserError, match="min_change must not be negative"):
        settings(root, tmp_path / "change", {"min_change": -1.0})
    with pytest.raises(UserError, match="needs rgb"):
        generate(settings(root, tmp_path / "arrow", task={"name": "pet", "arrow": "with"}))
    with pytest.raises(UserError, match="has no split 'test'"):
        generate(settings(root, tmp_path / "test", split="test"))


def test_no_row_is_asked_about_twice(root: Path, tmp_path: Path) -> None:
    more = settings(root, tmp_path / "more", num_samples=2 * EACH + 1, task={"name": "pet", "patience": 10})
    with pytest.raises(NoYield, match=f"{2 * EACH} of {2 * EACH + 1} samples were found"):
        generate(more)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda row: row["images"][1].update(bytes=row["images"][1]["bytes"][:-300]), r"images\[1\].*truncated"),
        (lambda row: row["images"][1].update(bytes=None), r"images\[1\]: field 'bytes' must be an encoded picture"),
        (lambda row: row["conversations"].pop(), r"conversations\[1\]: expected an object with from, value"),
        (lambda row: row["conversations"][0].update({"from": "gpt"}), r"conversations\[0\]: expected words of 'human'"),
        (lambda row: row["conversations"][1].update(value="E. left"), "answer 'E. left' is none of the options A, B, C, D"),
        (lambda row: row["conversations"][1].update(value="A. left"), "is not what option A says, 'rightward'"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named_with_file_and_row_and_left_out(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], told: str
) -> None:
    folder = write(tmp_path / "set") / "mi_camera_motion"
    found = rows("part-1")
    change(found[1])
    save(folder / "part-1.parquet", found)
    manifest = generate(settings(tmp_path / "set", tmp_path / "out", num_samples=2 * EACH - 1))
    (message,) = manifest["scene_errors"]
    with pytest.raises(SceneError, match=rf"^mi_camera_motion/part-1\.parquet, row 1\b.*{told}"):
        raise SceneError(message)
    assert "part-1-row1" not in {sample.provenance.scene_id for sample in SampleReader(tmp_path / "out")}


def test_a_broken_file_stops_the_run_with_its_name(tmp_path: Path) -> None:
    folder = write(tmp_path / "set") / "mi_camera_motion"
    cut = folder / "part-1.parquet"
    cut.write_bytes(cut.read_bytes()[:-50])
    with pytest.raises(UserError, match=r"^mi_camera_motion/part-1\.parquet: "):
        generate(settings(tmp_path / "set", tmp_path / "cut"))
    save(cut, [{"id": "0", "images": []}])
    with pytest.raises(UserError, match=r"part-1\.parquet: column 'conversations' is missing"):
        generate(settings(tmp_path / "set", tmp_path / "column"))


def test_the_judge_drops_what_cannot_be_determined(made: Path, tmp_path: Path) -> None:
    pytest.importorskip("openai")
    samples = list(SampleReader(made))[:6]
    (probe,) = probes(samples[0], blind=True)
    assert probe.images == (samples[0].images[0], samples[0].imagination) and samples[0].question in probe.text
    doubtful = samples[2]
    stub = Stub(lambda text, pictures: "no" if doubtful.question in text else "Yes.")
    with serving(stub) as url:
        report = judge(samples, Endpoint("m", url, tmp_path))
    same = [sample.id for sample in samples if sample.question == doubtful.question]
    assert report["failing"] == {name: ["drawn_as_told"] for name in sorted(same)} and doubtful.id in same
