"""``python -m ipt.app checkpoint=base``: a page on which one sees a model imagine, at http://127.0.0.1:7860.

Move and turn in a simulated room, watch the unseen view being drawn, see the true one beside it, change what was imagined and see
the answer change. Needs the extra ``app`` (gradio).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ipt.common import cli
from ipt.common.errors import UserError
from ipt.inference.settings import DTYPES, DrawSettings

if TYPE_CHECKING:
    from ipt.app.game import Game

HOST = "127.0.0.1"
ROOMS = {"blocks": "Room with coloured blocks", "home": "Furnished home"}
SMALL = 128  # pixels that a model is shown, below which it knows block rooms only


@dataclass(frozen=True)
class AppConfig:
    """Play with a checkpoint on a page of this machine.

    checkpoint: a run of train.py, a model folder, or base, which draws but was never trained to answer. rooms: what one walks in
    first, blocks or home (default: what a model of its size knows). draw.timesteps=13 and the like: as in infer.py. port: 0 takes
    a free one. share: ask gradio for a public address; whoever has it can play, too. device, dtype: as in infer.py.
    """

    checkpoint: str
    rooms: str = ""
    draw: DrawSettings = field(default_factory=lambda: DrawSettings(timesteps=13, shift=4.0))
    port: int = 7860
    share: bool = False
    device: str = "auto"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.rooms and self.rooms not in ROOMS:
            raise UserError(f"rooms must be {' or '.join(ROOMS)}, got '{self.rooms}'")
        if self.dtype not in DTYPES:
            raise UserError(f"dtype must be {' or '.join(DTYPES)}, got '{self.dtype}'")
        if not 0 <= self.port < 2**16:
            raise UserError(f"port must be from 0 to {2**16 - 1}, got {self.port}")


def make_game(config: AppConfig) -> Game:
    """The model and its simulators, which start when first asked. ``UserError`` for a checkpoint that draws nothing."""
    from ipt.app.game import Game
    from ipt.app.player import Player
    from ipt.app.simulator import Simulator
    from ipt.inference.checkpoint import load_checkpoint
    from ipt.model.devices import chosen_device
    from ipt.study.base import ROOMS as KNOWN

    checkpoint = load_checkpoint(Path(config.checkpoint), device=chosen_device(config.device), dtype=config.dtype)
    trained = checkpoint.recipe.imagination
    if not trained.drawing:
        raise UserError(
            f"checkpoint={config.checkpoint} was trained on {', '.join(trained.modes)}, none of which draws"
        )
    player = Player(checkpoint, config.draw)
    words = f"task.plain={str(checkpoint.recipe.profile.name == 'brief').lower()}"
    size = f"image_size={min(256, max(32, player.side))}"
    blocks = [setting for setting in KNOWN if setting.startswith(("backend", "task."))]
    return Game(player, {"blocks": Simulator([*blocks, words, size]), "home": Simulator([words, size])})


def main(config: AppConfig) -> None:
    """Serve the page until interrupted."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        from ipt.app.page import build, launch
    except ImportError as error:
        raise UserError("this needs gradio: pip install 'imaginative-perception-tokens[app]'") from error
    game = make_game(config)
    first = config.rooms or ("blocks" if game.player.side <= SMALL else "home")
    try:
        launch(build(game, ROOMS, first), HOST, config.port, config.share)
    finally:
        for simulator in game.simulators.values():
            simulator.close()


if __name__ == "__main__":
    cli.run(AppConfig, main)
