"""kill -9 at random moments: a checkpoint at most one interval old, no torn file, the same end.

The temporary folder is on another file system where the machine has one in memory (/dev/shm).
"""

import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from reliability.amounts import amount, only_whole
from reliability.processes import (
    child,
    curve,
    digests,
    emptied,
    kill_at_random,
    kill_group,
    last_step,
    tiny_runs,
    train_one,
    wait_for,
)
from reliability.slow_disk import (
    build_cache,
    fit_tokenizer,
    make_store,
    train_slowly,
    with_temporary_folder,
    write_report,
)
from synthetic_study import write_synthetic_study

from mot_lab.runtime.checkpoint import load_checkpoint

EVERY = 5
TRAINING: dict[str, Any] = {
    "steps": 40,
    "val_every": 10,
    "log_every": 1,
    "checkpoint_every": EVERY,
}
MEMORY = Path("/dev/shm")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | None]:
    """A temporary folder on another file system than the runs; None where there is none."""
    runs = tmp_path_factory.getbasetemp()
    if not MEMORY.is_dir() or MEMORY.stat().st_dev == runs.stat().st_dev:
        yield None
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The curve of the run that nobody kills."""
    folder = tmp_path_factory.mktemp("undisturbed")
    _finish(child(train_one, folder, 0, TRAINING))
    return curve(tiny_runs(folder, **TRAINING)[0].folder.path)


def _finish(process: Any) -> None:
    process.join()
    assert process.exitcode == 0


def _kill(process: Any) -> None:
    kill_group(process)
    process.join()
    assert process.exitcode == -9  # it was at work


def _timed(task: Callable[..., None], *arguments: Any) -> float:
    child(print).join()  # the fork server has imported everything when it answers
    began = time.monotonic()
    _finish(child(task, *arguments))
    return time.monotonic() - began


def _assert_at_most_one_interval_lost(run: Any) -> None:
    """Every step is logged, and the checkpoint is of the last interval or the one being saved."""
    logged = last_step(run.folder.path)
    saved = load_checkpoint(run.checkpoint)["global_step"] if run.checkpoint.exists() else 0
    assert saved % EVERY == 0 and 0 <= logged - saved <= EVERY, (logged, saved)


def test_the_temporary_folder_is_on_another_file_system(elsewhere: str | None) -> None:
    if elsewhere is None:
        pytest.skip("/dev/shm is missing or on the file system of the tests")
    assert Path(elsewhere).stat().st_dev != Path(tempfile.gettempdir()).stat().st_dev


@pytest.mark.parametrize("seed", range(amount(1, 4)))
def test_training(tmp_path: Path, undisturbed, elsewhere, seed: int, record_property) -> None:
    draw = random.Random(seed)
    run = tiny_runs(tmp_path, **TRAINING)[0]
    moments = sorted(draw.sample(range(1, 36), amount(2, 5)))
    for moment in moments:
        process = child(with_temporary_folder, elsewhere, train_one, tmp_path, 0, TRAINING)
        wait_for(lambda moment=moment: last_step(run.folder.path) >= moment)
        time.sleep(draw.uniform(0, 0.02))
        _kill(process)
        _assert_at_most_one_interval_lost(run)
    _finish(child(with_temporary_folder, elsewhere, train_one, tmp_path, 0, TRAINING))
    assert curve(run.folder.path) == undisturbed
    assert load_checkpoint(run.checkpoint)["global_step"] == TRAINING["steps"]
    record_property("tried", len(moments))
    record_property("handled", len(moments))


@pytest.mark.parametrize("seed", range(amount(1, 3)))
def test_while_a_checkpoint_is_written(
    tmp_path: Path, undisturbed, elsewhere, seed: int, record_property
) -> None:
    draw = random.Random(seed)
    run = tiny_runs(tmp_path, **TRAINING)[0]
    beside = run.checkpoint.with_name(f".{run.checkpoint.name}.tmp")
    kills, caught = amount(2, 4), 0
    for _ in range(kills):
        left = beside.stat().st_mtime_ns if beside.exists() else 0
        process = child(with_temporary_folder, elsewhere, train_slowly, tmp_path, TRAINING)
        wait_for(lambda left=left: _written_after(beside, left))
        time.sleep(draw.uniform(0, 0.1))
        _kill(process)
        caught += beside.exists()
        _assert_at_most_one_interval_lost(run)
    assert caught  # in the middle of a write
    _finish(child(with_temporary_folder, elsewhere, train_one, tmp_path, 0, TRAINING))
    assert curve(run.folder.path) == undisturbed
    assert not beside.exists()
    record_property("tried", kills)
    record_property("handled", kills)


def _written_after(path: Path, moment: int) -> bool:
    try:
        return path.stat().st_mtime_ns > moment
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("task", [fit_tokenizer, build_cache])
def test_while_tokenizers_are_fitted_and_caches_built(
    tmp_path: Path, elsewhere, task: Callable[[Path], None], record_property
) -> None:
    draw = random.Random(task.__name__)
    (tmp_path / "whole").mkdir()
    seconds = _timed(with_temporary_folder, elsewhere, task, tmp_path / "whole")
    whole = _contents(tmp_path / "whole")
    kills = amount(1, 8)
    for number in range(kills):
        folder = emptied(tmp_path / str(number))
        start = partial(child, with_temporary_folder, elsewhere, task, folder)
        kill_at_random(start, partial(emptied, folder), seconds, draw)
        found = {
            name: each
            for name, each in _contents(folder).items()
            if not any(part.startswith(".") for part in Path(name).parts)
        }
        assert found.items() <= whole.items()
        _finish(child(with_temporary_folder, elsewhere, task, folder))
        assert _contents(folder).items() >= whole.items()
    record_property("tried", kills)
    record_property("handled", kills)


def _contents(folder: Path) -> dict[str, str]:
    """Digests; of diffusers' configurations their text, without the folder they were read from."""
    found = digests(folder)
    for name in found:
        if name.endswith("config.json"):
            config = json.loads((folder / name).read_text())
            found[name] = json.dumps({k: v for k, v in config.items() if k != "_name_or_path"})
    return found


@only_whole
def test_while_the_report_is_written(tmp_path: Path, elsewhere, record_property) -> None:
    """What stands under a final name is byte for byte what an undisturbed report has there."""
    draw = random.Random(0)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    write_synthetic_study(uri, tmp_path / "mlartifacts")
    seconds = _timed(with_temporary_folder, elsewhere, write_report, uri, tmp_path / "whole")
    whole = digests(tmp_path / "whole")
    out = tmp_path / "out"
    kills = 8
    start = partial(child, with_temporary_folder, elsewhere, write_report, uri, out)
    for _ in range(kills):
        kill_at_random(start, partial(shutil.rmtree, out), seconds, draw)
        found = digests(out) if out.exists() else {}
        assert {k: v for k, v in found.items() if not Path(k).name.startswith(".")}.items() <= (
            whole.items()
        )
    _finish(child(with_temporary_folder, elsewhere, write_report, uri, out))
    assert digests(out) == whole  # no temporary file is left either
    record_property("tried", kills)
    record_property("handled", kills)


@only_whole
def test_while_the_tracking_store_is_made(tmp_path: Path, record_property) -> None:
    """MLflow builds its tables in dozens of steps; a store left in the middle is of no use."""
    draw = random.Random(0)
    seconds = _timed(make_store, tmp_path / "whole")
    for number in range(6):
        folder = tmp_path / str(number)
        clear = partial(shutil.rmtree, folder)
        kill_at_random(partial(child, make_store, folder), clear, seconds, draw)
        _finish(child(make_store, folder))
        assert not list(folder.glob(".mlflow.db.making"))
    record_property("tried", 6)
    record_property("handled", 6)
