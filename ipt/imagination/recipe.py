"""How a model is to be asked: ``recipe.json`` travels with its weights, so that inference needs no flags to match training.

A recipe holds the imagination modes that the model was trained on, the sizes of its images, every prompt text, and how the model
writes and draws unless it is asked otherwise.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from ipt.common.errors import MissingFile, UserError
from ipt.common.files import CorruptFile, read_json, write_json
from ipt.common.registry import UnknownName, unknown_name
from ipt.common.settings import typed
from ipt.imagination.mixture import ImaginationConfig
from ipt.imagination.modes import modes
from ipt.samples.prompts import PROMPTS_FILE, RELEASE_LAYOUTS, THOUGHTS, Profile, checked_text
from ipt.samples.sample import TASKS
from ipt.sequence.settings import SequenceConfig

RECIPE = "recipe.json"
FORMAT = "ipt-recipe-1"
CONTEXTS = ("published", "roles")


@dataclass(frozen=True)
class Sampling:
    """How a model writes and draws where ``mode.text`` and ``mode.draw`` leave it open (`ipt.inference.settings`): tokens of a
    text and its temperature (0: the likeliest token), points of the schedule, guidance scales (None: as trained).

    ``contexts`` of guidance. ``roles``: what has been said and seen without the prompt's texts, and without images, which leave
    their places in rope empty as in training. ``published``, as in BAGEL's ``interleave_inference``: the prompt up to its last
    text, and its texts alone; what the model has written or drawn since is in neither.
    """

    max_tokens: int = 1024
    temperature: float = 0.0
    timesteps: int = 25
    text_scale: float | None = None
    image_scale: float | None = None
    contexts: str = "roles"

    def __post_init__(self) -> None:
        if self.contexts not in CONTEXTS:
            raise UnknownName(unknown_name("contexts of guidance", self.contexts, CONTEXTS))
        if self.max_tokens < 1 or self.temperature < 0 or self.timesteps < 2:
            raise UserError(f"max_tokens must be at least 1, temperature >= 0 and timesteps at least 2, got {self}")

    def but(self, *asked: object) -> Sampling:
        """With what settings that have fields of the same names set to something."""
        known = {entry.name for entry in fields(self)}
        given = {name: value for each in asked for name, value in vars(each).items() if name in known}
        return replace(self, **{name: value for name, value in given.items() if value is not None})


#: As the IPT paper and its release sample, and what ``experiment=bagel`` sets.
PUBLISHED = Sampling(4096, 0.3, 50, 4.0, 2.0, "published")


@dataclass(frozen=True)
class Recipe:
    """``sequence.resolutions`` names the tasks that the model was trained on. ``sampling``: None where a recipe does not say."""

    imagination: ImaginationConfig
    sequence: SequenceConfig
    profile: Profile
    sampling: Sampling | None = None

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
            None if values.get("sampling") is None else typed(Sampling, values["sampling"], "sampling"),
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
