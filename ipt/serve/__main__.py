"""``python -m ipt.serve checkpoint=RUN``: an OpenAI-compatible endpoint at http://127.0.0.1:8000/v1.

Chat completions with pictures in and out: a question with options comes back with the answer and the picture that the model
imagined. Concurrent requests are answered together. Needs the extra ``serve`` (starlette and uvicorn).
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ipt.common import cli
from ipt.common.errors import UserError
from ipt.common.seeding import check_seed
from ipt.inference.settings import DTYPES, DrawSettings, ModeSettings

if TYPE_CHECKING:
    from ipt.inference.checkpoint import Checkpoint
    from ipt.serve.batching import Batcher
    from ipt.serve.requests import Desk

HOST = "127.0.0.1"


@dataclass(frozen=True)
class ServeConfig:
    """Serve a checkpoint to programs of this machine, as OpenAI serves its models.

    checkpoint: a run of train.py, a model folder, or base, which only draws. name: of the model in requests (default: the
    folder's). answer: how those are answered that set no field mode: answer_only, imagination, free, selective or draw (default:
    imagination where the model was trained to imagine). options: read answers from the options' probabilities, without writing.
    draw.timesteps=13 and the like, seed, batch_size, device, dtype, graphs: as in infer.py. timeout_s: seconds that a
    request may take. max_waiting: requests that wait at a time; more are turned away. port: 0 takes a free one.
    """

    checkpoint: str
    name: str = ""
    answer: str = ""
    options: bool = False
    draw: DrawSettings = field(default_factory=DrawSettings)
    batch_size: int = 32
    seed: int = 0
    timeout_s: float = 120.0
    max_waiting: int = 1024
    port: int = 8000
    device: str = "auto"
    dtype: str = "float32"
    graphs: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UserError(f"dtype must be {' or '.join(DTYPES)}, got '{self.dtype}'")
        if not 0 <= self.port < 2**16:
            raise UserError(f"port must be from 0 to {2**16 - 1}, got {self.port}")
        if self.batch_size < 1 or self.max_waiting < 1 or not self.timeout_s > 0:
            raise UserError("batch_size and max_waiting must be at least 1, and timeout_s positive")
        check_seed(self.seed)


def make_parts(config: ServeConfig, checkpoint: Checkpoint) -> tuple[Desk, Batcher]:
    """What reads requests, and what answers them. ``UserError`` for a way to answer that the model was not trained for."""
    from ipt.common.registry import unknown_name
    from ipt.inference.engine import Engine
    from ipt.serve.batching import Batcher
    from ipt.serve.requests import MODES, Desk

    trained = checkpoint.recipe.imagination
    default = "imagination" if trained.mediators else "answer_only" if trained.answering else "draw"
    mode = config.answer or default
    if mode not in MODES:
        raise UserError(unknown_name("answer", mode, MODES))
    answer = "options" if config.options else "text"
    settings = ModeSettings("answer_only", answer=answer, draw=config.draw, max_seconds=config.timeout_s)
    if mode == "draw" and not trained.drawing:
        raise UserError(f"the model was trained on {', '.join(trained.modes)}, none of which draws")
    if mode != "draw":
        Engine(
            checkpoint, ModeSettings(mode, answer=answer, draw=config.draw)
        )  # raises what is wrong, before any request
    name = config.name or Path(config.checkpoint).resolve().name
    batcher = Batcher(checkpoint, settings, config.batch_size, config.max_waiting)
    return Desk(checkpoint, name, mode, config.seed), batcher


def main(config: ServeConfig) -> None:
    """Serve until interrupted."""
    try:
        import uvicorn

        from ipt.serve.http import make_app
    except ImportError as error:
        raise UserError(
            "this needs starlette and uvicorn: pip install 'imaginative-perception-tokens[serve]'"
        ) from error
    from ipt.inference.checkpoint import load_checkpoint
    from ipt.model.devices import chosen_device

    try:
        listening = socket.create_server((HOST, config.port))
    except OSError as error:
        raise UserError(
            f"port {config.port} of this machine is taken; set another port, or port=0 for a free one"
        ) from error
    device = chosen_device(config.device)
    checkpoint = load_checkpoint(Path(config.checkpoint), device=device, dtype=config.dtype, graphs=config.graphs)
    desk, batcher = make_parts(config, checkpoint)
    about = f"model={desk.name} base_url=http://{HOST}:{listening.getsockname()[1]}/v1"
    print(f"{about} ({desk.mode} unless a request says otherwise; Ctrl-C ends it)", flush=True)
    app = make_app(desk, batcher, config.timeout_s)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run([listening])
    batcher.close()


if __name__ == "__main__":
    cli.run(ServeConfig, main)
