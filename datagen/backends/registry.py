"""Backends by name, imported only when chosen: a simulator's packages are needed by those who use it alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from datagen.backends.base import SceneBackend
from ipt.common.registry import Registry


@dataclass(frozen=True, slots=True)
class BackendEntry:
    """Module of a backend, the class of its configuration and its own class.

    ``tasks``: for recorded pictures, the class of this module that makes each task; a simulator makes all of ``datagen.tasks``.
    """

    module: str
    config: str
    backend: str
    tasks: dict[str, str] = field(default_factory=dict)

    def config_class(self) -> type[Any]:
        """The dataclass of the backend's settings."""
        found: type[Any] = getattr(import_module(self.module), self.config)
        return found

    def make(self, config: Any) -> SceneBackend:
        """A backend with these settings; ``BackendUnavailable`` where its simulator is missing."""
        backend: SceneBackend = getattr(import_module(self.module), self.backend)(config)
        return backend


BACKENDS: Registry[BackendEntry] = Registry("backend")
BACKENDS.register("embedded")(BackendEntry("datagen.backends.embedded.backend", "EmbeddedConfig", "EmbeddedBackend"))
BACKENDS.register("ai2thor")(BackendEntry("datagen.backends.ai2thor", "Ai2thorConfig", "Ai2thorBackend"))
BACKENDS.register("habitat")(BackendEntry("datagen.backends.habitat.backend", "HabitatConfig", "HabitatBackend"))
BACKENDS.register("messytable")(
    BackendEntry("datagen.real.messytable", "MessyTableConfig", "MessyTableBackend", {"mvc": "MessyTableCounting"})
)
BACKENDS.register("scannetpp")(
    BackendEntry("datagen.real.scannetpp", "ScanNetConfig", "ScanNetBackend", {"mvc": "ScanNetCounting"})
)
BACKENDS.register("vst")(BackendEntry("datagen.real.vst", "VstConfig", "VstBackend", {"pet": "VstMotion"}))
BACKENDS.register("matterport3d")(
    BackendEntry("datagen.real.matterport3d", "MatterportConfig", "MatterportBackend", {"pt": "PathTracing"})
)
