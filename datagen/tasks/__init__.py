"""The three tasks of the paper, and drawing alone, by name."""

from datagen.tasks.base import TASKS, TaskConfig
from datagen.tasks.drawing import DrawingConfig
from datagen.tasks.multiview_counting import MultiviewCountingConfig
from datagen.tasks.path_settings import PathTracingConfig
from datagen.tasks.path_tracing import PathTracing
from datagen.tasks.perspective_taking import PerspectiveTakingConfig
from ipt.common.registry import Registry

TASK_CONFIGS: Registry[type[TaskConfig]] = Registry("task")
TASK_CONFIGS.register("pet")(PerspectiveTakingConfig)
TASK_CONFIGS.register("pt")(PathTracingConfig)
TASK_CONFIGS.register("mvc")(MultiviewCountingConfig)
TASK_CONFIGS.register("drawing")(DrawingConfig)

__all__ = ["TASKS", "TASK_CONFIGS", "PathTracing"]
