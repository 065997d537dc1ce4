"""``python -m datagen.backends.doctor``: what this machine has of the simulators and of optional packages, and the commands that
get the rest.

Each simulator that is complete renders one frame to a PNG file. The exit code is 0 if all that were asked for
(``simulators=[embedded,habitat]``) gave one.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from datagen.backends.ai2thor import Ai2thorBackend, Ai2thorConfig
from datagen.backends.ai2thor import diagnose as diagnose_ai2thor
from datagen.backends.base import BackendUnavailable, Frame, Modality, SceneBackend, SceneError, SimulatorDied
from datagen.backends.diagnosis import Finding
from datagen.backends.embedded.backend import EmbeddedBackend
from datagen.backends.embedded.gl import INSTRUCTION, prepare_gl
from datagen.backends.embedded.models.catalogue import PACKAGE, read_catalogue
from datagen.backends.habitat.backend import HabitatBackend, HabitatConfig
from datagen.backends.habitat.setup import diagnose as diagnose_habitat
from ipt.common import cli
from ipt.common.errors import UserError
from ipt.common.files import write_bytes
from ipt.common.images import encode_image
from ipt.common.registry import unknown_name
from ipt.common.seeding import generator
from ipt.samples.camera import Camera, CameraPose
from ipt.samples.sample import SPLITS

SIZE = 256
DEPTH: tuple[Modality, ...] = ("depth",)
RGB: tuple[Modality, ...] = ("rgb",)


@dataclass(frozen=True)
class DoctorConfig:
    """Check this machine for the three simulators; render one frame with each that is complete.

    simulators: which; habitat_python, habitat_dataset, habitat_data, habitat_gpu: as backend.python,
    backend.dataset, backend.data and backend.gpu of backend=habitat; ai2thor_executable: backend.local_executable of
    backend=ai2thor; furniture_root: backend.furniture_root of backend=embedded; output_dir: folder of the frames.
    """

    simulators: list[str] = field(default_factory=lambda: list(SIMULATORS))
    habitat_python: str = "python"
    habitat_dataset: str = "hm3d"
    habitat_data: str = "data/scene_datasets/hm3d"
    habitat_gpu: int = 0
    ai2thor_executable: str | None = None
    furniture_root: str | None = None
    output_dir: str = "outputs/doctor"

    def habitat(self) -> HabitatConfig:
        """The backend's configuration."""
        return HabitatConfig(
            python=self.habitat_python, dataset=self.habitat_dataset, data=self.habitat_data, gpu=self.habitat_gpu
        )


@dataclass(frozen=True)
class Simulator:
    """How a simulator is examined and how it is made."""

    examine: Callable[[DoctorConfig], list[Finding]]
    make: Callable[[DoctorConfig], SceneBackend]


def examine_embedded(config: DoctorConfig) -> list[Finding]:
    """The renderers of the embedded simulator, and the furniture libraries that it can use."""
    platform = prepare_gl()
    embree = importlib.util.find_spec("embreex") is not None
    return [
        Finding(
            "MuJoCo renderer", platform is not None, f"through {platform}" if platform else "no OpenGL", INSTRUCTION
        ),
        Finding("ray caster (embreex)", embree, "installed" if embree else "missing", "pip install embreex"),
        examine_furniture(config.furniture_root),
    ]


def examine_furniture(root: str | None) -> Finding:
    """What backend.furniture=sweethome3d would find."""
    name = "furniture libraries, for backend.furniture=sweethome3d"
    try:
        found = read_catalogue(root)
    except (BackendUnavailable, SceneError) as error:
        return Finding(name, False, str(error).splitlines()[0], f"apt-get install -y {PACKAGE}")
    return Finding(name, True, f"{found.count} models of {len(found.entries)} categories ({', '.join(found.versions)})")


SIMULATORS: dict[str, Simulator] = {
    "embedded": Simulator(examine_embedded, lambda _: EmbeddedBackend()),
    "ai2thor": Simulator(
        lambda _: diagnose_ai2thor(),
        lambda config: Ai2thorBackend(Ai2thorConfig(local_executable=config.ai2thor_executable)),
    ),
    "habitat": Simulator(
        lambda config: diagnose_habitat(config.habitat()), lambda config: HabitatBackend(config.habitat())
    ),
}


#: Optional packages by module: their name, what needs them, and how they are installed.
PACKAGES = {
    "flash_attn": ("flash-attn", "model.attention=flash", "pip install flash-attn --no-build-isolation"),
    "tensorboard": ("tensorboard", "tracker=[tensorboard]", "pip install tensorboard"),
    "wandb": ("wandb", "tracker=[wandb]", "pip install wandb"),
    "openai": ("openai", "models behind an endpoint: datagen.judge, ipt.evaluation.baselines", "pip install openai"),
    "submitit": ("submitit", "hydra/launcher=slurm", "pip install hydra-submitit-launcher submitit"),
    "dask": ("dask", "engine=dask", "pip install 'dask[distributed]'"),
    "ray": ("ray", "engine=ray", "pip install ray"),
}


def examine_packages() -> list[Finding]:
    """What is installed of the optional packages. Nothing is imported."""
    found = {module: importlib.util.find_spec(module) is not None for module in PACKAGES}
    return [
        Finding(name, found[module], f"{'installed' if found[module] else 'not installed'}, for {use}", install)
        for module, (name, use, install) in PACKAGES.items()
    ]


def first_scene(backend: SceneBackend) -> str:
    """A scene of any split; ``SceneError`` of the last one if none has any."""
    for split in SPLITS[:-1]:
        with contextlib.suppress(SceneError):
            return backend.scenes(split)[0]
    return backend.scenes(SPLITS[-1])[0]


def first_frame(backend: SceneBackend) -> tuple[str, Frame]:
    """The first scene of the first split that has one, seen from a free place in the direction with the longest view."""
    info = backend.load(first_scene(backend))
    x, y, z = backend.sample_navigable(1, generator(0, "doctor"))[0]
    poses = [CameraPose((x, y, z + 1.4), yaw, -0.15) for yaw in np.arange(8) * np.pi / 4]
    small = backend.render([Camera(pose, 32, 32) for pose in poses], DEPTH)
    depths = [float(np.median(frame.depth)) for frame in small if frame.depth is not None]
    return info.scene_id, backend.render([Camera(poses[int(np.argmax(depths))], SIZE, SIZE)], RGB)[0]


def examine(name: str, config: DoctorConfig) -> list[Finding]:
    """All findings about a simulator; the last one is its frame."""
    findings = SIMULATORS[name].examine(config)
    try:
        with SIMULATORS[name].make(config) as backend:
            scene_id, frame = first_frame(backend)
            version = backend.version
    except (BackendUnavailable, SceneError, SimulatorDied) as error:
        return [*findings, Finding("frame", False, str(error).splitlines()[0], "see above")]
    assert frame.rgb is not None
    path = Path(config.output_dir) / f"{name}.png"
    write_bytes(path, encode_image(frame.rgb, "png"))
    return [*findings, Finding("frame", True, f"{path}: {scene_id}, {version}")]


def tell(title: str, findings: list[Finding]) -> None:
    """Print what was found, and how to get what is missing."""
    print(f"\n{title}")
    for finding in findings:
        print(f"  {'ok     ' if finding.ok else 'missing'} {finding.component}: {finding.detail}")
        if not finding.ok and finding.fix:
            print(f"          {finding.fix}")


def main(config: DoctorConfig) -> None:
    for name in config.simulators:
        if name not in SIMULATORS:
            raise UserError(unknown_name("simulator", name, list(SIMULATORS)))
    healthy = True
    for name in config.simulators:
        findings = examine(name, config)
        tell(name, findings)
        healthy &= findings[-1].ok
    tell("optional packages", examine_packages())
    sys.exit(0 if healthy else 1)


if __name__ == "__main__":
    cli.run(DoctorConfig, main)
