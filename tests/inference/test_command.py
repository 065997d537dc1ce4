"""The command line: datasets and own pictures, resuming, and mistakes that end with one line and lose nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra

import infer as command
from ipt.common.images import decode_image
from ipt.inference.prediction import Prediction, Run, read_run
from ipt.inference.run import answer_dataset, load
from ipt.inference.settings import DrawSettings, InferConfig, ModeSettings
from ipt.samples.store import write_shard
from tests.imagination.examples import noise_picture
from tests.inference import toy
from tests.inference.kill import MODE
from tests.inference.test_engine import assert_same

ROOT = Path(__file__).parents[2]
QUESTION = ["question=Q0, isn't it?", "choices=[far,near]"]


@pytest.fixture(autouse=True)
def clean_hydra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["infer.py"])
    monkeypatch.chdir(ROOT)
    GlobalHydra.instance().clear()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.save_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.save_data(tmp_path_factory.mktemp("data"), toy.SAMPLES)


def answers(run: Run) -> dict[str, Prediction]:
    return {prediction.sample_id: prediction for prediction in run.predictions}


def failing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as exit_:
        command.main(arguments)
    assert exit_.value.code == 2
    (line,) = [text for text in capsys.readouterr().err.strip().splitlines() if text.startswith("error: ")]
    return line


@pytest.mark.parametrize("given", ["runs/a=b", "(x", "it's", "#1", "~home", "größe", "a, b", "007", "'quoted'"])
def test_paths_and_questions_need_no_quotes(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    composed: list[Any] = []
    monkeypatch.setattr(command, "infer", composed.append)
    command.main([f"checkpoint={given}", f"question={given}", f"image=[{given},x]", "choices=[1.0,2.50]", "limit=5"])
    (values,) = composed
    assert values.checkpoint == values.question == given.strip("'") and values.limit == 5
    assert list(values.image) == [*map(str.strip, given.strip("'").split(",")), "x"] and values.choices == [
        "1.0",
        "2.50",
    ]


def test_a_sweep_may_have_several_texts() -> None:
    texts = {"data": False, "choices": True}
    given = ["-m", "data=a,b", "data=choice(a,b)", "data=a=b", "choices=[a,1.0]", "choices=[a],[b]", "mode=x,y"]
    expected = [*given[:3], "data='a=b'", "choices=[a,'1.0']", *given[5:]]
    assert command.COMMAND.quoted(given, texts) == expected


def test_a_checkpoint_answers_without_flags_and_the_same_command_changes_nothing(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sizes, prompts, codec and what the answer sees come with the weights."""
    arguments = [f"checkpoint={run}", f"data={data}", "mode=imagination", f"output_dir={tmp_path / 'out'}"]
    command.main([*arguments, "mode.draw.timesteps=4"])
    printed = capsys.readouterr().out
    assert "samples 4, answered 4, invalid 0, errors {}" in printed and "95% by scene" in printed
    found = read_run(tmp_path / "out")
    assert all(p.correct for p in found.predictions) and found.done is not None
    for prediction in found.predictions:
        (name,) = prediction.images
        assert decode_image(tmp_path / "out" / name).shape == (8, 8, 3)
    before = (tmp_path / "out" / "predictions.jsonl").read_bytes()
    GlobalHydra.instance().clear()
    command.main([*arguments, "mode.draw.timesteps=4"])
    assert (tmp_path / "out" / "predictions.jsonl").read_bytes() == before
    GlobalHydra.instance().clear()
    line = failing([*arguments, "mode.draw.timesteps=5"], capsys)
    assert "settings.mode.draw.timesteps: 4 there, 5 here" in line
    other = toy.save_data(tmp_path / "other", toy.SAMPLES[1:])
    GlobalHydra.instance().clear()
    assert "(data_sha256: " in failing([*arguments, f"data={other}", "mode.draw.timesteps=4"], capsys)


def test_the_exported_folder_alone_is_a_checkpoint(run: Path, data: Path, tmp_path: Path) -> None:
    mode = ModeSettings("answer_only", answer="options")
    folders = [run, run / "model"]
    runs = []
    for number, folder in enumerate(folders):
        config = InferConfig(str(folder), str(data), str(tmp_path / str(number)), mode, device="cpu")
        answer_dataset(config)
        runs.append(read_run(config.output_dir))
    assert_same(answers(runs[0]), answers(runs[1]))
    assert runs[0].manifest.checkpoint_sha256 == runs[1].manifest.checkpoint_sha256


def test_a_checkpoint_is_loaded_for_its_threads_and_with_a_larger_table_where_asked(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("ipt.inference.checkpoint.use_threads", lambda *given: asked.append(given))
    checkpoint = load(InferConfig(str(run), latent_side=7, device="cpu"))
    assert checkpoint.model.config.latents.side == 7 and checkpoint.renderer(7)
    assert asked == [(sum(weight.numel() for weight in checkpoint.model.parameters()), "cpu")]


def test_own_pictures_get_an_answer_and_an_imagined_image(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "room.png").write_bytes(noise_picture(0))
    command.main([f"checkpoint={run}", f"image={tmp_path / 'room.png'}", *QUESTION, "mode=imagination", "mode.n=2"])
    printed = capsys.readouterr().out
    assert re.search(r"answer: (far|near)\n +[\d.]+%  far\n +[\d.]+%  near\n", printed), printed
    images = [tmp_path / f"room-imagined-{k}.png" for k in range(2)]
    assert all(f"imagined: {path}" in printed and decode_image(path).shape == (8, 8, 3) for path in images)


def test_an_answer_whose_picture_cannot_be_kept_is_printed_first(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a folder that is read-only or full."""
    (tmp_path / "room.png").write_bytes(noise_picture(0))
    (tmp_path / "room-imagined.png").mkdir()
    with pytest.raises(SystemExit) as exit_:
        command.main([f"checkpoint={run}", f"image={tmp_path / 'room.png'}", *QUESTION, "mode=imagination"])
    told = capsys.readouterr()
    assert exit_.value.code == 2 and re.search(r"answer: (far|near)\n", told.out) and "imagined:" not in told.out
    assert f"error: the answer is above; the imagined image {tmp_path / 'room-imagined.png'} could not be" in told.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data=DATA"], "there is no model: set checkpoint=FOLDER"),
        (["checkpoint=RUN"], "set data=FOLDER, or image=FILE"),
        (["checkpoint=RUN", "data=/nowhere"], "dataset /nowhere does not exist"),
        (["checkpoint=/nowhere", "data=DATA"], "checkpoint=/nowhere is no folder"),
        (["checkpoint=RUN", "data=DATA", "device=cuda:99"], "device=cuda:99: .*CUDA device"),
        (["checkpoint=DATA", "data=DATA"], "is no model folder: it needs config.json"),
        (["checkpoint=UNFINISHED", "data=DATA"], "a training run that has not finished"),
        (["checkpoint=TRUNCATED", "data=DATA"], "is not a whole safetensors file"),
        (["checkpoint=NO_RECIPE", "data=DATA"], "recipe.json is missing: it says how the model is to be asked"),
        (["checkpoint=RUN", "data=EMPTY"], "holds no samples"),
        (["checkpoint=RUN", "data=DOUBLES"], "holds 1 ids more than once, for example 'pet/2'"),
        (["checkpoint=RUN", "data=DATA", "mode=imagine"], "imagine.*answer_only"),
        (["checkpoint=RUN", "data=DATA", "mode.steps=3"], "unknown key 'mode.steps'; valid: .*draw.*max_seconds"),
        (["checkpoint=RUN", "data=DATA", "mode.mediator=caption", "mode=imagination"], "was trained on ipt"),
        (
            ["checkpoint=RUN", "data=DATA", "mode=imagination", "mode.draw.side=5"],
            "side=5 is beyond the model's table of 4 x 4",
        ),
        (["checkpoint=RUN", "data=DATA", "mode.n=3"], "mode.n=3 imaginations are for modes that imagine"),
        (["checkpoint=RUN", "image=PICTURE"], 'needs question="..." and at least two choices'),
        (["checkpoint=RUN", "image=/nowhere.jpg", *QUESTION], "/nowhere.jpg: no such file"),
        (["checkpoint=RUN", "image=README.md", *QUESTION], "not a PNG, JPEG or WebP image"),
        (["checkpoint=RUN", "image=PICTURE", *QUESTION, "mode=gt_imagination"], "needs true imaginations"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_end_with_one_line(
    arguments: list[str], message: str, run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {name: tmp_path / name for name in ("UNFINISHED", "TRUNCATED", "NO_RECIPE", "EMPTY", "DOUBLES", "PICTURE")}
    (names["UNFINISHED"] / "checkpoints").mkdir(parents=True)
    for name, left_out in (("TRUNCATED", ""), ("NO_RECIPE", "recipe.json")):
        names[name].mkdir()
        for file in (run / "model").iterdir():
            cut = 1000 if name == "TRUNCATED" and file.name == "model.safetensors" else None
            if file.name != left_out:
                (names[name] / file.name).write_bytes(file.read_bytes()[:cut])
    toy.save_data(names["EMPTY"], [])
    write_shard(names["DOUBLES"], [*toy.SAMPLES, toy.SAMPLES[2]])
    names["PICTURE"].write_bytes(noise_picture(0))
    places = {**names, "RUN": run, "DATA": data}
    filled = [re.sub(r"=([A-Z_]+)$", lambda match: f"={places[match[1]]}", argument) for argument in arguments]
    assert re.search(message, failing([*filled, f"output_dir={tmp_path / 'out'}"], capsys))
    assert not (tmp_path / "out").exists()


def test_a_full_disk_loses_nothing(run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mode = ModeSettings("imagination", draw=DrawSettings(timesteps=2))
    config = InferConfig(str(run), str(data), str(tmp_path / "full"), mode, batch_size=2, device="cpu")
    left, sync = [8], os.fsync

    def filling(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", filling)
    with pytest.raises(OSError, match=r"full cannot be written .*No space left.*what was answered is kept"):
        answer_dataset(config)
    monkeypatch.setattr(os, "fsync", sync)
    kept = read_run(config.output_dir).predictions
    assert len(kept) == 2
    answer_dataset(config)
    answer_dataset(replace(config, output_dir=str(tmp_path / "whole")))
    assert_same(answers(read_run(config.output_dir)), answers(read_run(tmp_path / "whole")))
    assert not list((tmp_path / "full").rglob("*.partial"))


@pytest.mark.long
def test_killed_twenty_times_is_uninterrupted(run: Path, tmp_path: Path) -> None:
    data = toy.save_data(tmp_path / "data", [toy.sample(number) for number in range(48)])
    program = [sys.executable, "-m", "tests.inference.kill", str(run), str(data), str(tmp_path / "killed"), "20"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    whole = InferConfig(str(run), str(data), str(tmp_path / "whole"), MODE, batch_size=16, device="cpu")
    answer_dataset(whole)
    killed, uninterrupted = read_run(tmp_path / "killed"), read_run(tmp_path / "whole")
    assert len(killed.predictions) == 48 and killed.done is not None
    assert_same(answers(killed), answers(uninterrupted))
    named = {name for prediction in killed.predictions for name in prediction.images}
    assert {f"images/{path.name}" for path in (tmp_path / "killed" / "images").iterdir()} == named and len(named) > 20
    assert json.loads((tmp_path / "killed" / "done.json").read_text())["samples"] == 48


def test_settings_are_checked_before_torch_is_imported() -> None:
    program = (
        "import sys, infer; infer.register(); "
        "code = None\n"
        "try: infer.infer(infer.COMMAND.compose(['mode=free', 'data=no/such/folder', 'checkpoint=no/such/run']))\n"
        "except SystemExit as end: code = end.code\n"
        "assert code == 2 and 'torch' not in sys.modules, (code, 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
