"""Questions answered during training: what is counted, that training does not notice, and what divided weights answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ipt.common.errors import UserError
from ipt.common.files import read_json, write_json
from ipt.common.images import decode_image
from ipt.imagination.mixture import make_mode
from ipt.inference.answering import Answered
from ipt.inference.prediction import Prediction
from ipt.model.codec import codec_digest
from ipt.samples.store import seal, write_shards
from ipt.sequence.latent_cache import LatentWriter
from ipt.sequence.render import Renderer
from ipt.training.build import check_settings, make_assets, make_trainer, readers, run
from ipt.training.config import DataSettings, TrainConfig
from ipt.training.distributed import World, start_world
from ipt.training.encoding import write_cache
from ipt.training.evaluation import GRID_HEADER, GRID_MARGIN, GRID_SIDE, tally
from ipt.training.records import outcome, read_records
from ipt.training.settings import CheckpointConfig
from tests.sequence.loading import SAMPLES
from tests.training import golden
from tests.training.processes import together
from tests.training.runs import Run

QUESTIONS = 4
DRAW = {"timesteps": 3, "text_scale": 1.0}


def config(data: Path, folder: Path, **changes: object) -> TrainConfig:
    evaluation = {"questions": QUESTIONS, "text": {"max_tokens": 6}, "draw": DRAW}
    validation = {"train": str(data), "validation": str(data), "validation_packs": 2}
    return golden.tiny(data, folder, **{"data": validation, "evaluation": evaluation, **changes})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_shards(folder, "train", SAMPLES[:8])
    seal(folder, {})
    return folder


def figures(config: TrainConfig, result: Path) -> None:
    """What a validation finds before the first step, as one process of a run."""
    world = start_world(config.distributed)
    trainer, _ = make_trainer(config, world)
    assert trainer._validate is not None
    found = trainer._validate(trainer)
    if world.is_main:
        result.write_text(json.dumps(found))
    world.barrier()


def test_questions_are_answered_in_the_modes_that_are_trained(data: Path, tmp_path: Path) -> None:
    trainer, _ = make_trainer(config(data, tmp_path), World())
    before = {name: weight.detach().clone() for name, weight in trainer.weights.named.items()}
    random = torch.get_rng_state()
    assert trainer._validate is not None
    found = trainer._validate(trainer)
    shares = {name: value for name, value in found.items() if "/" in name}
    assert set(shares) == {
        f"{what}/{mode}"
        for what in ("accuracy", "unparseable", "opened_image")
        for mode in ("answer_only", "imagination")
    }
    assert all(value * QUESTIONS == int(value * QUESTIONS) <= QUESTIONS for value in shares.values())
    assert trainer.model.training and torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.weights.named.items())
    pictures = list((tmp_path / "evaluation").glob("step_*.png"))
    if pictures:  # an untrained model rarely opens an image, and has nothing to show where it does not
        rows, rest = divmod(decode_image(pictures[0]).shape[0] - GRID_HEADER, GRID_SIDE + GRID_MARGIN)
        assert rest == 0 and 1 <= rows <= QUESTIONS


@pytest.mark.parametrize("divided", [False, True])
def test_what_a_model_cannot_compute_ends_the_run(
    divided: bool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of the program always, and what one of several processes cannot hold where all hold the weights together: its
    smaller batches would ask the others for weights in passes that they do not run."""
    trainer, _ = make_trainer(config(data, tmp_path), World())
    assert trainer._validate is not None and trainer._validate._evaluate is not None
    monkeypatch.setattr("ipt.training.evaluation.is_sharded", lambda module: divided)
    error: Exception = torch.OutOfMemoryError("full") if divided else RuntimeError("shapes cannot be multiplied")

    def forward(*inputs: object, **more: object) -> None:
        raise error

    monkeypatch.setattr(trainer.model, "forward", forward)
    with pytest.raises(type(error), match=str(error)):
        trainer._validate._evaluate(trainer)


def answered(**changes: object) -> Answered:
    made = Prediction("s", "mvc", "", "", "val", "answer_only", "?", ("1", "2"), 0)
    return Answered(replace(made, **changes))  # type: ignore[arg-type]


def test_the_monitor_counts_wrong_unparseable_and_opened() -> None:
    answers = [
        answered(answer=0, text="<answer>A", thoughts=("<think>given, not said</think><image_start>",)),
        answered(answer=1, text="<answer>B"),
        answered(text="<think>Let me look.</think><image_start>", opened_image=True),
        answered(error="RuntimeError: out of memory"),
    ]
    shares = tally(answers).shares("answer_only")
    assert shares == {"accuracy/answer_only": 0.25, "unparseable/answer_only": 0.5, "opened_image/answer_only": 0.25}
    assert tally([]).shares("x")["accuracy/x"] == 0


@pytest.mark.parametrize("best, score", [("loss", 3.0), ("flow", 2.0), ("accuracy/answer_only", -0.75)])
def test_the_best_checkpoint_is_chosen_by_what_the_settings_say(best: str, score: float, tmp_path: Path) -> None:
    trainer = Run(tmp_path / "data", tmp_path / "run").with_(steps=1, checkpoints=CheckpointConfig(best=best)).trainer()
    trainer._validate = lambda trainer: {"loss": 3.0, "ce": 1.0, "flow": 2.0, "accuracy/answer_only": 0.75}
    trainer.run()
    (path,) = trainer.checkpoints.complete()
    assert read_json(path / "manifest.json")["score"] == score
    with pytest.raises(ValueError, match=r"unknown figure for checkpoints.best 'accuracy'.*accuracy/answer_only"):
        CheckpointConfig(best="accuracy")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_two_processes_find_what_one_finds(kind: str, data: Path, tmp_path: Path) -> None:
    found = {}
    for size, name in ((1, "single"), (2, kind)):
        made = config(data, tmp_path / name, distributed={"kind": name})
        together(size, figures, made, tmp_path / f"{name}.json")
        found[name] = json.loads((tmp_path / f"{name}.json").read_text())
    assert found[kind] == pytest.approx(found["single"], rel=1e-5)


def test_validation_is_made_before_the_first_step_with_true_imaginations(data: Path, tmp_path: Path) -> None:
    source = {"source": {"ground_truth": 0.0, "self": 1.0}, "self_made": str(tmp_path)}
    own = {"modes": {"ipt": 1.0}, "ipt": source}
    trainer, _ = make_trainer(config(data, tmp_path / "own", imagination=own, evaluation={}), World())
    assert trainer._validate is not None and trainer._validate(trainer)["flow"] > 0


def test_a_run_computes_on_the_threads_of_its_settings(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr("ipt.training.build.use_threads", lambda *given: asked.append(given))
    trainer, _ = make_trainer(config(data, tmp_path / "run", trainer={"threads": 2}, evaluation={}), World())
    assert asked == [(sum(weight.numel() for weight in trainer.model.parameters()), "cpu", 2)]


def test_a_validation_that_lacks_its_latents_is_told_before_the_first_step(data: Path, tmp_path: Path) -> None:
    made = config(data, tmp_path / "run", evaluation={})
    datasets = readers(made)
    assets = make_assets(made, list(datasets.values()), tmp_path / "run" / "assets")
    assert assets.codec is not None
    writer = LatentWriter(tmp_path / "cache", codec_digest(assets.codec), "the command")
    renderer = Renderer(assets.tokenizer, assets.shape.geometry, assets.profile, made.full_sequence)
    (reader,) = datasets.values()
    write_cache(
        reader, [make_mode(name, renderer, made.imagination) for name in made.imagination.modes], assets.codec, writer
    )
    writer.close()
    other = tmp_path / "other"
    write_shards(other, "val", SAMPLES[8:12])
    seal(other, {})
    places = {"train": str(data), "validation": str(other), "cache": str(tmp_path / "cache")}
    with pytest.raises(UserError, match=r"data\.validation=.*other: .*val-00000\.parquet, row \d, .*the command"):
        make_trainer(replace(made, data=DataSettings(**places, validation_packs=1)), World())


def test_a_sweep_minimises_the_validation_score(data: Path, tmp_path: Path) -> None:
    made = config(data, tmp_path, trainer={"steps": 1}, evaluation={}, loader={"budget": 1024, "packs_per_step": 1})
    found = run(replace(made, data=replace(made.data, validation_packs=1)))
    (scored,), (trained,) = (read_records(tmp_path / f"{name}.jsonl") for name in ("validation", "metrics"))
    assert found == scored["loss"] != trained["loss"]
    assert outcome(tmp_path, "ce") == scored["ce"]
    (tmp_path / "validation.jsonl").unlink()
    assert outcome(tmp_path, "loss") == trained["loss"]


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_continued_run_may_last_longer_unless_that_changes_its_rates(
    schedule: str, data: Path, tmp_path: Path
) -> None:
    made = config(data, tmp_path, optim={"schedule": schedule, "warmup_steps": 2})
    check_settings(made, tmp_path)
    longer, shorter = (replace(made, trainer=replace(made.trainer, steps=steps)) for steps in (20, 10))
    check_settings(longer, tmp_path)  # before the first step nothing has been decided
    check_settings(shorter, tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 5}\n')
    if schedule == "constant":
        check_settings(longer, tmp_path)
    else:
        with pytest.raises(UserError, match=r"trainer\.steps: 10 there, 20 here"):
            check_settings(longer, tmp_path)


def test_a_run_of_before_a_setting_goes_on_with_its_default(data: Path, tmp_path: Path) -> None:
    """Settings that its program did not have; a setting of its own that is another now is still refused, whatever it lacks."""
    made = config(data, tmp_path)
    check_settings(made, tmp_path)
    kept = read_json(tmp_path / "config.json")
    del kept["loss"]["cosine_weight"], kept["imagination"]["latent"]
    write_json(tmp_path / "config.json", kept)
    check_settings(made, tmp_path)
    write_json(tmp_path / "config.json", kept)
    with pytest.raises(UserError, match=r"other settings \(loss\.cosine_weight: 1\.0 there, 0\.5 here\)"):
        check_settings(replace(made, loss=replace(made.loss, cosine_weight=0.5)), tmp_path)
    write_json(tmp_path / "config.json", {**kept, "gone": 1})
    with pytest.raises(UserError, match=r"other settings \(gone: 1 there, None here"):
        check_settings(made, tmp_path)
