"""Own data of three sources, prepared once."""

from pathlib import Path

import pytest
from fake_sources import prepare_fakes


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their shards."""
    folder = tmp_path_factory.mktemp("own") / "shards"
    prepare_fakes(folder)
    return folder
