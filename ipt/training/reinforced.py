"""Settings of runs that train on what the model makes itself: it is asked as it was trained, and what nothing would read is
refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any

from ipt.common.errors import UserError
from ipt.common.settings import flat
from ipt.imagination.mixture import ImaginationConfig
from ipt.imagination.recipe import read_recipe
from ipt.model.config import model_path
from ipt.reinforcement.settings import unread
from ipt.sequence.settings import Resolution, SequenceConfig

if TYPE_CHECKING:
    from ipt.training.config import TrainConfig


def as_trained(config: TrainConfig) -> TrainConfig:
    """The settings of a reinforced run with the imagination and the sequence of the model that it starts from. ``UserError``
    names keys that say otherwise."""
    recipe = read_recipe(model_path(str(config.model.init)))
    known = recipe.inference_sequence
    sizes = {task: known.resolution(task) for task in config.task.names}
    most: dict[str, Any] = {"max_sample_tokens": min(known.max_sample_tokens, config.loader.budget)}
    for key in ("max_prompt_tokens", "max_sample_tokens"):
        if (given := getattr(config.sequence, key)) != getattr(SequenceConfig(), key):
            most[key] = given
    sequence = replace(known, resolutions=sizes, seed=config.sequence.seed, **most)
    found = _said_otherwise("imagination", config.imagination, ImaginationConfig({}), recipe.imagination)
    found += _said_otherwise("sequence", config.sequence, SequenceConfig(), replace(known, seed=config.sequence.seed))
    for size in sizes.values():
        found += _said_otherwise("resolution", config.resolution, Resolution(), size)
    if config.data.profile not in ("default", recipe.profile.name):
        found.append(f"data.profile={config.data.profile} (trained: {recipe.profile.name})")
    if found:
        raise UserError(
            f"the model is asked as it was trained, which its recipe says; leave out {', '.join(dict.fromkeys(found))}"
        )
    return replace(config, imagination=recipe.imagination, sequence=sequence)


def _said_otherwise(group: str, given: Any, default: Any, trained: Any) -> list[str]:
    """The keys of a group that are set, and not to what the model was trained with."""
    here, plain, there = (flat(json.loads(json.dumps(asdict(each), default=str))) for each in (given, default, trained))
    return [
        f"{group}.{key}={value} (trained: {there.get(key)})"
        for key, value in here.items()
        if value != plain.get(key) and value != there.get(key) and not key.startswith("max_")
    ]


def conflicts(config: TrainConfig, is_set: Callable[[str], bool]) -> list[str]:
    """What of a reinforced run's settings does not go together, each with what would be right. ``is_set``: whether a key, or
    one of a group, is not the default."""
    grpo, updates, found = config.grpo, config.grpo.updates, []
    if config.model.init is None and not config.dry_run:
        found.append(f"grpo.stage={grpo.stage} goes on from a trained model: set model.init to its run")
    if grpo.questions % config.loader.packs_per_step:
        found.append(
            f"grpo.questions={grpo.questions} cannot be shared by loader.packs_per_step={config.loader.packs_per_step} lanes; "
            "choose a multiple"
        )
    for key, steps in (("trainer.steps", config.trainer.steps), ("checkpoints.every", config.checkpoints.every)):
        if steps % updates:
            found.append(f"{key}={steps} must be a multiple of grpo.updates={updates}: runs are saved between rollouts")
    if config.tuning.kind == "lora" and config.tuning.lora.dropout:
        found.append("tuning.lora.dropout=0 is needed for rollouts: a replay with dropout is not what was played")
    if grpo.reader is not None and not model_path(grpo.reader).is_dir():
        found.append(f"grpo.reader={grpo.reader} is no folder")
    if config.imagination.trained:
        found += unread(grpo, config.imagination)
    supervised = ["loader.target", "loader.open_packs", "loader.max_samples", "loader.workers", "data.cache"]
    if config.data.validation is None:
        supervised += [f"loss.{entry.name}" for entry in fields(config.loss) if entry.name != "chunk"]
    found += [f"{key} has no effect on rollouts: leave it out" for key in supervised if is_set(key)]
    return found
