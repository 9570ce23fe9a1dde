"""What reaches MLflow, and what a tracker can do to a run: nothing."""

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient
from runtime.tiny_run import fit

from mot_lab.runtime import mlflow_store, sending
from mot_lab.runtime.metrics_file import read_lines
from mot_lab.runtime.mlflow_store import StudyTracker, connect, default_tracking_uri
from mot_lab.runtime.run_folder import RunFolder, flatten
from mot_lab.runtime.sending import sync_run
from mot_lab.runtime.sent import tracked_run_id
from mot_lab.runtime.tracking import RunLogger


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory) -> Path:
    """An initialised sqlite store: making one takes seconds."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    connect(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(empty_store, tmp_path) -> str:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return default_tracking_uri(tmp_path)


def history(uri: str, run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    client = MlflowClient(tracking_uri=uri)
    run_id = tracked_run_id(run_dir, uri)
    names = client.get_run(run_id).data.metrics
    return {
        name: [(m.step, m.value) for m in client.get_metric_history(run_id, name)] for name in names
    }


def logged(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in read_lines(run_dir / "metrics.jsonl")[0]:
        for name in line.keys() - {"step", "time", "nonfinite"}:
            curves.setdefault(name, []).append((line["step"], line[name]))
    return curves


def assert_sent_once(uri: str, run_dir: Path) -> None:
    """Every number is in the tracker, once; a timing measured anew keeps its first value."""
    sent, truth = history(uri, run_dir), logged(run_dir)
    assert sent.keys() == truth.keys()
    for name, curve in truth.items():
        if name.endswith("/loss"):
            assert sent[name] == curve, name
        else:
            steps = [step for step, _ in sent[name]]
            assert steps == sorted(set(steps)) and set(steps) >= {step for step, _ in curve}, name


def test_run_in_the_store(tmp_path, uri):
    run_dir = tmp_path / "mot-seed1"
    with pytest.raises(RuntimeError, match="machine went away"):
        fit(run_dir, faults={"raise_at": 10}, tracking_uri=uri)
    client = MlflowClient(tracking_uri=uri)
    run_id = tracked_run_id(run_dir, uri)
    assert client.get_run(run_id).info.status == "FAILED"
    assert (
        max(step for step, _ in history(uri, run_dir)["train/text/loss"]) == 10
    )  # beyond the checkpoint, 8

    fit(run_dir, tracking_uri=uri)
    assert_sent_once(uri, run_dir)
    run = client.get_run(run_id)
    study = StudyTracker("tiny", uri)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "mot-seed1"
    assert run.data.params == {"arm": "mot", "seed": "1", "model.width": "8"}
    expected = {
        "mlflow.parentRunId": study.run_id,
        "mot_lab.kind": "run",
        "mot_lab.arm": "mot",
        "mot_lab.seed": "1",
        "mot_lab.status": "finished",
        "mot_lab.resumed_at": "8",
    }
    assert expected.items() <= run.data.tags.items()
    assert [f.path for f in client.list_artifacts(run_id)] == ["config.yaml"]
    assert (tmp_path / "mlartifacts" / run_id / "artifacts" / "config.yaml").is_file()
    assert [child.info.run_id for child in study.children()] == [run_id]
    assert sync_run(run_dir, uri) == 0


def test_dead_tracker_costs_one_line(tmp_path, uri, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run_dir = tmp_path / "mot-seed1"
    start = time.monotonic()
    done = fit(run_dir, tracking_uri="http://127.0.0.1:9")  # nothing listens on the discard port
    assert time.monotonic() - start < 10
    assert done.trainer.global_step == 12
    assert done.logger.tracking_errors >= 1
    assert RunFolder(run_dir).record().status == "finished"
    errors = capfd.readouterr().err
    assert errors.count("training goes on") == 1
    assert errors.count("mot-lab sync") == 1

    count = sum(map(len, logged(run_dir).values()))
    assert sync_run(run_dir, uri) == count
    assert sync_run(run_dir, uri) == 0
    assert_sent_once(uri, run_dir)


def test_hanging_tracker_is_left_behind(tmp_path, uri, monkeypatch, capfd):
    answer = threading.Event()

    def hang(tracking_uri: str) -> MlflowClient:
        answer.wait()
        raise ConnectionError("too late")

    monkeypatch.setattr(sending, "connect", hang)
    run_dir = tmp_path / "mot-seed1"
    start = time.monotonic()
    done = fit(run_dir, tracking_uri="http://slow", patience=0.2)
    assert time.monotonic() - start < 5
    assert done.trainer.global_step == 12
    assert "mot-lab sync" in capfd.readouterr().err

    with pytest.raises(ValueError, match="being sent by another process"):
        sync_run(run_dir, uri)
    answer.set()
    for thread in threading.enumerate():
        if thread.name == "tracking-mot-seed1":
            thread.join()
    monkeypatch.undo()
    sync_run(run_dir, uri)
    assert_sent_once(uri, run_dir)


class LostAnswers:
    """A client whose every second ``log_batch`` arrives in part, and whose answer does not."""

    def __init__(self, client: MlflowClient) -> None:
        self.client = client
        self.calls = 0

    def __getattr__(self, name: str):
        return getattr(self.client, name)

    def log_batch(self, run_id, metrics=(), **kwargs) -> None:
        self.calls += bool(metrics)
        if metrics and self.calls % 2:
            self.client.log_batch(run_id, metrics=metrics[: len(metrics) // 2])
            raise TimeoutError("no answer")
        self.client.log_batch(run_id, metrics=metrics, **kwargs)


@pytest.mark.parametrize("new_process", [False, True])
def test_lost_answers_send_nothing_twice(tmp_path, uri, monkeypatch, new_process):
    run_dir = tmp_path / "mot-seed1"
    fit(run_dir)
    monkeypatch.setattr(sending, "METRICS_PER_CALL", 5)
    client = LostAnswers(connect(uri))
    monkeypatch.setattr(sending, "connect", lambda _: client)
    failures = 0
    sender = sending.RunSender(RunFolder(run_dir), uri).__enter__()
    while True:
        try:
            sender.send()
            break
        except TimeoutError:
            failures += 1
        if new_process:
            sender.__exit__()
            sender = sending.RunSender(RunFolder(run_dir), uri).__enter__()
    sender.__exit__()
    assert failures > 2
    assert_sent_once(uri, run_dir)


def test_infinite_values_become_counts(tmp_path, uri):
    logger = RunLogger(tmp_path / "r", "s", "dense", 0, {}, uri)
    logger.write({"a": float("nan"), "b": 1.0}, step=1)
    logger.write({"a": 2.0, "b": float("inf")}, step=2)
    logger.finalize("success")
    expected = {
        "a": [(2, 2.0)],
        "b": [(1, 1.0)],
        "nonfinite/a": [(1, 1.0)],
        "nonfinite/b": [(2, 1.0)],
    }
    assert history(uri, tmp_path / "r") == expected


def test_study_is_found_again_and_a_stale_run_set_aside(tmp_path, uri):
    first, second = StudyTracker("s", uri), StudyTracker("s", uri)
    assert (first.experiment_id, first.run_id) == (second.experiment_id, second.run_id)
    for value in (1.0, 2.0):
        logger = RunLogger(tmp_path / "r", "s", "dense", 0, {"lr": 1}, uri)
        logger.write({"a": value}, step=1)
        logger.finalize("success")
        run_id = tracked_run_id(tmp_path / "r", uri)
        assert [run.info.run_id for run in first.children()] == [run_id]
        assert history(uri, tmp_path / "r") == {"a": [(1, value)]}
        shutil.rmtree(tmp_path / "r")  # the user starts this run afresh

    (tmp_path / "study.json").write_text("{}")
    first.log_artifact(tmp_path / "study.json")
    assert [f.path for f in first.client.list_artifacts(first.run_id)] == ["study.json"]


def test_runs_that_begin_at_once_have_one_parent(tmp_path, uri, monkeypatch):
    find_runs = mlflow_store.find_runs

    def slow_find_runs(*arguments):
        found = find_runs(*arguments)
        time.sleep(0.2)  # long enough for the other to look too
        return found

    monkeypatch.setattr(mlflow_store, "find_runs", slow_find_runs)
    folders = [tmp_path / f"{arm}-seed0" for arm in ("dense", "mot")]
    for folder in folders:
        RunLogger(folder, "s", folder.name.partition("-")[0], 0, {"lr": 1})
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda folder: sync_run(folder, uri), folders))
    study = StudyTracker("s", uri)
    parents = find_runs(study.client, study.experiment_id, {"mot_lab.kind": "study"})
    assert [run.info.run_id for run in parents] == [study.run_id]
    assert len(study.children()) == 2


def test_artifacts_and_long_params(tmp_path, uri):
    logger = RunLogger(tmp_path / "r", "s", "dense", 0, {"long": "x" * 7000, "short": [1, 2]}, uri)
    (tmp_path / "r/artifacts/samples").mkdir(parents=True)
    (tmp_path / "r/artifacts/evaluation.json").write_text("{}")
    (tmp_path / "r/artifacts/samples/0.png").write_bytes(b"png")
    (tmp_path / "r/artifacts/samples/0.wav").write_bytes(b"wav")
    logger.finalize("success")
    client, run_id = MlflowClient(tracking_uri=uri), tracked_run_id(tmp_path / "r", uri)
    assert {f.path for f in client.list_artifacts(run_id)} == {
        "config.yaml",
        "evaluation.json",
        "samples",
    }
    sent = [f.path for f in client.list_artifacts(run_id, "samples")]
    assert sent == ["samples/0.png", "samples/0.wav"]
    run = client.get_run(run_id)
    params = {"long": "x" * 6000, "short": "[1, 2]", "arm": "dense", "seed": "0"}
    assert run.data.params == params
    assert run.data.tags["mot_lab.params_cut"] == "long"


def test_another_run_or_configuration_is_refused(tmp_path):
    RunLogger(tmp_path, "s", "dense", 0, {"optimizer": {"lr": 0.1}})
    RunLogger(tmp_path, "s", "dense", 0, {"optimizer": {"lr": 0.1}})
    with pytest.raises(ValueError, match=r"optimizer\.lr was 0\.1, is 0\.2"):
        RunLogger(tmp_path, "s", "dense", 0, {"optimizer": {"lr": 0.2}})
    with pytest.raises(ValueError, match="holds run dense-seed0"):
        RunLogger(tmp_path, "s", "mot", 0, {"optimizer": {"lr": 0.1}})
    with pytest.raises(ValueError, match="holds no run"):
        sync_run(tmp_path / "nowhere", "sqlite:///x.db")


def test_flatten():
    assert flatten({"a": {"b": 1, "c": {}}, "d": [2]}) == {"a.b": "1", "a.c": "{}", "d": "[2]"}
