"""From a subject to run folders: ``OUTPUT/LABEL/ARM/sSEED`` holds the predictions of an arm on the imaginations of one seed.

What is there is not asked again, so that a killed run continues and arms can be added later. Questions go in fixed batches, the
same after every interruption, and every random choice is a function of seed, arm and question: interrupted or not, folders are
equal.

- ``self``: the model's own imaginations as in production, the pictures that arms change.
- ``none``: answered without imagination; also of the baseline.
- ARM, as `ipt.faithfulness.interventions.Arm` is written; ``identity`` is what all arms are compared with.
- ``pair_remove``, ``pair_other``: the model's own imaginations from inputs without what is asked about, or without something
  else, which the data holds as counterfactuals.
- ``present_absent``, ``absent_present``, ``absent_absent``, ``absent_gt``: inputs and mediator of mediation, the question's own
  or those of the treatment (`FaithfulnessConfig.treatment`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from ipt.common.endpoint import BudgetSpent, Endpoint, EndpointDown, concurrently
from ipt.common.errors import UserError
from ipt.common.files import write_bytes
from ipt.common.progress import Meter, tracked
from ipt.faithfulness.interventions import DESTROYED, Arm, default_arms, parse_arm
from ipt.faithfulness.pool import Pool, numbers_file
from ipt.faithfulness.settings import FaithfulnessConfig
from ipt.faithfulness.subject import ModelSubject, Subject
from ipt.faithfulness.views import View, as_it_is, blank_inputs, derived_question, other_inputs
from ipt.imagination.base import Mediator
from ipt.imagination.modes import modes
from ipt.imagination.recipe import read_recipe
from ipt.inference.answering import Answered
from ipt.inference.checkpoint import model_folder
from ipt.inference.plans import mediator
from ipt.inference.prediction import Prediction, PredictionWriter, RunManifest, about, image_name, read_run
from ipt.inference.run import manifest
from ipt.inference.settings import InferConfig
from ipt.samples.sample import SpatialSample
from ipt.samples.store import SampleReader
from ipt.samples.views import First, Samples

SELF, NONE, IDENTITY, BASELINE = "self", "none", "identity", "baseline none"
MEDIATION = ("present_absent", "absent_present", "absent_absent", "absent_gt")
DERIVED = ("derived", "derived_none", "derived_gt")
PAIRS = ("remove", "other")
PAIRED = tuple(f"pair_{role}" for role in PAIRS)
ABSENT = "absent"  # the model's own imaginations from the inputs of the treatment


@dataclass(frozen=True)
class Job:
    """An arm on the imaginations of one seed. ``prepare``: what stands before the answer of a sample, a prediction to repeat
    where there is nothing to change, or None where the arm has no meaning; without it every sample is asked as it is. ``view``:
    the sample as it is asked. ``keeps``: whether pictures that the model drew are kept."""

    name: str
    seed: int
    ask: Callable[[Sequence[SpatialSample], Mapping[str, Mediator]], list[Answered]]
    prepare: Callable[[SpatialSample], Mediator | Prediction | None] | None = None
    view: View = as_it_is
    keeps: bool = False


class Experiment:
    """All runs of one checkpoint in ``root``, with mediators of ``kind``. ``subject`` is made once something has to be
    asked. ``renders``: whether it can be shown the counterfactual pictures of the dataset."""

    def __init__(
        self,
        root: Path,
        kind: str,
        data: Samples,
        subject: Callable[[], Subject],
        config: FaithfulnessConfig,
        base: RunManifest,
        renders: bool = True,
    ) -> None:
        self.root, self.kind, self.data, self.config, self.base = root, kind, data, config, base
        self.renders = renders
        self._make = subject
        size = config.batch_size
        self.chunks = [range(start, min(start + size, len(data))) for start in range(0, len(data), size)]

    @cached_property
    def subject(self) -> Subject:
        return self._make()

    @cached_property
    def endpoint(self) -> Endpoint:
        """The model that rewrites texts."""
        return self.config.rewriter.open(Path(self.config.output_dir) / "rewrites")

    def at_once(self) -> None:
        """Answers without imagination."""
        self._stage("none", [Job(NONE, 0, lambda samples, _: self.subject.at_once(samples, self.config.seed))])

    def run(self) -> list[str]:
        """Everything; the arms that there are now."""
        paired, arms = self.paired_roles(), self.arms()
        own = [self._imagining(SELF, seed) for seed in range(self.config.imaginations)]
        self.at_once()
        self._stage("self", own)
        pool = self.pool(SELF, self.config.imaginations)
        self._rewrite(pool, [arm for arm in arms if arm.name == "rewrite"])
        self._stage("arms", [self._placing(pool, arm, seed) for arm in arms for seed in range(self.config.seeds)])
        if self.config.treatment != "none":
            self._mediate(pool)
            self._derive(pool)
        self._stage("pairs", [self._pairing(role) for role in paired])
        return [str(arm) for arm in arms]

    @cached_property
    def roles(self) -> tuple[str, ...]:
        """Of the counterfactuals that the data has."""
        return tuple(dict.fromkeys(role for row in self.data.column("counterfactuals_role") for role in row))

    def paired_roles(self) -> tuple[str, ...]:
        """The minimal pairs of inputs that are asked for. ``UserError`` where the data has none."""
        found = tuple(role for role in PAIRS if any(each.startswith(f"{role}/") for each in self.roles))
        if self.config.pairs and not found:
            raise UserError(
                f"{self.config.data} has no inputs that differ in one fact, for pairs=true: python -m datagen makes them with "
                "task.counterfactuals.enabled=true task.counterfactuals.pairs=true"
            )
        return () if self.config.pairs is False else found

    def folder(self, name: str, seed: int) -> Path:
        """Where the run of an arm lies."""
        return self.root / name.replace(":", "=") / f"s{seed}"

    def pool(self, name: str, seeds: int) -> Pool:
        """What a finished production run made, with so many seeds."""
        folders = [self.folder(name, seed) for seed in range(seeds)]
        return Pool(lambda: self.subject, self.data, folders, self.config.seed, lambda: self.endpoint)

    def arms(self) -> list[Arm]:
        """Those that were asked for, and always the identity and the truth."""
        unseen = [role for role in self.roles if "/" not in role] if self.renders else []
        wanted = self.config.arms or default_arms(self.kind, self.config.preset, unseen)
        if self.config.rewriter.model and self.kind == "text" and not self.config.arms:
            wanted = [*wanted, "rewrite"]
        parsed = [parse_arm(text, self.kind) for text in dict.fromkeys((IDENTITY, "gt", *wanted))]
        if not self.config.rewriter.model and any(arm.name == "rewrite" for arm in parsed):
            raise UserError(
                "arm rewrite asks a model: set rewriter.model=NAME, and rewriter.base_url=URL for one of yours"
            )
        if not self.renders and any(arm.name == "render" for arm in parsed):
            raise UserError(
                "arms render: show other pictures of a scene, but this model imagines depth (imagination.discrete.target=depth), "
                "and there are depth maps of true pictures alone; leave them out"
            )
        single = self.config.imaginations == 1
        return [arm for arm in parsed if not (single and arm.name == "other_seed")]

    def _imagining(self, name: str, seed: int, view: View = as_it_is) -> Job:
        seeded = self.config.seed + seed
        return Job(name, seed, lambda samples, _: self.subject.imagined(samples, seeded), None, view, keeps=True)

    def _pairing(self, role: str) -> Job:
        """The first imaginations from the other inputs of a minimal pair, of the samples that have them."""

        def prepare(sample: SpatialSample) -> Mediator | None:
            return None if other_inputs(sample, role) is None else Mediator("")

        job = self._imagining(PAIRED[PAIRS.index(role)], 0, lambda sample: other_inputs(sample, role) or sample)
        return replace(job, prepare=prepare)

    def _placing(self, pool: Pool, arm: Arm, seed: int) -> Job:
        return Job(
            str(arm),
            seed,
            lambda samples, mediators: self.subject.placed(samples, mediators, self.config.seed + seed),
            lambda sample: pool.prepare(arm, seed, sample),
        )

    def _rewrite(self, pool: Pool, arms: Sequence[Arm]) -> None:
        """Have all texts rewritten, several at a time; the arms then find the replies where they are kept."""
        runs = [(arm, seed) for arm in arms for seed in range(self.config.seeds)]
        missing = [(arm, seed) for arm, seed in runs if not (self.folder(str(arm), seed) / "done.json").is_file()]
        if not missing:
            return
        _ = pool.subject, self.endpoint  # made once, before threads ask for them

        def ask(arm: Arm, seed: int, sample: SpatialSample) -> None:
            try:
                pool.prepare(arm, seed, sample)
            except (EndpointDown, BudgetSpent):
                raise
            except UserError:
                return  # the arm itself says so of the sample

        tasks = (partial(ask, arm, seed, self.data[row]) for arm, seed in missing for row in pool.rows.values())
        total = len(missing) * len(pool.rows)
        list(tracked(concurrently(tasks, self.config.rewriter.workers), "rewriting", total))

    def _mediate(self, pool: Pool) -> None:
        """The four arms of mediation: inputs and mediator each of the question or of the treatment."""
        view = self._treated(pool)
        absent = [self._imagining(ABSENT, seed, view) for seed in range(self.config.seeds)]
        self._stage("treatment", absent)
        other = self.pool(ABSENT, self.config.seeds)
        sides = ((as_it_is, other.made), (view, pool.made), (view, other.made), (view, pool.truth))
        jobs = []
        for seed in range(self.config.seeds):
            for name, (seen, find) in zip(MEDIATION, sides, strict=True):
                prepare = partial(lambda find, seed, sample: find(sample.id, seed), find, seed)
                jobs.append(replace(self._placing(pool, Arm(name), seed), view=seen, prepare=prepare))
        self._stage("mediation", jobs)

    def _derive(self, pool: Pool) -> None:
        """Derived questions, answered from mediators alone; nothing where the data allows none."""

        def view(sample: SpatialSample) -> SpatialSample:
            return blank_inputs(derived_question(sample) or sample)

        def preparing(arm: Arm) -> Callable[[SpatialSample], Mediator | None]:
            def prepare(sample: SpatialSample) -> Mediator | None:
                found = None if derived_question(sample) is None else pool.prepare(arm, 0, sample)
                return found if isinstance(found, Mediator) else None

            return prepare

        named = zip(DERIVED, (IDENTITY, DESTROYED[self.kind], "gt"), strict=True)
        jobs = [(self._placing(pool, Arm(name), 0), preparing(parse_arm(text, self.kind))) for name, text in named]
        self._stage("derived", [replace(job, view=view, prepare=prepare) for job, prepare in jobs])

    def _treated(self, pool: Pool) -> View:
        if self.config.treatment == "blank":
            return blank_inputs

        def others(sample: SpatialSample) -> SpatialSample:
            name = pool.partner(sample.id, False, True) or pool.partner(sample.id, False, False)
            if name is None:
                raise UserError(f"sample '{sample.id}': there is no other scene whose pictures could stand in")
            images = self.data[pool.rows[name]].images
            if len(images) != len(sample.images):
                raise UserError(f"sample '{sample.id}' has {len(sample.images)} pictures, '{name}' has {len(images)}")
            return replace(sample, images=images)

        return others

    def _stage(self, what: str, jobs: Sequence[Job]) -> None:
        """Bring all jobs to their end, batch by batch."""
        with ExitStack() as stack:
            writers = [
                stack.enter_context(PredictionWriter(self.folder(job.name, job.seed), self._about(job))) for job in jobs
            ]
            done = [{p.sample_id for p in writer.finished} for writer in writers]
            ended = [(writer.folder / "done.json").is_file() for writer in writers]
            if all(ended):
                return
            meter = Meter(f"{self.root.name} {what}:", len(jobs) * len(self.chunks))
            try:
                for number, rows in enumerate(self.chunks):
                    samples = [self.data[row] for row in rows]
                    for place, (job, writer) in enumerate(zip(jobs, writers, strict=True)):
                        if not ended[place]:
                            self._answer(job, samples, rows, writer, done[place])
                        meter.update(number * len(jobs) + place + 1, job.name)
            finally:
                meter.close()
            for writer, over in zip(writers, ended, strict=True):
                if not over:
                    writer.finish(0.0)

    def _answer(
        self, job: Job, samples: Sequence[SpatialSample], rows: range, writer: PredictionWriter, done: set[str]
    ) -> None:
        if done.issuperset(sample.id for sample in samples):
            return
        ready, asked, mediators = [], [], {}
        for sample in samples:
            try:
                found = Mediator("") if job.prepare is None else job.prepare(sample)
                seen = job.view(sample)
            except (EndpointDown, BudgetSpent):
                raise
            except UserError as error:
                ready.append(Answered(about(sample, job.name, job.seed).failed(error)))
                continue
            if isinstance(found, Prediction):
                ready.append(Answered(replace(found, images=(), thoughts=())))
            elif found is not None:
                asked.append(seen)
                mediators[sample.id] = found
        if done.issuperset([*mediators, *(each.prediction.sample_id for each in ready)]):
            return
        shown = {sample.id for row, sample in zip(rows, samples, strict=True) if row < self.config.gallery}
        if asked:
            ready += job.ask(asked, mediators)
        fresh = [each for each in ready if each.prediction.sample_id not in done]
        writer.write([self._kept(job, each, mediators, shown, writer.folder) for each in fresh])

    def _kept(
        self, job: Job, each: Answered, mediators: Mapping[str, Mediator], shown: set[str], folder: Path
    ) -> Prediction:
        """The prediction, with the pictures that are kept of it: all that the model drew, and of an arm those of the
        gallery."""
        prediction = replace(each.prediction, mode=job.name, seed=job.seed)
        if job.keeps:
            for name, image in zip(prediction.images, each.images, strict=True):
                write_bytes(folder / name, image.data)
            for numbers in each.numbers[:1]:
                written = io.BytesIO()
                np.save(written, numbers)
                write_bytes(numbers_file(folder, prediction.sample_id), written.getvalue())
            return prediction
        given = mediators.get(prediction.sample_id) if prediction.sample_id in shown else None
        picture = None if given is None else self.subject.picture(given)
        if picture is None:
            return replace(prediction, images=())
        name = image_name(prediction.sample_id)
        write_bytes(folder / name, picture.data)
        return replace(prediction, images=(name,))

    def _about(self, job: Job) -> RunManifest:
        extra: dict[str, Any] = {"arm": job.name, "batch_size": self.config.batch_size}
        if job.name.removeprefix("gt.") == "rewrite":
            extra["rewriter"] = {name: getattr(self.config.rewriter, name) for name in ("model", "base_url", "request")}
        if job.name in (ABSENT, *MEDIATION):
            extra["treatment"] = self.config.treatment
        return replace(
            self.base, mode=job.name, seed=job.seed, settings=json.loads(json.dumps({**self.base.settings, **extra}))
        )


def labels(paths: Sequence[str]) -> list[str]:
    """Short names of checkpoints, different ones."""
    names = [Path(path).name for path in paths]
    return names if len(set(names)) == len(names) else [path.strip("/").replace("/", "_") for path in paths]


def experiments(config: FaithfulnessConfig) -> Iterator[tuple[str, Experiment]]:
    """The label and the runs of every checkpoint, the baseline last. ``UserError`` for data without questions."""
    reader = SampleReader(Path(str(config.data)))
    data: Samples = reader if config.limit is None else First(reader, config.limit)
    if len(data) < 2:
        raise UserError(f"{config.data} holds {len(data)} samples; an effect needs at least 2")
    paths = [*config.checkpoint, *([config.baseline] if config.baseline else [])]
    for path, label in zip(paths, labels(paths), strict=True):
        asked = InferConfig(
            checkpoint=path,
            data=config.data,
            mode=config.mode,
            limit=config.limit,
            seed=config.seed,
            dtype=config.dtype,
        )
        kind, renders = ("", True) if path == config.baseline else mediators_of(Path(path), config)
        make = partial(ModelSubject.load, path, config)
        folder, base = Path(config.output_dir) / label, manifest(asked, reader)
        yield label, Experiment(folder, kind, data, make, config, base, renders)


def mediators_of(checkpoint: Path, config: FaithfulnessConfig) -> tuple[str, bool]:
    """What the mediators of a checkpoint are, and whether counterfactual pictures can be. ``UserError`` where it was not trained
    to imagine."""
    recipe = read_recipe(model_folder(checkpoint))
    name = mediator(config.mode, recipe)
    return modes[name].kind, not recipe.imagination.of(name).true_only


def read_arms(root: Path) -> dict[tuple[str, int], dict[str, Prediction]]:
    """All finished runs in the folder of a checkpoint: predictions by arm, seed and id of the question."""
    found = {}
    for done in sorted(root.glob("*/s*/done.json")):
        run = read_run(done.parent)
        found[run.manifest.mode, run.manifest.seed] = {p.sample_id: p for p in run.predictions if p.choices}
    return found
