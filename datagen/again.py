"""The samples of a dataset with their scenes, made again by the simulator that made the dataset: what renders more of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np

from datagen.backends.base import TOP_DOWN_HIDES, Frame, Modality, SceneBackend, SceneError, SceneInfo, SimulatorDied
from datagen.verify import maker_of
from ipt.common.errors import UserError
from ipt.common.progress import tracked
from ipt.samples.camera import Camera
from ipt.samples.sample import SpatialSample
from ipt.samples.store import SampleReader

SAME = 3.0  # of 255: mean difference (median, on maps) up to which a picture counts as made again


@dataclass
class Again:
    """The samples of ``source``, by scene, each with the loaded simulator; those whose true picture does not come out again are
    left out and counted by reason. ``maps``: pictures from above, too. ``limit``: only the first so many; 0 for all."""

    source: Path
    maps: bool
    limit: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def samples(self, what: str) -> Iterator[tuple[SpatialSample, SceneBackend, SceneInfo]]:
        """Once. ``what``: in the progress bar. Raises ``UserError`` where nothing can be made again."""
        made = 0
        with maker_of(self.source) as backend:
            reader = SampleReader(self.source)
            rows = range(min(self.limit or len(reader), len(reader)))
            scenes = [provenance["scene_id"] for provenance in reader.column("provenance")]
            samples = (reader[row] for row in sorted(rows, key=scenes.__getitem__))  # each scene is loaded once
            watched = tracked(samples, what, len(rows))
            for scene_id, group in groupby(watched, key=lambda sample: sample.provenance.scene_id):
                info, unmade = None, ""
                try:
                    info = backend.load(scene_id)
                except (SceneError, SimulatorDied) as error:
                    unmade = f"the scene is not made again: {str(error).splitlines()[0]}"
                for sample in group:
                    why = unmade or self._problem(sample, backend)
                    if why or info is None:
                        self.left_out[why] += 1
                    else:
                        made += 1
                        yield sample, backend, info
        if not made:
            raise UserError(f"no view of {self.source} could be rendered again ({self.told or 'it holds no samples'})")

    @property
    def told(self) -> str:
        """How many were left out, and why."""
        return "; ".join(f"{count} left out: {reason}" for reason, count in self.left_out.most_common())

    def _problem(self, sample: SpatialSample, backend: SceneBackend) -> str:
        """Why the true picture of a sample is not made again; empty where it is. A map may bear marks and masks."""
        camera = sample.imagination.camera
        if camera is None:
            return "the camera of the true picture is not known"
        above = camera.ortho_height_m is not None
        if above and not self.maps:
            return "the true picture is a map, not a view from somewhere"
        stored, again = sample.imagination.pixels(), render(backend, camera, "rgb").rgb
        if again is not None and stored.shape == again.shape:
            difference = np.abs(stored.astype(int) - again)
            if (np.median(difference) if above else difference.mean()) <= SAME:
                return ""
        return "the scene that is made again differs from the dataset's"


def render(backend: SceneBackend, camera: Camera, modality: Modality) -> Frame:
    """What a camera of a sample sees, a map's without ceilings."""
    hide = TOP_DOWN_HIDES if camera.ortho_height_m is not None else frozenset()
    return backend.render([camera], (modality,), hide)[0]
