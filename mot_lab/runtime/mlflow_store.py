"""Experiments and runs in MLflow, found by their tags so that asking twice never makes two.

One experiment per study; in it one parent run (``mot_lab.kind=study``) and a child per arm and seed
(``mot_lab.kind=run``). Every function here talks to the tracker and raises when it cannot.
"""

import os
import shutil
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import filelock
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from mot_lab.runtime.moved_store import ARTIFACTS, artifacts_beside, follow_move
from mot_lab.runtime.run_folder import RunRecord

# MLflow's defaults (7 retries of 120 s) hold the caller of a dead tracker for minutes, and print
# two lines of links between the progress bars. Where the user has set a variable, it is left alone.
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
# Opens the experiment under "Model training" in MLflow versions that ask what it is.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}


def default_tracking_uri(study_folder: str | Path) -> str:
    """The tracking store inside a study's folder: ``sqlite:///<study folder>/mlflow.db``."""
    return f"sqlite:///{Path(study_folder).absolute() / 'mlflow.db'}"


def connect(tracking_uri: str) -> MlflowClient:
    """A client of the tracker; an sqlite store's folder is made where it is missing, and a store
    that was moved is made whole.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if (file := sqlite_file(tracking_uri)) is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            _create_store(file)
        follow_move(file)
    return MlflowClient(tracking_uri=tracking_uri)


def _create_store(file: Path) -> None:
    """An empty sqlite store that appears whole: MLflow builds its tables in dozens of migrations,
    and a database that was left in the middle of them is never taken again.
    """
    with filelock.FileLock(file.with_name(f".{file.name}.lock")):
        if file.exists():  # another process was faster
            return
        folder = file.with_name(f".{file.name}.making")
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed here
        folder.mkdir()
        beside = folder / file.name
        try:
            SqlAlchemyStore(f"sqlite:///{beside}", str(file.parent / ARTIFACTS)).engine.dispose()
            os.replace(beside, file)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def find_experiment(client: MlflowClient, tracking_uri: str, study: str) -> str:
    """Id of the experiment named after the study, created where missing.

    An sqlite store keeps artifacts beside its file, in ``mlartifacts``; a server decides itself.
    """
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        file = sqlite_file(tracking_uri)
        location = artifacts_beside(file) if file else None
        try:
            return client.create_experiment(study, location, EXPERIMENT_TAGS)
        except MlflowException as error:  # another process was faster
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(study)
    if experiment is None or experiment.lifecycle_stage != "active":
        raise ValueError(
            f"experiment {study!r} was deleted in {tracking_uri}: restore it, or rename the study"
        )
    return experiment.experiment_id


def find_study_run(client: MlflowClient, experiment_id: str, study: str) -> str:
    """Id of the study's parent run, created where missing."""
    tags = {"mot_lab.kind": "study", "mot_lab.study": study}
    runs = find_runs(client, experiment_id, tags)
    if runs:
        return runs[0].info.run_id
    return client.create_run(experiment_id, run_name=study, tags=tags).info.run_id


def create_child_run(client: MlflowClient, tracking_uri: str, record: RunRecord) -> str:
    """A fresh run for one arm and seed; an older one of that name is set aside as superseded.

    Called when the run's folder knows no run in this tracker. A child found then is of a folder
    that was removed, or of a process that died right after creating it: its curve is another's.
    """
    experiment_id = find_experiment(client, tracking_uri, record.study)
    tags = {
        "mot_lab.kind": "run",
        "mot_lab.study": record.study,
        "mot_lab.arm": record.arm,
        "mot_lab.seed": str(record.seed),
        "mlflow.parentRunId": find_study_run(client, experiment_id, record.study),
    }
    for older in find_runs(client, experiment_id, tags):
        client.set_tag(older.info.run_id, "mot_lab.kind", "superseded")
    tags["mot_lab.status"] = record.status
    return client.create_run(experiment_id, run_name=record.name, tags=tags).info.run_id


def find_runs(client: MlflowClient, experiment_id: str, tags: dict[str, str]) -> list[Run]:
    """Active runs that bear all ``tags``, oldest first."""
    condition = " and ".join(
        f"tags.`{name}` = '{_quotable(value)}'" for name, value in tags.items()
    )
    return list(
        client.search_runs(
            [experiment_id], condition, ViewType.ACTIVE_ONLY, order_by=["attributes.start_time ASC"]
        )
    )


def run_exists(client: MlflowClient, run_id: str) -> bool:
    """Whether the tracker knows the run (a store can be deleted and begun anew)."""
    try:
        return client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


class StudyTracker:
    """The study's side of the tracking store: its experiment, its parent run, its artifacts.

    Nothing is asked of the tracker before a method is called; each raises when it cannot be done.
    """

    def __init__(self, study: str, tracking_uri: str) -> None:
        self.study = study
        self.tracking_uri = tracking_uri
        self._client: MlflowClient | None = None
        self._ids: tuple[str, str] | None = None

    @property
    def client(self) -> MlflowClient:
        if self._client is None:
            self._client = connect(self.tracking_uri)
        return self._client

    @property
    def experiment_id(self) -> str:
        return self._find()[0]

    @property
    def run_id(self) -> str:
        return self._find()[1]

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Send one file to the parent run, under ``folder``; the same name is overwritten."""
        self.client.log_artifact(self.run_id, str(path), folder)

    def set_tags(self, tags: dict[str, Any]) -> None:
        for name, value in tags.items():
            self.client.set_tag(self.run_id, name, str(value))

    def finish(self, status: str = "FINISHED") -> None:
        self.client.set_terminated(self.run_id, status)

    def compare_page(self, what: Literal["CHART", "ARTIFACT"] = "CHART") -> str:
        """Where MLflow's UI shows all arms and seeds side by side, their curves or their tables and
        pictures, as a part of its address.

        Sorted by anything but the date, the UI lists the runs themselves; else it lists their
        parent and hides them under it, and no chart has a curve.
        """
        condition = quote("tags.`mot_lab.kind` = 'run'")
        return (
            f"#/experiments/{self.experiment_id}/runs?workflowType=machine_learning"
            f"&compareRunsMode={what}&orderByKey={quote('params.`arm`')}&orderByAsc=true"
            f"&searchFilter={condition}"
        )

    def how_to_compare(self) -> str:
        """One line for the terminal: where the arms can be looked at side by side."""
        page = self.compare_page()
        if self.tracking_uri.startswith("http"):
            return f"Compare the arms in MLflow: {self.tracking_uri.rstrip('/')}/{page}"
        return (
            f"Compare the arms in MLflow: mlflow server --host 127.0.0.1 "
            f"--backend-store-uri {self.tracking_uri}, "
            f"then open http://127.0.0.1:5000/{page}"
        )

    def children(self) -> list[Run]:
        """The runs of all arms and seeds, oldest first."""
        tags = {"mot_lab.kind": "run", "mlflow.parentRunId": self.run_id}
        return find_runs(self.client, self.experiment_id, tags)

    def _find(self) -> tuple[str, str]:
        if self._ids is None:
            experiment_id = find_experiment(self.client, self.tracking_uri, self.study)
            self._ids = experiment_id, find_study_run(self.client, experiment_id, self.study)
        return self._ids


def sqlite_file(tracking_uri: str) -> Path | None:
    """The database file of an sqlite store; None for any other tracker."""
    prefix = "sqlite:///"
    if not tracking_uri.startswith(prefix):
        return None
    return Path(tracking_uri.removeprefix(prefix)).absolute()


def _quotable(value: str) -> str:
    if "'" in value:
        raise ValueError(
            f"{value!r}: MLflow cannot search for names with a quote in them; rename it"
        )
    return value
