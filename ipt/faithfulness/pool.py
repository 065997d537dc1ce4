"""What the model made of all questions, from its run folders, as interventions and comparisons take it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from ipt.common.endpoint import Endpoint
from ipt.common.seeding import generator
from ipt.common.statistics import Floats
from ipt.evaluation.quality.pictures import means_of_other_scenes
from ipt.faithfulness.interventions import Arm, Case, changed, stream
from ipt.faithfulness.subject import Subject
from ipt.imagination.base import Mediator
from ipt.inference.prediction import Prediction, image_name, read_run
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.samples.views import Samples


def numbers_file(folder: Path, name: str) -> Path:
    """Where a run keeps the latents or codes of a question."""
    return (folder / image_name(name)).with_suffix(".npy")


class Pool:
    """What interventions take from other questions (`ipt.faithfulness.interventions.Others`): ``folders[k]`` holds the model's
    own imaginations number k of ``data``."""

    def __init__(
        self,
        subject: Callable[[], Subject],
        data: Samples,
        folders: Sequence[Path],
        seed: int,
        endpoint: Callable[[], Endpoint],
    ) -> None:
        self._subject, self.data, self.folders, self.seed = subject, data, list(folders), seed
        self._endpoint = endpoint
        self.rows = {str(name): row for row, name in enumerate(data.column("id"))}
        self.runs = [{p.sample_id: p for p in read_run(folder).predictions} for folder in folders]
        self.about = {name: p for name, p in sorted(self.runs[0].items()) if p.choices}
        self._by_answer: dict[tuple[str, str], list[str]] = {}
        self._by_scene: dict[tuple[str, str], list[str]] = {}
        for name, p in self.about.items():
            self._by_answer.setdefault((p.task, p.choices[p.expected]), []).append(name)
            self._by_scene.setdefault((p.task, p.scene), []).append(name)
        self.made = lru_cache(maxsize=4096)(self._made)
        self.true = lru_cache(maxsize=1024)(lambda name: self.subject.true_mediator(self.data[self.rows[name]]))
        self.means = lru_cache(maxsize=4)(self._means)

    @cached_property
    def subject(self) -> Subject:
        return self._subject()

    def answer(self, name: str) -> str:
        return self.about[name].choices[self.about[name].expected]

    def partner(self, name: str, scene: bool, answer: bool) -> str | None:
        own = self.about[name]
        wanted = [self.answer(name)] if answer else [each for each in own.choices if each != self.answer(name)]
        if scene:
            near = self._by_scene[own.task, own.scene] if own.scene else []
            found = [other for other in near if self.answer(other) in wanted]
        else:
            found = [other for each in wanted for other in self._by_answer.get((own.task, each), [])]
        start = int(generator(self.seed, "partner", int(scene), int(answer), name).integers(max(1, len(found))))
        turned = (*found[start:], *found[:start])
        return next((o for o in turned if o != name and (self.about[o].scene == own.scene) == scene), None)

    def _made(self, name: str, seed: int) -> Mediator | None:
        number = seed % len(self.runs)
        prediction = self.runs[number].get(name)
        if prediction is None or prediction.error is not None:
            return None
        folder = self.folders[number]
        images = [SampleImage((folder / each).read_bytes(), "imagination") for each in prediction.images]
        kept = numbers_file(folder, name)
        numbers = [np.load(kept, allow_pickle=False)] if kept.is_file() else []
        return self.subject.mediator_of(prediction.thoughts, images, numbers)

    def _means(self, seed: int | None, of: Callable[[Mediator], Floats]) -> Mapping[str, Floats]:
        found = {name: self.true(name) if seed is None else self.made(name, seed) for name in self.about}
        values = {name: of(mediator) for name, mediator in found.items() if mediator is not None}
        scenes = [self.about[name].scene or name for name in values]
        others = scenes if len(set(scenes)) > 1 else list(values)
        return dict(zip(values, means_of_other_scenes([*values.values()], others), strict=True))

    def showing(self, sample: SpatialSample, image: SampleImage) -> Mediator:
        return self.subject.true_mediator(replace(sample, imagination=replace(image, role=sample.imagination.role)))

    @property
    def codes(self) -> int:
        return self.subject.codes

    def reply(self, system: str, text: str) -> str:
        return self._endpoint().ask([text], system=system).text

    def round_trip(self, image: SampleImage) -> SampleImage:
        return self.subject.round_trip(image)

    def truth(self, name: str, seed: int) -> Mediator | None:
        """The true mediator under the words that announce the model's own; None where it made none."""
        own = self.made(name, seed)
        return None if own is None else own.announcing(self.true(name))

    def prepare(self, arm: Arm, seed: int, sample: SpatialSample) -> Mediator | Prediction | None:
        """What an arm puts before the answer. Where the model made nothing, there is nothing to change: its own answer
        stands."""
        own = self.made(sample.id, seed)
        if own is None:
            return self.runs[seed][sample.id]
        base = (self.truth(sample.id, seed) or own) if arm.is_true or arm.name == "render" else own
        return changed(
            arm, self.subject.kind, Case(sample, base, seed, arm.is_true, self, stream(arm, seed, sample.id))
        )
