"""``python -m ipt.study.base``: make the small base that ships with the package, from seeds: what `make base` does.

Generates drawing pairs of block rooms, trains ``experiment=base`` on them, draws what the pairs of other rooms ask for, and
writes weights (bfloat16), codec, tokenizer, recipe and a model card. A second call continues what is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipt.common import cli
from ipt.common.files import read_json, read_manifest, write_bytes
from ipt.evaluation.quality.similarity import PictureScores
from ipt.model.config import BASE_FOLDER
from ipt.study.demo import run
from ipt.training.records import METRICS, SETTINGS, read_records

ROOMS = (
    "backend=blocks",
    "task=drawing",
    "image_size=64",
    "samples_per_shard=1024",
    "backend.blocks.shapes=[cylinder]",
    "backend.blocks.colours=[green,blue,yellow,purple,orange,cyan,white]",
    "backend.blocks.max_solids=6",
    "task.map_margin_m=6",  # the whole room, so that a map shows what a view may show
    "task.min_plan_area=0.004",  # so that plans are told in part; a base that is made anew should do without this
    "task.min_arrow_share=0.3",  # 19 pixels: the head of the usual arrow is too small to be read
)


@dataclass(frozen=True)
class Part:
    """Pairs of some kinds for training; ``more``: further overrides of ``python -m datagen``."""

    kinds: tuple[str, ...]
    seed: int
    count: int
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """A training that goes on from the one before. ``shares``: how many of 100 samples are of each part."""

    name: str
    shares: Mapping[str, int]
    settings: tuple[str, ...] = ()


SHORT_ARROWS = "task.min_arrow_share=0.12"
HALF_TOLD, QUARTER_TOLD = "task.told=0.5", "task.told=0.25"
PARTS = {
    "moves": Part(("move_turn",), 22, 56_000),
    "plans": Part(("plan", "view_from_plan"), 21, 12_000, (SHORT_ARROWS,)),
    "sides": Part(("side_view",), 23, 40_000, (SHORT_ARROWS,)),
    "told_sides": Part(("side_view",), 31, 28_000, (SHORT_ARROWS, HALF_TOLD)),
    "more_told_sides": Part(("side_view",), 32, 16_000, (SHORT_ARROWS, HALF_TOLD)),
    "nearly_up": Part(("view_from_plan",), 33, 14_000, (SHORT_ARROWS, HALF_TOLD, "task.plan_turn_deg=20")),
    "turned": Part(("view_from_plan",), 34, 14_000, (SHORT_ARROWS, HALF_TOLD)),
    "sides_by_arrow": Part(("side_view",), 41, 18_000, (QUARTER_TOLD,)),
    "turned_by_arrow": Part(("view_from_plan",), 42, 16_000, (QUARTER_TOLD,)),
    "more_sides_by_arrow": Part(("side_view",), 43, 20_000, (QUARTER_TOLD,)),
    "more_turned_by_arrow": Part(("view_from_plan",), 44, 20_000, (QUARTER_TOLD,)),
}
#: Moves first. Then views from maps, half of whose requests say where to look: without these words they are not learned.
#: Then three quarters of them say it by an arrow alone, one that is long enough to be read.
STAGES = (
    Stage("moves_first", {"moves": 70, "plans": 20, "sides": 10}),
    Stage(
        "then_maps",
        {"moves": 25, "plans": 7, "told_sides": 24, "more_told_sides": 14, "nearly_up": 15, "turned": 15},
        ("optim.lr=0.002", "seed=1"),
    ),
    Stage(
        "then_arrows",
        {"moves": 20, "plans": 5, "sides_by_arrow": 40, "turned_by_arrow": 35},
        ("optim.lr=0.002", "seed=2", "trainer.steps=1800"),
    ),
    Stage(
        "more_arrows",
        {
            "moves": 20,
            "plans": 5,
            "sides_by_arrow": 18,
            "more_sides_by_arrow": 20,
            "turned_by_arrow": 17,
            "more_turned_by_arrow": 20,
        },
        ("optim.lr=0.002", "seed=3", "trainer.steps=3000"),
    ),
)
TEST, TEST_SEED = 1_200, 21
CARD = """---
license: apache-2.0
library_name: imaginative-perception-tokens
tags: [unified-model, flow-matching, spatial-reasoning]
---
# base

A unified model of {parameters:.1f} million parameters that reads pictures and short instructions, draws the picture that is
asked for (flow matching on {channels} principal components of 8 x 8 patches, 32 x 32 pixels) and describes it in words. It was
never trained to answer a question. `python train.py model=base` goes on from it; `python -m ipt.study.base` makes it again.

**Data**: {pairs:,} pairs of generated block rooms (coloured cylinders between pale walls), `python -m datagen task=drawing`:
the view after a move and a turn, the view to the side on a walk on a map, the plan of what four views show, and the view from a
mark on a plan. Half of the requests of the second stage that are about a map, and a quarter of the later ones, say towards which
hour of it the view looks; arrows are 8 pixels long in the first two stages and 19 in the others and in the test. No pictures of
people or places, no third-party data.

**Training**, in stages, each from the weights of the one before, {batch} pairs a step with {draws} noise draws each ({tokens:.1f}
million tokens in all, CPU threads):

{stages}

Half of the pictures are then shown and described ("On the left: a blue cylinder."), so that it reads what it draws. AdamW with
cosine decay, average of {decay}; losses at the end: flow {flow:.3f}, text {ce:.3f} (means over 100 steps).
The data were made by code of revision {revision}.
Every setting is in `recipe.json` and `conf/experiment/base.yaml`, parts and stages in `ipt/study/base.py`.

**Figures** on {test:,} pairs of rooms that it has not seen, 12 Euler steps, one drawing each, weights as shipped:

| kind | PSNR, dB | {header} |
|---|---|{rule}|
{rows}

Rooms of other sizes, solids or looks, and larger pictures, are outside of what it knows. Licence: Apache-2.0, as the code.
"""


@dataclass(frozen=True)
class BaseConfig:
    """Make the base. output: folder of the run. package: where weights and card go. train: further overrides of train.py,
    separated by spaces; with trainer.steps=200, say, it is made in minutes, to look at."""

    output: str = "outputs/base"
    package: str = str(BASE_FOLDER)
    train: str = ""


def make(config: BaseConfig) -> None:
    """Everything. Raises ``RuntimeError`` naming a command that failed."""
    output = Path(config.output)
    test = output / "test"
    for name, part in PARTS.items():
        generate(output / name, part.count, part.seed, "train", f"task.kinds=[{','.join(part.kinds)}]", *part.more)
    generate(test, TEST, TEST_SEED, "test")
    start: list[str] = []
    for stage in STAGES:
        parts = ", ".join(f"{output / name}: {share}" for name, share in stage.shares.items())
        given = [f"+data.parts={{{parts}}}", f"output_dir={output / stage.name}", *start, *stage.settings]
        run(["train.py", "experiment=base", *given, *config.train.split()])
        start = [f"model.init={output / stage.name}", "model.codec=init"]
    package(output / STAGES[-1].name, Path(config.package))
    drawn = output / "drawn"
    run(
        [
            "-m",
            "ipt.evaluation.quality.drawn",
            f"checkpoint={config.package}",
            f"data={test}",
            f"output_dir={drawn}",
        ]
    )
    card(output, drawn, Path(config.package))


def generate(folder: Path, count: int, seed: int, split: str, *more: str) -> None:
    """One dataset of pairs, or what is missing of it."""
    settings = [f"num_samples={count}", f"seed={seed}", f"split={split}", f"output_dir={folder}"]
    run(["-m", "datagen", *ROOMS, *settings, *more])


def package(folder: Path, target: Path) -> None:
    """Write a finished run's model as it ships, in bfloat16."""
    import torch  # takes seconds to import

    from ipt.inference.checkpoint import load_checkpoint, model_folder
    from ipt.model.checkpoint import save_pretrained

    made = load_checkpoint(folder)
    save_pretrained(
        made.model, target, dtype=torch.bfloat16, codec=made.codec, codes=made.codes, tokenizer=model_folder(folder)
    )
    made.recipe.save(target)


def card(output: Path, drawn: Path, target: Path) -> None:
    """Write the model card: what it was made of, in the folders below ``output``, and what was measured."""
    from ipt.inference.checkpoint import load_checkpoint

    runs = [(stage, output / stage.name) for stage in STAGES]
    trained = [(stage, read_json(run / SETTINGS), read_records(run / METRICS)) for stage, run in runs]
    manifests = [read_manifest(output / name) for name in PARTS]
    model = load_checkpoint(target).model
    found = read_json(drawn / "scores.json")["kinds"]
    rows = {kind: PictureScores(**values) for kind, values in found.items()}
    _, settings, records = trained[-1]
    text = CARD.format(
        parameters=sum(weight.numel() for weight in model.parameters()) / 1e6,
        channels=model.config.latents.channels,
        pairs=sum(manifest["samples"] for manifest in manifests),
        batch=settings["loader"]["max_samples"] * settings["loader"]["packs_per_step"],
        draws=settings["loss"]["noise_draws"],
        tokens=sum(record["tokens"]["all"] for *_, those in trained for record in those) / 1e6,
        stages="\n".join(told(number, *each) for number, each in enumerate(trained, start=1)),
        decay=settings["ema"]["decay"],
        flow=latest(records, "flow"),
        ce=latest(records, "ce"),
        revision=" and ".join(dict.fromkeys(manifest["code_revision"] for manifest in manifests)),
        test=sum(int(score.count) for score in rows.values()),
        header=" | ".join(PictureScores.header()[1:]),
        rule="|".join(["---"] * (len(PictureScores.header()) - 1)),
        rows="\n".join(f"| {' | '.join([kind, *score.cells()])} |" for kind, score in rows.items()),
    )
    write_bytes(target / "README.md", text.encode())


def told(number: int, stage: Stage, settings: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    """A stage as a line of the card."""
    shares: dict[str, int] = {}
    for name, share in stage.shares.items():
        what = " and ".join(kind.replace("_", " ") for kind in PARTS[name].kinds)
        shares[what] = shares.get(what, 0) + share
    listed = ", ".join(f"{share} % {what}" for what, share in shares.items())
    return f"{number}. {len(records):,} steps, learning rate {settings['optim']['lr']:g}: {listed}."


def latest(records: Sequence[Mapping[str, Any]], name: str, steps: int = 100) -> float:
    """The mean of a loss over the last steps."""
    values = [float(record[name]) for record in records[-steps:]]
    return sum(values) / len(values)


if __name__ == "__main__":
    cli.run(BaseConfig, make)
