"""How a model is to be asked: ``recipe.json`` travels with its weights, so that inference needs no flags to match training.

A recipe holds the imagination modes that the model was trained on, the sizes of its images, and every prompt text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ipt.common.errors import MissingFile, UserError
from ipt.common.files import CorruptFile, read_json, write_json
from ipt.common.settings import typed
from ipt.imagination.settings import ImaginationConfig
from ipt.samples.prompts import Layout, Profile
from ipt.samples.sample import TASKS
from ipt.sequence.settings import SequenceConfig

RECIPE = "recipe.json"
FORMAT = "ipt-recipe-1"


@dataclass(frozen=True)
class Recipe:
    """``sequence.resolutions`` names the tasks that the model was trained on."""

    imagination: ImaginationConfig
    sequence: SequenceConfig
    profile: Profile

    @property
    def inference_sequence(self) -> SequenceConfig:
        """The sequence's settings, where a task that the model was not trained on takes the sizes of the first one."""
        known = self.sequence.resolutions
        first = next(iter(known.values()), self.sequence.resolution(""))
        return replace(self.sequence, resolutions={**dict.fromkeys(TASKS, first), **known})

    def save(self, folder: Path) -> None:
        """Write ``recipe.json``."""
        values = json.loads(json.dumps(asdict(self), default=str))
        write_json(folder / RECIPE, {"format": FORMAT, **values})


def read_recipe(path: Path) -> Recipe:
    """The recipe in a file, or in the ``recipe.json`` of a folder. Raises ``FileNotFoundError`` where there is none and
    ``CorruptFile``, which says what is wrong with it."""
    file = path / RECIPE if path.is_dir() else path
    if not file.is_file():
        raise MissingFile(
            f"{file} is missing: it says how the model is to be asked, and train.py writes it with the weights"
        )
    values = read_json(file)
    try:
        if values["format"] != FORMAT:
            raise UserError(f"its format is '{values['format']}', expected '{FORMAT}'")
        return Recipe(
            typed(ImaginationConfig, values["imagination"], "imagination"),
            typed(SequenceConfig, values["sequence"], "sequence"),
            _profile(values["profile"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFile(f"{file} is not a recipe: {error}; export the model again") from error


def _profile(values: Mapping[str, Any]) -> Profile:
    layouts = {
        task: Layout(**{**layout, "order": tuple(map(tuple, layout["order"]))})
        for task, layout in values["layouts"].items()
    }
    thoughts = {task: tuple(texts) for task, texts in values["thoughts"].items()}
    return Profile(values["name"], values["systems"], thoughts, layouts)
