"""What MLflow has to show of a run: names it takes, figures, tables, pictures, the machine's load;
and that it is still there after the study's folder was moved."""

import json
import shutil
from pathlib import Path

import pandas
import pytest
from mlflow import MlflowClient
from PIL import Image
from runtime.tiny_run import LOG_EVERY, STEPS, fit

from mot_lab.runtime.metrics_file import read_lines
from mot_lab.runtime.mlflow_names import allowed
from mot_lab.runtime.mlflow_store import StudyTracker, connect, default_tracking_uri
from mot_lab.runtime.run_tables import evaluation_metrics, evaluation_tables
from mot_lab.runtime.sending import sync_run
from mot_lab.runtime.sent import tracked_run_id
from mot_lab.runtime.study_sending import send_study
from mot_lab.runtime.tracking import RunLogger

SCALE = {"low": None, "high": None, "n": 8, "ceiling": None, "floor": None, "note": ""}
EVALUATION = {
    "metrics": [
        {"name": "CIDEr", "value": 0.5, "extractor": "pycocoevalcap", **SCALE, "draws": [0.4, 0.6]},
        {"name": "perplexity (unseen emojis)", "value": 9.25, "extractor": "BPE", **SCALE},
        {"name": "Fréchet distance", "value": 1.5, "extractor": "ViT-B/32", **SCALE},
        {"name": "Fréchet distance", "value": 2.5, "extractor": "inception", **SCALE},
        {"name": "CLIP score", "value": None, "extractor": "x", **SCALE, "note": "no weights"},
    ],
    "samples": [
        {
            "prompt": "a cat",
            "references": ["a cat"],
            "reference": "samples/0_real.png",
            "generated": "samples/0.png",
            "caption": "a dog",
        }
    ],
    "routing": {
        "losses": [
            {"split": "val", "modality": "text", "training": 2.0, "causal": 2.5, "n": 9},
        ],
        "experts": [{"layer": 0, "tower": "text_image", "tokens": 12}],
    },
    "causality": [{"routing": "causal", "positions": 4, "changed": 0, "largest": 0.0}],
}
FIGURES = {
    "eval/CIDEr": 0.5,
    "eval/perplexity unseen emojis": 9.25,
    "eval/Frechet distance ViT-B-32": 1.5,
    "eval/Frechet distance inception": 2.5,
    "routing/text val training": 2.0,
    "routing/text val causal": 2.5,
    "routing/text val leak": 0.5,
}


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory) -> Path:
    """An initialised sqlite store: making one takes seconds."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    connect(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def folder(empty_store, tmp_path) -> Path:
    """A study's folder with a store in it."""
    (tmp_path / "study").mkdir()
    shutil.copy(empty_store, tmp_path / "study" / "mlflow.db")
    return tmp_path / "study"


def evaluated_run(folder: Path, arm: str = "mot") -> Path:
    """A finished run that was scored, sent to the store in ``folder``."""
    run = folder / f"{arm}-seed0"
    uri = default_tracking_uri(folder)
    logger = RunLogger(run, "s", arm, 0, {"arm": {arm: "x"}, "lr": 0.1}, uri)
    logger.write({"val/text/loss": 2.0}, step=20)
    logger.finalize("success")
    (run / "artifacts" / "samples").mkdir(parents=True)
    for name in ("0.png", "0_real.png"):
        Image.new("RGB", (4, 4), "red").save(run / "artifacts" / "samples" / name)
    (run / "artifacts" / "evaluation.json").write_text(json.dumps(EVALUATION))
    return run


def test_names_are_such_as_mlflow_takes(tmp_path, folder):
    """Characters it refuses, paths that mean another file, names too long: it takes them all."""
    uri = default_tracking_uri(folder)
    odd = {"a(b)": 1.0, "/c//d": 2.0, "..": 3.0, "é:%": 4.0, "x" * 400: 5.0}
    logger = RunLogger(folder / "r", "s", "dense", 0, {"p{q}": 1, "": 2}, uri)
    logger.write(odd, step=1)
    logger.finalize("success")
    run = MlflowClient(uri).get_run(tracked_run_id(folder / "r", uri))
    assert run.data.metrics == {allowed(name): value for name, value in odd.items()}
    assert run.data.params == {"p_q_": "1", "_": "2", "arm": "dense", "seed": "0"}
    assert RunLogger(folder / "r", "s", "dense", 0, {"p{q}": 1, "": 2}, uri).tracking_errors == 0


def test_figures_of_the_evaluation(folder):
    assert evaluation_metrics(EVALUATION) == FIGURES
    run, uri = evaluated_run(folder), default_tracking_uri(folder)
    client = MlflowClient(uri)
    for _ in range(2):
        sync_run(run, uri)
        (run / "tracking.json").write_text(  # as if killed before it noted that it had sent them
            (run / "tracking.json").read_text().replace('"evaluation": "', '"evaluation": "x')
        )
    run_id = tracked_run_id(run, uri)
    for name, value in FIGURES.items():
        assert [(m.step, m.value) for m in client.get_metric_history(run_id, name)] == [(0, value)]
    changed = {**EVALUATION, "metrics": [{**EVALUATION["metrics"][0], "value": 0.75}]}
    (run / "artifacts" / "evaluation.json").write_text(json.dumps(changed))
    sync_run(run, uri)
    assert client.get_run(run_id).data.metrics["eval/CIDEr"] == 0.75


def test_tables_and_pictures_are_where_the_page_looks_for_them(folder):
    run, uri = evaluated_run(folder), default_tracking_uri(folder)
    sync_run(run, uri)
    client, run_id = MlflowClient(uri), tracked_run_id(run, uri)
    sent = client.download_artifacts(run_id, "tables/evaluation.json", str(folder))
    table = pandas.read_json(sent, orient="split")  # as MlflowClient.load_table does
    assert table["name"].tolist() == [each["name"] for each in EVALUATION["metrics"]]
    assert table["value"].tolist()[:4] == [0.5, 9.25, 1.5, 2.5]
    assert "draws" not in table.columns
    tables = evaluation_tables(EVALUATION)
    assert list(tables) == ["evaluation", "samples", "routing_losses", "experts", "causality"]
    cell = tables["samples"]["data"][0][tables["samples"]["columns"].index("generated")]
    artifacts = [f.path for f in client.list_artifacts(run_id, "samples")]
    assert cell["filepath"] in artifacts
    tags = client.get_run(run_id).data.tags
    assert [each["path"] for each in json.loads(tags["mlflow.loggedArtifacts"])] == [
        f"tables/{name}.json" for name in tables
    ]


def test_a_study_is_sent_with_what_its_arms_cost(folder, tmp_path):
    evaluated_run(folder)
    cost = {"parameters": 7, "active_parameters": 5, "flops_per_step": 3e9}
    study = {"study": "s", "setting": "t", "baseline": "mot", "seeds": [0], "steps": 20}
    study["arms"] = {"mot": {**cost, "seconds_per_step": 0.25}}
    (folder / "study.json").write_text(json.dumps(study))
    (folder / "config.yaml").write_text("name: s\n")
    uri = f"sqlite:///{tmp_path}/other.db"
    assert send_study(folder, uri) == {"mot-seed0": 1}
    assert send_study(folder, uri) == {"mot-seed0": 0}
    parent = StudyTracker("s", uri)
    (child,) = parent.children()
    assert child.data.metrics["cost/active_parameters"] == 5
    assert child.data.metrics["cost/seconds_per_step"] == 0.25
    assert [f.path for f in parent.client.list_artifacts(parent.run_id)] == [
        "config.yaml",
        "study.json",
    ]
    note = parent.client.get_run(parent.run_id).data.tags["mlflow.note.content"]
    assert "| mot | 7 | 5 | 3e+09 | 0.25 |" in note and parent.compare_page() in note
    assert parent.how_to_compare().endswith(f"http://127.0.0.1:5000/{parent.compare_page()}")
    with pytest.raises(ValueError, match="holds no runs"):
        send_study(tmp_path / "nowhere", uri)
    with pytest.raises(ValueError, match=r"nothing is lost.*mot-lab sync"):
        send_study(folder, "http://127.0.0.1:9")


def test_the_load_is_logged_with_the_losses_under_mlflows_names(tmp_path):
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    fit(tmp_path / "r", accumulate=2)
    lines = read_lines(tmp_path / "r" / "metrics.jsonl")[0]
    load = [line for line in lines if "system/cpu_utilization_percentage" in line]
    assert [line["step"] for line in load] == list(range(LOG_EVERY, STEPS + 1, LOG_EVERY))
    names = set()
    for monitor in (CPUMonitor(), DiskMonitor(), NetworkMonitor()):
        monitor.collect_metrics()
        names |= set(monitor.aggregate_metrics())
    assert {f"system/{name}" for name in names} <= load[0].keys()
    for line in load:
        assert 0 <= line["system/cpu_utilization_percentage"] <= 100
        assert 0 < line["system/system_memory_usage_percentage"] < 100
        assert line["system/network_receive_megabytes"] >= 0


@pytest.mark.parametrize("how", [shutil.move, shutil.copytree])
def test_a_moved_study_is_whole(folder, tmp_path, how):
    run = evaluated_run(folder)
    old = default_tracking_uri(folder)
    sync_run(run, old)
    run_id = tracked_run_id(run, old)
    new_folder = tmp_path / "other place" / "study"
    new_folder.parent.mkdir()
    how(folder, new_folder)
    uri = default_tracking_uri(new_folder)
    for _ in range(2):
        client = connect(uri)
        found = client.get_run(run_id)
        here = (new_folder / "mlartifacts").as_uri()
        assert found.info.artifact_uri == f"{here}/{run_id}/artifacts"
        assert client.get_experiment(found.info.experiment_id).artifact_location == here
    got = Path(client.download_artifacts(run_id, "evaluation.json", str(tmp_path)))
    assert json.loads(got.read_text()) == EVALUATION
    assert sync_run(new_folder / "mot-seed0", uri) == 0
    assert tracked_run_id(new_folder / "mot-seed0", uri) == run_id  # not taken for another run
    (tmp_path / "later.txt").write_text("later")
    StudyTracker("s", uri).log_artifact(tmp_path / "later.txt")
    assert [path.is_relative_to(new_folder) for path in tmp_path.rglob("later.txt")].count(True)
    assert not list(folder.rglob("later.txt"))


def test_another_stores_artifacts_are_left_where_they_are(folder, tmp_path):
    uri = default_tracking_uri(folder)
    client = connect(uri)
    elsewhere = (tmp_path / "elsewhere" / "mlartifacts").as_uri()
    experiment = client.create_experiment("theirs", artifact_location=elsewhere)
    client.create_run(experiment)
    assert connect(uri).get_experiment(experiment).artifact_location == elsewhere
