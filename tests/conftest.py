"""Property tests draw the same examples in every run and have no deadline; commands leave no settings to each other."""

from collections.abc import Iterator

import pytest
from hydra.core.config_store import ConfigStore
from hypothesis import settings

settings.register_profile("reproducible", derandomize=True, deadline=None, print_blob=False)
settings.load_profile("reproducible")


@pytest.fixture(scope="module", autouse=True)
def own_groups() -> Iterator[None]:
    """Hydra has one store per process, in which datagen files groups whose names train.py uses, too."""
    before = set(ConfigStore.instance().repo)
    yield
    for name in set(ConfigStore.instance().repo) - before:
        del ConfigStore.instance().repo[name]
