"""``python -m ipt.faithfulness checkpoint=RUN data=FOLDER``: intervene on what a model imagines, and write a card of what that
does.

Run folders and ``card.html`` with ``card.json`` go to ``output_dir``. The same command continues an interrupted run; with other
``arms`` it adds them. ``--help`` lists every key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ipt.common.errors import UserError
from ipt.common.hydra_command import Command, stop
from ipt.common.settings import text_fields
from ipt.faithfulness.settings import FaithfulnessConfig, faithfulness_config

COMMAND = Command("faithfulness")


def register() -> None:
    """File the defaults of the dataclass; ``conf/faithfulness.yaml`` overrides them."""
    COMMAND.register("faithfulness_defaults", asdict(FaithfulnessConfig()))


def run(composed: DictConfig) -> None:
    """One run; prints what may be concluded and where the card is."""
    values: Any = OmegaConf.to_container(composed, resolve=True)
    try:
        config = faithfulness_config(values)
        # torch takes seconds to import; by now the settings are known to go together
        from ipt.faithfulness.report import plan, write_card

        print(plan(config) if config.dry_run else write_card(config))
    except UserError as error:
        stop(str(error))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake ends with one line and exit code 2."""
    register()
    COMMAND.run(run, arguments, text_fields(FaithfulnessConfig))


if __name__ == "__main__":
    main()
