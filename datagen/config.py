"""What a generation run is: typed settings, read from plain mappings, with a digest of all that shapes the samples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from datagen.backends.registry import BACKENDS
from datagen.tasks import TASK_CONFIGS
from datagen.tasks.base import TaskConfig
from ipt.common.errors import UserError
from ipt.common.registry import UnknownName, unknown_name
from ipt.common.seeding import check_seed
from ipt.common.settings import MAX_PROCESSES, typed, within
from ipt.samples.sample import SPLITS

ENGINES = ("local", "dask", "ray")
#: Settings that decide where and how fast the work is done, never what comes out.
RUNTIME = ("workers", "engine", "cluster", "output_dir", "recycle")


@dataclass(frozen=True, slots=True)
class RunConfig:
    """One command: ``num_samples`` questions of ``task`` from the scenes of ``backend``'s ``split``, under ``seed``.

    ``shard`` = ``i/n`` makes the i-th (from 0) of n equal parts, for arrays of jobs that share ``output_dir``.
    ``recycle``: scenes after which a worker process is replaced. ``cluster``: scheduler address for engine=dask and
    engine=ray, else one is started here. ``samples_per_shard`` bounds the rows of a parquet file.
    """

    task: TaskConfig
    backend: str
    backend_config: Any
    output_dir: str
    split: str = "train"
    num_samples: int = 64
    seed: int = 0
    image_size: int = 256
    workers: int = 1
    engine: str = "local"
    cluster: str | None = None
    shard: str = "0/1"
    recycle: int = 200
    samples_per_shard: int = 256

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise UnknownName(unknown_name("split", self.split, SPLITS))
        if self.engine not in ENGINES:
            raise UnknownName(unknown_name("engine", self.engine, ENGINES))
        for name, least in (("num_samples", 1), ("image_size", 32), ("workers", 1), ("recycle", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}, got {getattr(self, name)}")
        check_seed(self.seed)
        if self.engine == "local":
            within(self, workers=MAX_PROCESSES)
        if not 1 <= self.samples_per_shard <= 4096:
            raise UserError(f"samples_per_shard must lie in 1..4096, got {self.samples_per_shard}")
        part, parts = self.part
        if not 0 <= part < parts <= self.num_samples:
            raise UserError(f"shard must be i/n with 0 <= i < n <= num_samples, got {self.shard}")

    @property
    def part(self) -> tuple[int, int]:
        """(i, n) of ``shard``."""
        first, slash, second = self.shard.partition("/")
        if not slash or not first.isdecimal() or not second.isdecimal():
            raise UserError(f"shard must read i/n, such as 0/4, got '{self.shard}'")
        return int(first), int(second)

    @property
    def part_samples(self) -> int:
        """Samples that this part makes."""
        part, parts = self.part
        return self.num_samples // parts + (part < self.num_samples % parts)

    @property
    def prefix(self) -> str:
        """Name of this part's files."""
        part, parts = self.part
        return f"{self.task.name}-{self.split}" + (f"-part{part:04d}of{parts:04d}" if parts > 1 else "")

    def content(self) -> dict[str, Any]:
        """The settings that shape the samples, as JSON values."""
        values = {name: value for name, value in asdict(self).items() if name not in (*RUNTIME, "shard")}
        content: dict[str, Any] = json.loads(json.dumps({**values, "parts": self.part[1]}))
        return content

    @property
    def sha256(self) -> str:
        """Digest of :meth:`content`."""
        return hashlib.sha256(json.dumps(self.content(), sort_keys=True).encode()).hexdigest()


def run_config(values: Mapping[str, Any]) -> RunConfig:
    """A run from nested mappings: ``task`` and ``backend`` are mappings with a ``name``; the rest are ``RunConfig`` keys."""
    rest = dict(values)
    task = dict(rest.pop("task"))
    backend = dict(rest.pop("backend"))
    backend_name = str(backend.pop("name"))
    task_config = typed(TASK_CONFIGS[str(task["name"])], task, f"task {task['name']}")
    backend_config = typed(BACKENDS[backend_name].config_class(), backend, f"backend {backend_name}")
    if hasattr(backend_config, "for_task"):
        backend_config = backend_config.for_task(task_config.name)
    valid = [entry.name for entry in fields(RunConfig)]
    for key in rest:
        if key not in valid or key == "backend_config":
            raise UnknownName(unknown_name("key", str(key), sorted({*valid} - {"backend_config"})))
    output = rest.pop("output_dir", None) or f"data/{task_config.name}-{rest.get('split', 'train')}"
    return RunConfig(task=task_config, backend=backend_name, backend_config=backend_config, output_dir=output, **rest)
