"""The command line: every preset composes and can be planned, mistakes end with one line, and runs continue."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import train as command
from ipt.common.errors import UserError
from ipt.common.locking import held
from ipt.imagination.modes.ipt import IptSettings
from ipt.imagination.recipe import PUBLISHED
from ipt.samples.store import seal, write_shards
from ipt.sequence.settings import GuidanceDropout
from ipt.training.build import check_settings
from ipt.training.config import TrainConfig, train_config
from ipt.training.plan import plan
from ipt.training.records import read_records
from tests.sequence.loading import SAMPLES
from tests.training.runs import ROOT
from tests.waiting import HANGS, until

SHORT = ("trainer.steps=2", "checkpoints.every=1", "optim.warmup_steps=1")


@pytest.fixture(autouse=True)
def clean_hydra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    GlobalHydra.instance().clear()
    command.register()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_shards(folder, "train", SAMPLES[:20])
    seal(folder, {})
    return folder


def composed(*overrides: str) -> TrainConfig:
    return train_config(OmegaConf.to_container(command.COMMAND.compose(overrides), resolve=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("experiment", [(), ("experiment=bagel",)], ids=lambda found: found[0] if found else "tiny")
@pytest.mark.parametrize("task", ["pet", "pt", "mvc", "all"])
def test_every_task_and_imagination_composes_passes_the_checks_and_can_be_planned(
    task: str, experiment: tuple[str, ...]
) -> None:
    for mode in ("label_only", "text_cot", "caption", "ipt", "mixed"):
        config = composed(*experiment, f"task={task}", f"imagination={mode}", "dry_run=true")
        assert config.name == f"{task}_{mode}{'_bagel' * bool(experiment)}"
        assert config.output_dir == f"outputs/{config.name}"
        assert list(config.task.names) == (["pet", "pt", "mvc"] if task == "all" else [task])
        assert set(config.imagination.modes) == ({"ipt", "label_only"} if mode == "mixed" else {mode})
        assert list(config.sequence.observe) == (["vae", "vit"] if mode in ("ipt", "mixed") else ["vit"])
    text = plan(config)
    assert ("to be set before training: model.preset=bagel_7b_mot" in text) == bool(experiment)
    assert ("bagel_7b_mot" if experiment else "tiny") in text and "tokens per step" in text


def test_the_paper_values_are_those_of_the_bagel_experiment() -> None:
    config = composed("experiment=bagel", "dry_run=true")
    assert (config.optim.lr, config.optim.beta2, config.optim.eps, config.optim.warmup_steps) == (
        1e-5,
        0.95,
        1e-15,
        2000,
    )
    assert (config.ema.decay, config.optim.clip, config.trainer.steps) == (0.9999, 1.0, 25000)
    assert (config.loader.budget, config.loader.target, config.loader.packs_per_step) == (32768, 24576, 8)
    assert config.sequence.max_sample_tokens == 24576 and not config.ema.warmup and config.optim.from_zero
    assert config.sequence.dropout == GuidanceDropout(0.1, 0.0, 0.3, 0.3, "all") and config.sampling == PUBLISHED
    for task, sizes in {"pet": (1024, 512, 64), "pt": (1024, 512, 64), "mvc": (1024, 512, 64)}.items():
        for chosen in (task, "all"):
            size = composed("experiment=bagel", f"task={chosen}", "dry_run=true").full_sequence.resolution(task)
            assert (size.input_side, size.input_min_side, size.imagination) == sizes
            assert size.several_side == (None if task == "pet" else 512)
    assert config.trainer.dtype == "bfloat16" and config.trainer.checkpoint_activations
    assert config.model.attention == "flex"


def test_a_run_begun_before_a_setting_existed_goes_on_with_its_default(tmp_path: Path) -> None:
    config = composed("dry_run=true")
    config = replace(config, imagination=replace(config.imagination, ipt=IptSettings(source={"ground_truth": 1.0})))
    for _ in range(2):  # what a mapping does not hold is no setting that came later
        check_settings(config, tmp_path)
    kept = json.loads((tmp_path / "config.json").read_text())
    del kept["optim"]["from_zero"], kept["sampling"], kept["sequence"]["dropout"]["rows"]
    (tmp_path / "config.json").write_text(json.dumps(kept))
    with pytest.raises(UserError, match=r"optim.from_zero: False there, True here"):
        check_settings(replace(config, optim=replace(config.optim, from_zero=True)), tmp_path)
    check_settings(config, tmp_path)


def test_one_seed_is_that_of_everything_that_is_drawn() -> None:
    config = composed("dry_run=true", "seed=3", "sequence.seed=5")
    assert (config.trainer.seed, config.loader.seed, config.sequence.seed) == (3, 3, 5)
    small = {"input_side": 16, "vit_side": 16, "imagination": 2}
    config = train_config({"seed": 3, "dry_run": True, "imagination": {"modes": {"ipt": 1.0}}, "resolution": small})
    assert (config.trainer.seed, config.loader.seed, config.sequence.seed) == (3, 3, 3)


def test_the_plan_divides_the_weights_among_those_that_share_them(data: Path) -> None:
    def memory(*overrides: str) -> float:
        text = plan(composed("experiment=bagel", "task=mvc", "dry_run=true", f"data.train={data}", *overrides))
        assert "set model.init" in text and "20 rows" in text
        return float(re.search(r"process: ([\d.,]+) GB of weights", text)[1].replace(",", ""))  # type: ignore[index]

    alone = memory()
    assert alone > 100
    assert memory("distributed=fsdp2", "launch.gpus=8") == pytest.approx(alone / 8, rel=1e-3)
    assert memory("distributed=hsdp", "launch.gpus=8", "distributed.shard=4") == pytest.approx(alone / 4, rel=1e-3)


def test_the_plan_says_what_noise_draws_cost(data: Path) -> None:
    def line(*overrides: str) -> str:
        text = plan(composed("dry_run=true", "task=mvc", *overrides))
        return next((line for line in text.splitlines() if line.startswith("noise draws")), "")

    assert not line("model=bagel_7b_mot")
    image = 64**2 + 2
    once = 3 * image + 2 * (37**2 + 2) + (200 + 20 + 12) + 3 * 2  # both encoders twice, a draw, three texts
    at_bagel = line("model=bagel_7b_mot", "loss.noise_draws=4")
    assert f"4 of each image take {1 + 3 * image / once:.2f} times the tokens" in at_bagel
    assert f"({once + 3 * image:,} tokens for {once:,})" in at_bagel
    assert "2 of each image take" in line(f"data.train={data}", "loss.noise_draws=2")


def test_settings_are_checked_before_torch_is_imported() -> None:
    program = (
        "import sys, train; train.register(); "
        "from omegaconf import OmegaConf; from ipt.training.config import train_config; "
        "train_config(OmegaConf.to_container(train.COMMAND.compose(['dry_run=true']), resolve=True)); "
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["optim.lrr=1"], r"unknown key 'optim.lrr'; valid: .*lr.*warmup_steps"),
        (["lr=1"], r"unknown key 'lr'; valid: .*optim"),
        (["task=pett"], r"unknown task 'pett' .*; valid: all, mvc, pet, pt$"),
        (["optim.lr=fast"], r"optim.lr takes a number, got 'fast'"),
        (["model.preset=huge"], r"unknown model preset 'huge'; valid: bagel_7b_mot, base, micro, small, tiny"),
        (["+imagination.modes.ipd=1"], r"unknown imagination mode 'ipd' \(did you mean 'ipt'\?\)"),
        (["optim.schedule=linear"], r"schedule must be constant or cosine"),
        (["data.train=/nowhere"], r"dataset /nowhere does not exist"),
        ([], r"no dataset: set data.train=FOLDER"),
        (["resolution.imagination=32"], r"32 x 32 tokens, the tables of tiny have 16 x 16"),
        (["model.codec=none"], r"need a codec"),
        (["loader.budget=1000"], r"budget=1000 cannot hold the longest sample"),
        (["tuning=lora"], r"starts from trained weights"),
        (["tuning=generation_expert", "imagination=label_only"], r"no mode draws"),
        (["model=bagel_7b_mot", "resolution=latent64"], r"not trained from scratch"),
        (["launch.gpus=2"], r"launch.gpus=2 needs distributed=ddp"),
        (["distributed=fsdp2", "launch.gpus=2"], r"packs_per_step=1 cannot be shared"),
        (["evaluation.questions=8"], r"needs their dataset: set data.validation"),
        (["evaluation.data=/nowhere"], r"evaluation.data=/nowhere does not exist"),
        (["evaluation.modes=[imagine]"], r"unknown mode of evaluation 'imagine'.*imagination"),
        (["imagination=label_only", "evaluation.modes=[imagination]"], r"trained to imagine: set imagination=mixed"),
        (["checkpoints.best=accuracy/imagination"], r"needs evaluation.questions above 0"),
        (["trainer.hang_minutes=-1"], r"hang_minutes must be at least 0"),
        (["distributed=ddp", "dry_run=false"], r"there is no dataset"),
        (["data.limit=many"], r"data.limit takes a whole number, got 'many'"),
        (["model.attention=flash"], r"flash computes in bfloat16 on a GPU: set trainer.dtype=bfloat16"),
        (
            ["model.attention=flash", "trainer.dtype=bfloat16"],
            r"needs flash-attn, which is not installed \(pip install",
        ),
        (["experiment=bagl"], r"unknown experiment 'bagl' \(did you mean 'bagel'\?\); valid: bagel, base"),
        (["-m", "task=pet,pett"], r"unknown task 'pett' \(did you mean 'pet'\?\)"),
        (["trainer=null"], r"trainer=null: the group trainer needs a name"),
        (["model.latent_side=7"], r"tables of tiny have 7 x 7"),
        (["model.preset=null"], r"takes the shape of model.init, which is not set"),
        (["experiment=pet_ipt"], r"'experiment=pet_ipt' is not valid any more; write task=pet imagination=ipt$"),
        (["experiment=mvc_text_cot_bagel"], r"write experiment=bagel task=mvc imagination=text_cot$"),
        (["trainer.optim.lr=0.1"], r"write optim.lr=0.1$"),
        (["-m", "trainer.loss.chunk=1,2"], r"write loss.chunk=1,2$"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and value else "",
)
def test_mistakes_end_with_one_line(overrides: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_, pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        command.main(overrides)
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")

    assert re.search(message, line), line


def test_help_lists_groups_and_the_keys_that_the_command_line_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["experiment=bagel", "optim.lr=0.5", "--help"])
    head, _, rest = capsys.readouterr().out.partition("\nGroups (group=name):\n")
    groups, _, keys = rest.partition("\nKeys (key=value):\n")
    assert head.startswith("python train.py task=pet") and "\nexperiment: bagel, base, grpo, mirage\n" in groups
    listed = OmegaConf.create(keys)
    assert listed.optim.lr == 0.5 and listed.model.preset == "bagel_7b_mot"


def test_an_unknown_key_in_a_file_is_named_with_the_valid_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown train\.optim setting 'lrr' \(did you mean 'lr'\?\); valid: beta1"):
        train_config({"optim": {"lrr": 1}})
    with pytest.raises(ValueError, match=r"train\.trainer takes {steps: .*got None"):
        train_config({"trainer": None})


def test_a_run_trains_exports_and_continues(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    validation = [f"data.validation={data}", "data.validation_packs=1"]
    arguments = ["task=mvc", "imagination=mixed", f"data.train={data}", f"output_dir={run}", *validation, *SHORT]
    arguments.append("optim.schedule=constant")  # the end of a cosine decides the rates before it
    command.main(arguments)
    assert {"metrics.jsonl", "curves.png", "config.json", "model", "assets", "checkpoints"} <= {
        p.name for p in run.iterdir()
    }
    GlobalHydra.instance().clear()
    command.main([*arguments, "trainer.steps=3"])
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == [0, 1, 2]
    assert len((run / "validation.jsonl").read_text().splitlines()) == 3
    assert "3 steps, 0 skipped" in capsys.readouterr().out
    from ipt.model.checkpoint import from_pretrained
    from ipt.model.codec import load_codec
    from ipt.sequence.tokenizer import load_tokenizer

    assert from_pretrained(run / "model").config.name == "tiny"
    assert load_codec(run / "model").channels == 48 and load_tokenizer(run / "model").size <= 2048
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit):
        command.main([*arguments, "trainer.steps=3", "optim.lr=0.5"])
    assert "optim.lr: 0.001 there, 0.5 here" in capsys.readouterr().err


@pytest.mark.long
def test_one_command_starts_two_processes_and_one_process_continues(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "task=mvc",
        f"data.train={data}",
        f"output_dir={tmp_path}",
        *SHORT,
        "loader.packs_per_step=2",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        command.main([*arguments, "distributed=fsdp2", "launch.gpus=2"])
    assert "2 steps, 0 skipped" in capfd.readouterr().out
    GlobalHydra.instance().clear()
    command.main([*arguments, "trainer.steps=3"])
    assert "3 steps, 0 skipped" in capfd.readouterr().out


@pytest.mark.long
def test_a_signal_through_the_launcher_saves_and_ends_cleanly(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["task=mvc", f"data.train={data}", f"output_dir={run}", "loader.packs_per_step=2"]
    more = ["trainer.steps=1000000", "checkpoints.every=1000000", "distributed=ddp", "launch.gpus=2"]
    command_line = [sys.executable, "train.py", *arguments, *more]
    process = subprocess.Popen(command_line, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: read_records(run / "metrics.jsonl") or process.poll() is not None, "the first step")
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=HANGS)
    finally:
        process.kill()
    steps = len(read_records(run / "metrics.jsonl"))
    assert process.returncode == 0 and f"stopped after step {steps} of 1000000" in told
    assert [path.parent.name for path in run.glob("checkpoints/*/manifest.json")] == [f"step_{steps:08d}"]


def test_a_dataset_of_another_task_and_an_unwritable_folder_are_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.main([f"data.train={data}", f"output_dir={tmp_path / 'run'}", *SHORT])
    assert "holds samples of the tasks mvc, the run is for pet" in capsys.readouterr().err
    GlobalHydra.instance().clear()
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        command.main(["task=mvc", f"data.train={data}", f"output_dir={tmp_path / 'file' / 'run'}", *SHORT])
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    "processes", [(), ("distributed=ddp", "launch.gpus=2", "loader.packs_per_step=2")], ids=["alone", "launched"]
)
def test_a_folder_in_which_another_run_trains_is_refused_untouched(
    processes: tuple[str, ...], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with held(run):
        before = sorted(run.iterdir())
        with pytest.raises(SystemExit) as exit_:
            command.main(["task=mvc", f"data.train={data}", f"output_dir={run}", *SHORT, *processes])
        assert sorted(run.iterdir()) == before
    told = capsys.readouterr().err
    assert exit_.value.code == 2 and f"error: {run} is being written by process" in told and "Traceback" not in told
