"""A full disk: one line that names the file and says what to do, exit code 1, earlier files whole.

The disk is a small file system in memory where one can be mounted (root), and everywhere a limit
on the size of files, which the kernel refuses to go beyond in the same place with another number.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reliability.full_disk import append_lines, fill, free, saying, small_disk
from reliability.processes import child, curve, digests, prepare_data, tiny_runs, train_one
from synthetic_study import write_synthetic_study

from mot_lab.runtime.checkpoint import load_checkpoint
from mot_lab.runtime.metrics_file import read_lines

TRAINING: dict[str, Any] = {
    "steps": 20,
    "val_every": 10,
    "log_every": 1,
    "checkpoint_every": 5,
}
LINE = re.compile(
    r"mot-lab: could not write (?P<what>.+): (?P<why>.+); make room there, and the .*"
)


PROGRESS = re.compile(r"drawing figures: \d+ of \d+$")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 64) as reason:
        if reason is not None:
            pytest.skip(reason)
        yield tmp_path / "disk"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that always had room."""
    folder = tmp_path_factory.mktemp("undisturbed")
    _done(child(train_one, folder, 0, TRAINING))
    return tiny_runs(folder, **TRAINING)[0].folder.path


def _done(process: Any) -> None:
    process.join()
    assert process.exitcode == 0


def _refused(said: Path, limit: int | None, *task: Any) -> re.Match[str]:
    """What is said of a full disk: one line, no traceback, exit code 1."""
    process = child(saying, said, limit, *task)
    process.join()
    text = said.read_text()
    assert process.exitcode == 1, text
    (line,) = (each for each in text.strip().splitlines() if not PROGRESS.match(each))
    match = LINE.match(line)
    assert match, text
    return match


def _no_temporary_file(folder: Path) -> bool:
    return not [path for path in folder.rglob(".*") if path.name.endswith(".tmp")]


def test_a_checkpoint_beyond_the_limit_on_files(tmp_path: Path, undisturbed: Path) -> None:
    run = tiny_runs(tmp_path, **TRAINING)[0]
    limit = (undisturbed / "checkpoint.ckpt").stat().st_size // 2
    match = _refused(tmp_path / "said", limit, train_one, tmp_path, 0, TRAINING)
    assert match["what"] == f"the checkpoint {run.checkpoint}" and match["why"] == "File too large"
    assert not run.checkpoint.exists() and _no_temporary_file(tmp_path)
    assert read_lines(run.folder.metrics_path)[0][-1]["step"] == 5
    _done(child(train_one, tmp_path, 0, TRAINING))
    assert curve(run.folder.path) == curve(undisturbed)


def test_a_checkpoint_on_a_full_disk(disk: Path, tmp_path: Path, undisturbed: Path) -> None:
    """The checkpoint that is there stays, though the next one finds room for half of itself."""
    run = tiny_runs(disk, **TRAINING)[0]
    size = (undisturbed / "checkpoint.ckpt").stat().st_size
    fill(disk, size + size // 2 + 65536)  # the first, half of the second, the other files
    match = _refused(tmp_path / "said", None, train_one, disk, 0, TRAINING)
    assert str(run.checkpoint) in match["what"] and match["why"] == "No space left on device"
    assert load_checkpoint(run.checkpoint)["global_step"] == 5
    assert _no_temporary_file(disk)
    assert run.folder.metrics_path.read_bytes().endswith(b"\n")
    free(disk)
    _done(child(train_one, disk, 0, TRAINING))
    assert curve(run.folder.path) == curve(undisturbed)


def test_the_metrics_file(disk: Path, tmp_path: Path) -> None:
    path = disk / "metrics.jsonl"
    fill(disk, 2 * 4096)
    match = _refused(tmp_path / "said", None, append_lines, path, 1000)
    assert match["what"] == str(path) and match["why"] == "No space left on device"
    content = path.read_bytes()
    lines = read_lines(path)[0]
    assert content.endswith(b"\n") and [x["step"] for x in lines] == [*range(1, len(lines) + 1)]
    assert 50 < len(lines) < 1000
    free(disk)
    _done(child(append_lines, disk / "again.jsonl", 1000))
    assert (disk / "again.jsonl").read_bytes().startswith(content)


def test_the_metrics_file_beyond_the_limit_on_files(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    match = _refused(tmp_path / "said", 1000, append_lines, path, 100)
    assert match["what"] == str(path)
    assert path.read_bytes().endswith(b"\n") and 900 < path.stat().st_size <= 1000


def test_a_cache(disk: Path, tmp_path: Path) -> None:
    """Wherever room ends: in the pictures, tokenizers (Rust writes them), pools or prose."""
    _done(child(prepare_data, tmp_path / "whole"))
    whole = digests(tmp_path / "whole")
    cache = disk / "cache"
    sizes = sorted(path.stat().st_size for path in (tmp_path / "whole").rglob("*.*"))
    for left in (sizes[-1] // 2, 3 * sizes[-1] // 2):
        fill(disk, left)
        match = _refused(tmp_path / "said", None, prepare_data, cache)
        assert match["what"].startswith(str(cache))
        assert digests(cache).items() <= whole.items()  # nothing half built either
        free(disk)
    _done(child(prepare_data, cache))
    assert digests(cache) == whole


def test_a_cache_beyond_the_limit_on_files(tmp_path: Path) -> None:
    _refused(tmp_path / "said", 20_000, prepare_data, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name[0] == "."]


def test_a_report(disk: Path, tmp_path: Path) -> None:
    from reliability.slow_disk import plain_report

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    write_synthetic_study(uri, tmp_path / "mlartifacts")
    _done(child(plain_report, uri, tmp_path / "whole"))
    whole = digests(tmp_path / "whole")
    out = disk / "out"
    fill(disk, sum(path.stat().st_size for path in (tmp_path / "whole").rglob("*.*")) // 2)
    match = _refused(tmp_path / "said", None, plain_report, uri, out)
    assert match["what"].startswith(str(out))
    assert digests(out).items() <= whole.items()  # no temporary file either
    free(disk)
    _done(child(plain_report, uri, out))
    assert digests(out) == whole
