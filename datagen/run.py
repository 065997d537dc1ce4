"""Generate a dataset: plan, workers, selection, shards, and the manifest last.

Workers turn scenes into units (see ``units.py``) in any order; this process reads them in scene order, lets the task's
selector choose and word questions, and writes parquet shards. Every step can be cut short at any moment: the same
command finds the units and shards that are complete and goes on, and since selection is replayed from the units' facts,
the outcome is the same as that of an undisturbed run with any number of workers.
"""

from __future__ import annotations

import errno
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from datagen.backends.base import SceneBackend
from datagen.backends.registry import BACKENDS
from datagen.config import RunConfig
from datagen.engine import make_units
from datagen.tasks import TASKS
from datagen.tasks.base import Question, SceneView
from datagen.units import UnitRef, open_backend, read_candidate, read_unit, restore_pictures, task_of
from datagen.yields import NoYield, Yields
from ipt.common.errors import UserError
from ipt.common.files import MANIFEST, CorruptFile, read_json, read_manifest, write_json
from ipt.common.locking import held
from ipt.common.progress import Meter
from ipt.common.revision import code_revision, source_digest
from ipt.common.seeding import generator
from ipt.common.settings import differences
from ipt.samples.sample import Provenance, SpatialSample
from ipt.samples.store import SampleReader, seal, write_shard

logger = logging.getLogger(__name__)

FORECAST_AFTER = 10  # scenes: then a long search is announced
FORECAST_FROM = 500  # scenes that make a search long
MAX_SHARD_BYTES = 400 * 2**20
#: What samples depend on; changes elsewhere do not keep a run from going on.
SOURCES = ("datagen", "ipt.common", "ipt.samples")


@dataclass(frozen=True, slots=True)
class Stored:
    """A candidate where it is stored."""

    unit: UnitRef
    header: dict[str, Any]
    record: dict[str, Any]

    @property
    def picture_bytes(self) -> int:
        images = [*self.record["images"], self.record["imagination"], *self.record["counterfactuals"]]
        return sum(int(image["bytes"]) for image in images)


@dataclass(frozen=True, slots=True)
class Pick:
    """A question and its candidate."""

    question: Question
    stored: Stored


@dataclass
class Part:
    """This command's part of a run: its folders, the selection so far, and the shards written.

    ``revision`` names the code for people; ``sources`` is the digest of it that decides whether a run may go on.
    """

    config: RunConfig
    revision: str
    sources: str
    picks: list[Pick] = field(default_factory=list)
    shards: int = 0
    samples: int = 0
    yields: Yields = field(default_factory=Yields)
    licences: set[str] = field(default_factory=set)
    credits: set[str] = field(default_factory=set)
    kept: dict[int, UnitRef] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return Path(self.config.output_dir)

    @property
    def work(self) -> Path:
        return self.folder / ".work" / self.config.prefix

    def add(self, pick: Pick) -> None:
        """Queue a sample; a shard is closed before it would grow beyond its limits."""
        full = len(self.picks) >= self.config.samples_per_shard
        if full or sum(queued.stored.picture_bytes for queued in (*self.picks, pick)) > MAX_SHARD_BYTES:
            self.flush()
        self.picks.append(pick)

    def flush(self) -> None:
        """Write the queued samples as one shard unless an earlier command did; a shard that differs is an error."""
        if not self.picks:
            return
        path = self.folder / f"{self.config.prefix}-{self.shards:05d}.parquet"
        if path.is_file():
            if SampleReader(path).ids() != [pick.question.candidate_id for pick in self.picks]:
                raise CorruptFile(f"{path} does not hold the samples this run gives; delete it and run again")
        else:
            for pick in self.picks:  # an earlier command released them when it had written this shard
                restore_pictures(self.config, pick.stored.unit, pick.stored.header)
            write_shard(path, (self.sample(pick) for pick in self.picks))
        self.shards += 1
        self.samples += len(self.picks)
        self.licences |= {pick.stored.header["licence"] for pick in self.picks}
        self.credits |= {credit for pick in self.picks for credit in pick.stored.header.get("credits", ())}
        self.picks.clear()

    def release(self, number: int, waiting: Mapping[str, Stored]) -> None:
        """Delete the pictures of units that nothing queued or waiting needs any more."""
        self.kept[number] = UnitRef(self.work, number)
        needed = {stored.unit.number for stored in (*waiting.values(), *(pick.stored for pick in self.picks))}
        for unit in [unit for unit in self.kept.values() if unit.number not in needed]:
            self.kept.pop(unit.number).pictures.unlink(missing_ok=True)

    def report(self) -> dict[str, Any]:
        """What the manifest says of this part's samples, as JSON values."""
        return {
            "samples": self.samples,
            "yields": self.yields.to_json(),
            "scene_errors": self.yields.errors,
            "licences": sorted(self.licences),
            **({"credits": sorted(self.credits)} if self.credits else {}),
        }

    def sample(self, pick: Pick) -> SpatialSample:
        """The finished record of a pick."""
        config, question = self.config, pick.question
        candidate = read_candidate(pick.stored.unit, pick.stored.record)
        return SpatialSample(
            id=question.candidate_id,
            task=question.task or TASKS[config.task.name].name,
            split=config.split,  # type: ignore[arg-type]
            question=question.question,
            question_type=question.question_type,
            choices=question.choices,
            answer=question.answer,
            images=candidate.images,
            imagination=candidate.imagination,
            rationale=question.rationale,
            caption=question.caption,
            provenance=Provenance(
                backend=config.backend,
                backend_version=pick.stored.header["backend_version"],
                scene_id=pick.stored.header["scene_id"],
                seed=config.seed,
                code_revision=self.revision,
                config_sha256=config.sha256,
            ),
            facts={**question.facts, **({"answer_text": question.answer_text} if question.choices else {})},
            counterfactuals=candidate.counterfactuals,
        )


def generate(config: RunConfig, quiet: bool = False) -> dict[str, Any]:
    """Make or finish this part of the dataset and return its manifest (of the part, while other parts are unfinished).

    Raises ``ValueError`` for settings that contradict what the folder holds or while another process makes the same part,
    ``NoYield`` where filters let nothing through, ``OSError`` for a folder that cannot be written. What was finished stays in
    every case.
    """
    part = Part(config, code_revision(), source_digest(*SOURCES))
    if (part.folder / MANIFEST).is_file():
        return finished(part)
    with explained(part.folder), held(part.folder, f".work/{config.prefix}.lock"):
        if (part.folder / MANIFEST).is_file():  # another command has just finished
            return finished(part)
        claim(part)
        done = part.work / "done.json"
        if not done.is_file():
            backend = open_backend(config)
            backend.require(task_of(config).required, f"task '{config.task.name}'")
            refuse_one_scene(config, backend)
            select(part, quiet)
            write_json(done, part.report())
        return seal_if_complete(part)


def refuse_one_scene(config: RunConfig, backend: SceneBackend) -> None:
    """``UserError`` where the only scene there is cannot give as many questions as are asked for, however long one searches."""
    scenes = backend.scenes(config.split)
    if len(scenes) != 1 or BACKENDS[config.backend].tasks:  # recorded pictures have no places to look from
        return
    task = task_of(config)
    most = task.most_of_one_scene(SceneView(backend, backend.load(scenes[0]), config.image_size, config.task))
    if most is not None and config.part_samples > most:
        raise UserError(
            f"task '{config.task.name}' finds at most {most} questions in the one scene {scenes[0]}, {config.part_samples} are "
            "asked for: lower num_samples, or give more scenes"
        )


def forecast(done: int, scenes: int, wanted: int, available: int, worst: str) -> str:
    """What a run can expect after its first scenes, where that is long: how many scenes it will need, and what starves it."""
    needed = scenes * wanted / max(done, 0.5)
    if done >= wanted or needed < FORECAST_FROM:
        return ""
    turns = f", each of the {available:,} about {needed / available:.0f} times" if needed > available else ""
    return f"{done} of {wanted} samples from {scenes} scenes: about {needed:,.0f} scenes{turns} will be needed; {worst}"


def select(part: Part, quiet: bool) -> None:
    """Read units in order until the selector has what it wants; write shards on the way."""
    config, started = part.config, time.monotonic()
    meter = Meter("samples", config.part_samples, quiet=quiet)
    task = task_of(config)
    selector = task.selector(
        config.part_samples, generator(config.seed, "selection", task.name, config.split, config.part[0])
    )
    waiting: dict[str, Stored] = {}
    idle = 0
    with closing(make_units(config, part.work)) as units, closing(meter):
        for number in units:
            header = read_unit(UnitRef(part.work, number))
            part.yields.add(Yields.from_json(header["yields"], header["errors"]))
            before = selector.remaining
            for record in header["candidates"]:
                name = sample_id(config, header, record)
                waiting[name] = Stored(UnitRef(part.work, number), header, record)
                for question in selector.offer(name, record["facts"]):
                    part.add(Pick(question, waiting.pop(question.candidate_id)))
            pending = set(selector.pending())
            waiting = {name: stored for name, stored in waiting.items() if name in pending}
            part.release(number, waiting)
            found = before - selector.remaining
            part.yields.count("selection.balance", len(header["candidates"]), len(header["candidates"]) - found)
            done = config.part_samples - selector.remaining
            rate = done / max(time.monotonic() - started, 1e-9)
            note = f"{rate:.2f}/s, {done / (number + 1):.2f} per scene, {part.yields.worst()}"
            meter.update(done, note)
            if number + 1 == FORECAST_AFTER:
                available = len(open_backend(config).scenes(config.split))
                said = forecast(done, number + 1, config.part_samples, available, part.yields.worst())
                if said:
                    logger.warning(said)
            idle = 0 if found else idle + 1
            if not selector.remaining:
                break
            if idle >= patience(config, found=config.part_samples - selector.remaining, scenes=number + 1 - idle):
                raise NoYield(
                    f"no scene satisfied task '{task.name}' in {idle} tries: {part.yields.worst()}; "
                    f"{part.samples + len(part.picks)} of {config.part_samples} samples were found. "
                    f"Loosen that filter (task.*) or raise task.patience"
                )
    part.flush()


def patience(config: RunConfig, found: int, scenes: int) -> float:
    """How many scenes in a row may give nothing: the setting, times the scenes that a sample took until the last success where
    that is more than one. Where a question needs a rare answer, a run that makes progress has long gaps, too."""
    return config.task.patience * max(1.0, scenes / max(found, 1))


def sample_id(config: RunConfig, header: dict[str, Any], record: dict[str, Any]) -> str:
    """The id of a candidate: task, backend, scene (with its split), pass over the scenes, number in the scene."""
    turn = f"-turn{header['turn']}" if header["turn"] else ""
    return f"{config.task.name}-{config.backend}-{header['scene_id']}{turn}-{record['key']}"


def claim(part: Part) -> None:
    """Make the folders, or check that they belong to a run with these settings and this code."""
    plan = {
        "config": part.config.content(),
        "config_sha256": part.config.sha256,
        "code_revision": part.revision,
        "sources": part.sources,
    }
    path = part.folder / ".work" / "plan.json"
    if path.is_file():
        begun = read_json(path)
        same_plan(part.folder, begun, plan)
        part.revision = begun["code_revision"]  # of a commit that changed other files: all samples name the first one
    elif any(part.folder.glob("*.parquet")):
        raise UserError(f"{part.folder} holds parquet files of something else; choose another output_dir")
    else:
        write_json(path, plan)
    part.work.mkdir(parents=True, exist_ok=True)
    for partial in (*part.work.glob(".*.partial"), *part.folder.glob(f".{part.config.prefix}*.partial")):
        partial.unlink(missing_ok=True)


def same_plan(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` naming the settings in which two plans differ."""
    if old["config_sha256"] != new["config_sha256"]:
        changed = differences(old["config"], new["config"])
        raise UserError(
            f"{folder} was made with other settings ({changed}); choose another output_dir or the same settings"
        )
    if old.get("sources") != new.get("sources"):
        begun, now = (f"{plan['code_revision']} with sources {plan.get('sources')}" for plan in (old, new))
        revision = old["code_revision"]
        back = "its local changes" if revision.endswith("-dirty") else f"git checkout {revision}"
        raise UserError(
            f"{folder} was begun by code revision {begun}, this is {now}: samples of both would contradict each "
            f"other. Bring that code back ({back}) and run the same command, or choose another output_dir, or delete "
            f"{folder} and start over"
        )


def finished(part: Part) -> dict[str, Any]:
    """The manifest of a folder that is complete already; ``ValueError`` if it holds another dataset."""
    manifest = read_manifest(part.folder)
    if "config_sha256" not in manifest:
        raise UserError(f"{part.folder} holds a dataset that this command did not make; choose another output_dir")
    same_plan(part.folder, manifest, {**manifest, "config": part.config.content(), "config_sha256": part.config.sha256})
    return manifest


def seal_if_complete(part: Part) -> dict[str, Any]:
    """Write the manifest once every part is done, remove the work folder; else report this part alone."""
    config = part.config
    parts = config.part[1]
    prefixes = [replace(config, shard=f"{number}/{parts}").prefix for number in range(parts)]
    reports = [part.folder / ".work" / prefix / "done.json" for prefix in prefixes]
    content = {
        "config": config.content(),
        "config_sha256": config.sha256,
        "code_revision": part.revision,
    }
    try:
        if not all(report.is_file() for report in reports):
            return {**content, "complete": False, **read_json(part.work / "done.json")}
        whole = Part(config, part.revision, part.sources)
        for done in map(read_json, reports):
            whole.samples += done["samples"]
            whole.licences |= set(done["licences"])
            whole.credits |= set(done.get("credits", ()))
            whole.yields.add(Yields.from_json(done["yields"], done["scene_errors"]))
    except FileNotFoundError:  # another part finished last and has just sealed the folder
        return read_manifest(part.folder)
    seal(part.folder, {**content, "complete": True, **whole.report()})
    shutil.rmtree(part.folder / ".work", ignore_errors=True)
    return read_manifest(part.folder)


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn a refusal of the file system into what to do about it; what was finished stays."""
    try:
        yield
    except OSError as error:
        if not isinstance(error, UserError) and error.errno in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EROFS,
            errno.EACCES,
            errno.EPERM,
        ):
            raise type(error)(
                error.errno,
                f"{error.strerror} while writing below {folder}; what was finished stays: make room or choose a "
                f"writable output_dir, then run the same command",
            ) from error
        raise
