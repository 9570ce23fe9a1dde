"""One synthetic study, written once for all the tests of reading and reporting."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from synthetic_study import PROMPTS, write_synthetic_study

from evaluation.report.build import build_report
from evaluation.store.read import read_study
from evaluation.store.study_record import StudyRecord

HOSTILE = "<script>alert('x')</script> costs $5 & $6 | `code`"


@dataclass(frozen=True)
class Store:
    """Where the study ``synthetic`` lies; other studies may be written into the same store."""

    folder: Path
    uri: str


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("runs") / "synthetic"
    folder.mkdir()
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    write_synthetic_study(uri, folder / "mlartifacts", prompts=[*PROMPTS, HOSTILE])
    return Store(folder, uri)


@pytest.fixture(scope="session")
def study(store: Store) -> StudyRecord:
    return read_study(store.uri, "synthetic")


@pytest.fixture(scope="session")
def built(store: Store) -> Path:
    """The folder of the study's report."""
    build_report(store.uri, "synthetic", store.folder)
    return store.folder
