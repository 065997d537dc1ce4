"""``python -m datagen.stage backend=blocks image_size=64``: answer requests about scenes, a line of JSON each, until input ends.

A request is ``{"do": "look", "scene": 3}``, or ``step``, ``walk``, ``around``, ``mark`` with the arguments of
`datagen.stage.stage.Stage`. A reply has what came of it, pictures in base64, or ``{"error": "..."}`` for what cannot be done
there. The first line says that the simulator is ready. Settings are those of ``python -m datagen`` with ``task=drawing``.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TextIO

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from datagen.__main__ import COMMAND, compose, register
from datagen.config import run_config
from datagen.stage.stage import Scenario, Stage
from ipt.common.errors import UserError
from ipt.common.hydra_command import stop
from ipt.common.registry import unknown_name


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until standard input ends. What libraries print goes to standard error: standard output is for replies."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & {*given}:
        print((__doc__ or "").strip())
        return
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as replies:
        os.dup2(2, 1)
        register()
        overrides = ["task=drawing", "split=test", *given]
        try:
            values: Any = OmegaConf.to_container(compose(overrides), resolve=True)
            stage = Stage(run_config(values))
        except (HydraException, OmegaConfBaseException) as error:
            stop(COMMAND.explain(error, overrides))
        except UserError as error:
            stop(str(error))
        try:
            serve(stage, sys.stdin, replies)
        finally:
            stage.close()


def serve(stage: Stage, requests: TextIO, replies: TextIO) -> None:
    """Answer line by line."""
    print(json.dumps({"ready": stage.backend.version}), file=replies, flush=True)
    for line in requests:
        try:
            reply = answered(stage, json.loads(line))
        except UserError as error:
            reply = {"error": str(error)}
        except (TypeError, KeyError, ValueError) as error:
            reply = {"error": f"not a request: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


def answered(stage: Stage, request: Mapping[str, Any]) -> dict[str, Any]:
    """The reply to a request. ``UserError`` for what cannot be done in the scene."""
    does: Mapping[str, Callable[..., Any]] = {
        "look": stage.look,
        "step": stage.step,
        "walk": stage.walk,
        "around": stage.around,
        "mark": stage.mark,
    }
    wanted = dict(request)
    name = str(wanted.pop("do", ""))
    if name not in does:
        raise UserError(unknown_name("request", name, does))
    made = does[name](**wanted)
    if isinstance(made, bytes):
        return {"marked": text(made)}
    if not isinstance(made, Scenario):
        view, above = made
        return {"view": text(view), "map": text(above)}
    return {
        "sample": made.sample.to_json(),
        "questions": [asdict(asked) for asked in made.questions],
        "marked": text(made.marked),
        "views": [text(view) for view in made.views],
        "truth": text(made.truth),
    }


def text(picture: bytes) -> str:
    """A picture as text."""
    return base64.b64encode(picture).decode()


if __name__ == "__main__":
    main()
