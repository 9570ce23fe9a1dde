"""A tracker that is down, slow or cut off in its answers: a run ends as without it, whole on the
disk, and ``mot-lab sync`` sends what is missing once."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_server import MlflowServer
from reliability.amounts import WHOLE, amount, only_whole
from reliability.processes import (
    child,
    curve,
    kill_group,
    last_step,
    record,
    study_command,
    wait_for,
)
from reliability.tracked_runs import (
    DEMO,
    logged,
    sync_in_small_calls,
    tracked,
    train_demo_sized,
    train_tracked,
)
from reliability.trackers import SLOW_SECONDS, Fault, Request, TrackerProxy

from mot_lab.cli import main
from mot_lab.config import load_study
from mot_lab.runtime.sent import tracked_run_id

PATIENCE = 15.0  # seconds, of the logger
LONG = {"steps": 600}  # long enough for the server to be killed in the middle


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(server: MlflowServer) -> Iterator[TrackerProxy]:
    proxy = TrackerProxy(server.port)
    yield proxy
    proxy.close()


@pytest.fixture(autouse=True)
def well(proxy: TrackerProxy) -> None:
    proxy.fault = lambda request: None
    proxy.requests.clear()


@pytest.fixture(scope="module")
def undisturbed(
    server: MlflowServer, proxy: TrackerProxy, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run whose tracker is well."""
    return finish(tmp_path_factory.mktemp("undisturbed"), proxy.address)


def finish(folder: Path, tracking_uri: str, **training: int) -> Path:
    """Train to the end; the run's folder."""
    process = child(train_tracked, folder, tracking_uri, training)
    process.join(300)
    return ended(folder, process.exitcode)


def ended(folder: Path, exitcode: int | None) -> Path:
    """The run's folder, after it was seen that nothing was lost and nobody waited."""
    assert exitcode == 0
    run = folder / "dense-seed0"
    assert record(run)["status"] == "finished"
    seconds = json.loads((folder / "seconds.json").read_text())
    assert sum(seconds["logging"]) < 0.05 * seconds["training"]
    assert seconds["finalize"] < PATIENCE + 2
    return run


def seconds_of(run: Path) -> float:
    """A run's training, what follows its last step aside."""
    return float(json.loads((run.parent / "seconds.json").read_text())["training"])


def warned_once(run: Path, tracking_uri: str, cause: str) -> None:
    """All that a run said: what failed when it did, and at the end what to do about it."""
    first, last = (run.parent / "said").read_text().splitlines()
    assert re.fullmatch(
        rf"tracking: {tracking_uri} failed \(.*({cause}).*\); training goes on", first
    ), first
    assert last == lacks_the_end(run, tracking_uri)


def lacks_the_end(run: Path, tracking_uri: str) -> str:
    return (
        f"{run}: the tracker {tracking_uri} lacks the end of this run; everything is in "
        f"metrics.jsonl: mot-lab sync {run.parent} --tracking-uri {tracking_uri} sends it"
    )


def sync(run: Path, tracking_uri: str, capsys: pytest.CaptureFixture[str]) -> int:
    """``mot-lab sync``; how many values it says that it sent."""
    capsys.readouterr()
    main(["sync", str(run.parent), "--tracking-uri", tracking_uri])
    said = capsys.readouterr().out
    found = re.fullmatch(rf"{run.name}: (\d+) values sent to {tracking_uri}\n", said)
    assert found, said
    return int(found[1])


def values(run: Path) -> int:
    """How many numbers a run logged."""
    return sum(map(len, logged(run).values()))


def there_once(run: Path, tracking_uri: str, server: MlflowServer) -> None:
    """Every number of the run is in the tracker, once, and no other but a study's figures."""
    curves = tracked(run, tracking_uri, server.address)
    assert {k: v for k, v in curves.items() if not k.startswith(("cost/", "eval/"))} == logged(run)
    run_id = tracked_run_id(run, tracking_uri)
    assert MlflowClient(server.address).get_run(str(run_id)).info.status == "FINISHED"


def test_a_run_whose_tracker_is_well_says_nothing(
    undisturbed: Path,
    server: MlflowServer,
    proxy: TrackerProxy,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert (undisturbed.parent / "said").read_text() == ""
    there_once(undisturbed, proxy.address, server)
    assert sync(undisturbed, proxy.address, capsys) == 0


@pytest.mark.parametrize("how", ["refused", "error", "dropped"] if WHOLE else ["refused"])
def test_down_from_the_start(
    how: str,
    undisturbed: Path,
    server: MlflowServer,
    proxy: TrackerProxy,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if how == "refused":
        proxy.close()
    else:
        proxy.fault = lambda request: how  # type: ignore[assignment,return-value]
    try:
        run = finish(tmp_path, proxy.address)
        with pytest.raises(SystemExit) as still_down:
            main(["sync", str(tmp_path), "--tracking-uri", proxy.address])
    finally:
        if how == "refused":
            proxy.open()
    causes = {"refused": "ConnectionRefusedError", "error": "ResponseError: too many 500"}
    warned_once(run, proxy.address, causes.get(how, "RemoteDisconnected"))
    assert still_down.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert curve(run) == curve(undisturbed)
    # A run that waited for every answer, or retried, would take several times as long
    assert seconds_of(run) < 3 * seconds_of(undisturbed) + 10

    proxy.fault = lambda request: None
    assert sync(run, proxy.address, capsys) == values(run)
    there_once(run, proxy.address, server)
    assert sync(run, proxy.address, capsys) == 0
    there_once(run, proxy.address, server)


def test_killed_in_the_middle(
    server: MlflowServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server itself, by kill -9, and no proxy before it."""
    before = log(server).count("log-batch")  # of other tests
    process = child(train_tracked, tmp_path, server.address, LONG)
    run = tmp_path / "dense-seed0"
    wait_for(lambda: last_step(run) >= 50 and log(server).count("log-batch") > before, 300)
    server.kill()
    try:
        at = last_step(run)
        process.join(300)
    finally:
        server.start()
    assert 50 <= at < LONG["steps"]
    assert ended(tmp_path, process.exitcode) == run
    warned_once(run, server.address, "Connection|IncompleteRead")  # refused, or cut off
    assert last_step(run) == LONG["steps"]

    sent = sum(map(len, tracked(run, server.address, server.address).values()))
    assert 0 < sent < values(run)
    assert sync(run, server.address, capsys) == values(run) - sent
    there_once(run, server.address, server)
    assert sync(run, server.address, capsys) == 0


def log(server: MlflowServer) -> str:
    return (server.folder / "server.log").read_text()


@only_whole
def test_back_before_the_end(proxy: TrackerProxy, server: MlflowServer, tmp_path: Path) -> None:
    """Away for some answers in the middle: the run itself sends what was missed."""
    seen: list[Request] = []

    def away(request: Request) -> Fault | None:
        if not request.metrics:
            return None
        seen.append(request)
        return "dropped" if len(seen) in (2, 3) else None  # sent, and once more by the client

    proxy.fault = away
    run = finish(tmp_path, proxy.address, **LONG)
    (said,) = (tmp_path / "said").read_text().splitlines()
    assert said.endswith("training goes on")
    there_once(run, proxy.address, server)


def test_down_at_the_end(
    proxy: TrackerProxy,
    server: MlflowServer,
    undisturbed: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From the moment at which the run says that it is finished."""
    gone: list[Request] = []

    def away(request: Request) -> Fault | None:
        if gone or b'"finished"' in request.body:
            gone.append(request)
            return "dropped"
        return None

    proxy.fault = away
    run = finish(tmp_path, proxy.address)
    assert gone
    warned_once(run, proxy.address, "RemoteDisconnected")
    assert curve(run) == curve(undisturbed)
    proxy.fault = lambda request: None
    sync(run, proxy.address, capsys)
    there_once(run, proxy.address, server)


def test_slow(
    proxy: TrackerProxy,
    server: MlflowServer,
    undisturbed: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """10 s an answer: training waits for none, its end for the first."""
    proxy.fault = lambda request: "slow"
    run = finish(tmp_path, proxy.address)
    assert (tmp_path / "said").read_text().splitlines() == [lacks_the_end(run, proxy.address)]
    assert curve(run) == curve(undisturbed)
    limit = 3 * seconds_of(undisturbed) + 10
    assert limit < SLOW_SECONDS * len(logged(run)["train/text/loss"])  # what each would cost
    assert seconds_of(run) < limit
    proxy.fault = lambda request: None
    sync(run, proxy.address, capsys)
    there_once(run, proxy.address, server)
    assert sync(run, proxy.address, capsys) == 0


@only_whole
def test_answers_that_are_lost(
    proxy: TrackerProxy,
    server: MlflowServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What the tracker took without saying so is not sent again."""
    seen: list[Request] = []

    def loses(request: Request) -> Fault | None:
        if request.metrics:
            seen.append(request)
            return "lost" if len(seen) % 3 else None
        return None

    proxy.fault = loses
    run = finish(tmp_path, proxy.address, **LONG)
    assert len(seen) > 3
    proxy.fault = lambda request: None
    sync(run, proxy.address, capsys)
    there_once(run, proxy.address, server)


@pytest.mark.parametrize("fault", ["hanging", "unanswered"] if WHOLE else ["unanswered"])
def test_a_sync_that_is_killed(
    fault: Fault,
    proxy: TrackerProxy,
    server: MlflowServer,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Between what it sends, before the tracker hears of it or after; the next one goes on."""
    proxy.close()
    try:
        run = finish(tmp_path, proxy.address)
    finally:
        proxy.open()
    kills = amount(1, 5)
    for _ in range(kills):
        seen: list[Request] = []

        def second_hangs(request: Request, seen: list[Request] = seen) -> Fault | None:
            if request.metrics:
                seen.append(request)
            return fault if len(seen) == 2 else None

        proxy.fault = second_hangs
        process = child(sync_in_small_calls, tmp_path, proxy.address)
        wait_for(lambda seen=seen: len(seen) == 2)  # type: ignore[misc]
        kill_group(process)
        process.join()
    proxy.fault = lambda request: None
    have = sum(map(len, tracked(run, proxy.address, server.address).values()))
    assert 0 < have < values(run)
    process = child(sync_in_small_calls, tmp_path, proxy.address)
    process.join()
    assert process.exitcode == 0
    there_once(run, proxy.address, server)
    record_property("tried", kills)
    record_property("handled", kills)


@only_whole
def test_a_study_whose_tracker_is_down(
    proxy: TrackerProxy, server: MlflowServer, tmp_path: Path
) -> None:
    """The command: exit code 0 and a report; what is missing is sent, and the report with it, when
    the same command is called again."""
    command = [*study_command(tmp_path), "--tracking-uri", proxy.address]
    proxy.close()
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    finally:
        proxy.open()
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert said.count("nothing is lost: when it is back, mot-lab sync") == 1
    assert done.stderr.count("training goes on") == 2  # runs
    folder = tmp_path / "small"
    assert json.loads((folder / "report.json").read_text())["arms"].keys() == {"dense", "mot"}

    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0 and proxy.address in again.stdout
    for run in (folder / "dense-seed0", folder / "mot-seed0"):
        there_once(run, proxy.address, server)


def test_tracking_costs_less_than_a_hundredth_of_a_step(tmp_path: Path) -> None:
    """At the demo's size and cadence, on the thread that trains."""
    process = child(train_demo_sized, tmp_path)
    process.join(300)
    assert process.exitcode == 0
    seconds = json.loads((tmp_path / "seconds.json").read_text())
    every = load_study(DEMO).training.log_every
    share = seconds["logging"] / (every * seconds["step"])
    print(f"{seconds}: {100 * share:.4f}% of training")
    assert 0 < share < 0.01
