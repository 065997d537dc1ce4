"""Profiles by name: their system prompts are those of the modes, or, for ``release``, read from a converted dataset."""

from __future__ import annotations

from pathlib import Path

from ipt.common.errors import UserError
from ipt.common.files import CorruptFile, read_json
from ipt.imagination.modes import modes
from ipt.samples.prompts import PROMPTS_FILE, RELEASE_LAYOUTS, THOUGHTS, Profile, checked_text
from ipt.samples.sample import TASKS


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
