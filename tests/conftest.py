"""Property tests draw the same examples in every run and however slowly; commands leave no settings to each other; the
longest files come first."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from hypothesis import HealthCheck, settings

settings.register_profile(
    "reproducible", derandomize=True, deadline=None, print_blob=False, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("reproducible")


#: Files of more than half a minute, longest first: `make test` deals whole files to its workers, in this order, so that none
#: is left with a long one at the end.
LONGEST = (
    "test_documents.py",
    "training/test_runs.py",
    "datagen/embedded/test_house.py",
    "datagen/test_audit.py",
    "datagen/test_habitat_tasks.py",
    "datagen/test_ai2thor_tasks.py",
    "training/test_command.py",
    "training/test_trainer.py",
    "training/test_distributed.py",
    "training/test_sweep.py",
    "datagen/test_run.py",
    "datagen/test_ai2thor.py",
    "datagen/test_habitat_worker.py",
    "datagen/embedded/test_backend.py",
    "inference/test_command.py",
    "study/test_study.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; a name that is no file is an error."""
    rank = {(Path(__file__).parent / name).resolve(strict=True): number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(scope="module", autouse=True)
def own_groups() -> Iterator[None]:
    """Hydra has one store per process, in which datagen files groups whose names train.py uses, too."""
    before = set(ConfigStore.instance().repo)
    yield
    for name in set(ConfigStore.instance().repo) - before:
        del ConfigStore.instance().repo[name]
