"""A study tracked by ``mlflow server``, and what its pages show of it in a real browser."""

import json
import shutil
import time
import wave
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow_server import MlflowServer
from tiny_studies import FEW_SCENES

from evaluation.report.build import build_report
from evaluation.store.read import read_study
from evaluation.trained.runs import evaluate_run, prepare_evaluators
from mot_lab.config import StudyConfig, from_dict
from mot_lab.runtime.study_sending import send_study
from mot_lab.study import Study

SETTINGS = {
    "name": "tracked",
    "arms": ["dense", "mot"],
    "seeds": [0, 1],
    "data": {**FEW_SCENES, "val_rows": 2},
    "model": {
        "backbone": {"width": 16, "layers": 1, "heads": 2, "feed_forward_multiple": 16},
        "optimizer": {"lr": 1e-3, "final_lr": 1e-4, "warmup_steps": 2},
    },
    "training": {"steps": 6, "val_every": 2, "log_every": 2, "checkpoint_every": 6},
    "evaluation": {"images": 4, "sample_steps": 2, "shown": 2, "extractors": []},
}
RUNS = ["dense-seed0", "dense-seed1", "mot-seed0", "mot-seed1"]
STEPS = [2, 4, 6]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class InlinePool(Executor):
    """Runs at once what it is given: the workers' own start is tested in test_study.py."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@dataclass
class Tracked:
    """A finished study in a server."""

    address: str
    study: Study

    def page(self, rest: str) -> str:
        return f"{self.address}/#/experiments/{self.study.tracker.experiment_id}/{rest}"

    def run_id(self, name: str) -> str:
        return {run.info.run_name: run.info.run_id for run in self.study.tracker.children()}[name]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracked]:
    folder = tmp_path_factory.mktemp("server")
    with MlflowServer(folder) as server, pytest.MonkeyPatch.context() as patch:
        address = server.address
        patch.setattr("mot_lab.study.worker_pool", lambda *_: InlinePool())
        patch.setattr("mot_lab.study.TIMED_ROUNDS", 2)
        config = from_dict(StudyConfig, SETTINGS)
        study = Study(config, yaml.safe_dump(SETTINGS), folder / "tracked", address)
        study.run(prepare_evaluators, evaluate_run)
        tone = study.folder / "mot-seed0" / "artifacts" / "samples" / "tone.wav"
        with wave.open(str(tone), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(bytes(range(256)) * 32)
        assert send_study(study.folder, address) == dict.fromkeys(RUNS, 0)
        build_report(address, config.name, study.folder)
        yield Tracked(address, study)


def test_the_server_has_every_run_with_its_curves(tracked: Tracked) -> None:
    tracker = tracked.study.tracker
    client, children = tracker.client, tracker.children()
    assert sorted(run.info.run_name for run in children) == RUNS
    for run in children:
        assert run.data.tags["mlflow.parentRunId"] == tracker.run_id
        assert run.info.status == "FINISHED"
        truth: dict[str, list[tuple[int, float]]] = {}
        text = (tracked.study.folder / run.info.run_name / "metrics.jsonl").read_text()
        for line in map(json.loads, text.splitlines()):
            for name in line.keys() - {"step", "time"}:
                truth.setdefault(name, []).append((line["step"], line[name]))
        for name, curve in truth.items():
            history = client.get_metric_history(run.info.run_id, name)
            assert [(m.step, m.value) for m in history] == curve
        for name in ("val/image/loss", "val/text/loss", "system/cpu_utilization_percentage"):
            assert [step for step, _ in truth[name]] == STEPS
        assert {"eval/CIDEr", "cost/flops_per_step"} <= run.data.metrics.keys()
        assert run.data.params["model.backbone.width"] == "16"
        assert run.data.params["arm"] == run.data.tags["mot_lab.arm"]


def test_the_study_reads_back_and_its_report_is_there(tracked: Tracked, tmp_path: Path) -> None:
    record = read_study(tracked.address, "tracked")
    assert [f"{run.arm}-seed{run.seed}" for run in record.runs] == RUNS
    tracker = tracked.study.tracker
    files = {file.path for file in tracker.client.list_artifacts(tracker.run_id, "report")}
    assert {"report/report.html", "report/report.json", "report/figures", "report/tables"} <= files
    for name in ("report.json", "report.md"):
        sent = tracker.client.download_artifacts(tracker.run_id, f"report/{name}", str(tmp_path))
        assert Path(sent).read_bytes() == (tracked.study.folder / name).read_bytes()


def test_the_server_listens_on_the_loopback_only(tracked: Tracked) -> None:
    import psutil

    port = int(tracked.address.rpartition(":")[2])
    listening = [
        each.laddr.ip
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.laddr.port == port
    ]
    assert set(listening) == {"127.0.0.1"}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A context of headless Chromium that reaches nothing but the loopback."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on PATH (make browser)")
    with api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("profile")),
            executable_path=path,
            headless=True,
            args=FLAGS,
            viewport={"width": 1600, "height": 1200},
        )
        context.set_default_timeout(60_000)
        context.route(
            lambda address: not address.startswith("http://127.0.0.1"), lambda route: route.abort()
        )
        # MLflow's assistant opens by itself on the first visit and covers a quarter of the page.
        context.add_init_script("localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false')")
        yield context
        context.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    page = browser.new_page()
    yield page
    page.close()


DRAWN = """() => [...document.querySelectorAll('.js-plotly-plot')].map(plot => plot.data.map(
    line => [line.name, [...(line.x || [])].map(Number), [...(line.y || [])].map(Number)]))"""


def visit(page: Any, address: str) -> None:
    """Loads a page anew: of an address with another fragment the browser would keep the page."""
    page.goto("about:blank")
    page.goto(address)


def test_the_compare_page_draws_every_run(tracked: Tracked, page: Any) -> None:
    client = MlflowClient(tracked.address)
    histories = {
        name: client.get_metric_history(tracked.run_id(name), "val/image/loss") for name in RUNS
    }
    expected = {
        name: (STEPS, pytest.approx([point.value for point in history]))
        for name, history in histories.items()
    }
    visit(page, f"{tracked.address}/{tracked.study.tracker.compare_page()}")
    for name in RUNS:
        page.get_by_role("link", name=name, exact=True).wait_for()
    # Charts are drawn when they come into view; the search brings this one there.
    page.get_by_placeholder("Search metric charts").fill("val/image/loss")
    until = time.monotonic() + 60
    charts: list[dict[str, Any]] = []
    while expected not in charts and time.monotonic() < until:
        charts = [{name: (x, y) for name, x, y in chart} for chart in page.evaluate(DRAWN)]
        page.wait_for_timeout(200)
    assert expected in charts


def test_the_report_is_on_the_studys_page(tracked: Tracked, page: Any) -> None:
    run_id = tracked.study.tracker.run_id
    visit(page, tracked.page(f"runs/{run_id}/artifacts/report/report.html"))
    page.get_by_text("report/report.html").first.wait_for()
    report = page.frame_locator("iframe").first
    report.get_by_role("heading", name="tracked: dense, mot compared").wait_for()
    visit(page, tracked.page(f"runs/{run_id}"))
    page.get_by_role("link", name="Compare the arms").wait_for()
    for name in RUNS:
        page.get_by_role("link", name=name).wait_for()


def test_a_runs_load_sound_and_samples_are_on_its_page(tracked: Tracked, page: Any) -> None:
    run = f"runs/{tracked.run_id('mot-seed0')}"
    visit(page, tracked.page(f"{run}/system-metrics"))
    page.get_by_text("cpu_utilization_percentage").first.wait_for()
    visit(page, tracked.page(f"{run}/artifacts/samples/tone.wav"))
    sound = page.locator("audio")
    play = "a => { a.muted = true; return a.play().then(() => [a.duration, a.error]) }"
    assert sound.evaluate(play) == [0.512, None]  # 4096 samples at 8 kHz
    visit(page, tracked.page(f"{run}/artifacts/tables/samples.json"))
    for column in ("prompt", "generated", "reference", "caption"):
        page.get_by_text(column, exact=True).first.wait_for()
    loaded = "() => [...document.images].filter(i => i.naturalWidth >= 32).length >= 4"
    page.wait_for_function(loaded)
