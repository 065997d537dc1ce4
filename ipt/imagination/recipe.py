"""How a model is to be asked: ``recipe.json`` travels with its weights, so that inference needs no flags to match training.

A recipe holds the imagination modes that the model was trained on, the sizes of its images, and every prompt text.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ipt.common.errors import MissingFile, UserError
from ipt.common.files import CorruptFile, read_json, write_json
from ipt.common.settings import typed
from ipt.imagination.mixture import ImaginationConfig
from ipt.imagination.modes import modes
from ipt.samples.prompts import PROMPTS_FILE, RELEASE_LAYOUTS, THOUGHTS, Profile, checked_text
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
            typed(Profile, values["profile"], "profile"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFile(f"{file} is not a recipe: {error}; export the model again") from error


def load_profile(name: str = "default", prompts: Path | None = None) -> Profile:
    """The profile ``default``, ``brief`` (a few words for each mode: to a tiny model a long prompt costs more than the pictures
    do), or ``release`` with the system prompts and thoughts of the ``prompts.json`` at ``prompts`` (the file or its folder).

    Raises ``UserError`` for another name or a missing path, ``CorruptFile`` for a file of another form.
    """
    if name in THOUGHTS:
        return Profile(
            name, {key: mode.prompts[name] for key, mode in modes.items() if name in mode.prompts}, THOUGHTS[name]
        )
    if name != "release":
        raise UserError(f"unknown profile '{name}'; valid: {', '.join(THOUGHTS)}, release")
    if prompts is None:
        raise UserError(
            f"the profile 'release' reads its system prompts from the {PROMPTS_FILE} of a converted dataset: "
            "say where that is"
        )
    path = prompts / PROMPTS_FILE if prompts.is_dir() else prompts
    value = read_json(path)
    try:
        systems = {str(key): checked_text(text) for key, text in value["systems"].items()}
        thoughts = {task: tuple(map(checked_text, value["thoughts"][task])) for task in value["thoughts"]}
        wrong = sorted({*(key.split("/")[-1] for key in systems)} - {*modes}) + sorted({*thoughts} - {*TASKS})
        if wrong:
            raise UserError(f"unknown modes or tasks {', '.join(wrong)}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CorruptFile(
            f"{path} does not hold 'systems' (mode or task/mode to text) and 'thoughts' (task to texts): {error}"
        ) from error
    return Profile("release", systems, thoughts, RELEASE_LAYOUTS)
