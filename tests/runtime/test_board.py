"""The board reads how far runs are from the files they write."""

import io
import json
from pathlib import Path

from rich.console import Console

from mot_lab.runtime.board import RunBoard, last_losses


def write(path: Path, *lines: dict[str, float]) -> None:
    with open(path, "a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def lengths(paths: dict[str, Path], second: int = 100) -> dict[str, tuple[Path, int]]:
    """Every run with its number of steps."""
    steps = (100, second)
    return {label: (path, steps[i]) for i, (label, path) in enumerate(paths.items())}


def test_the_last_value_of_each_loss_counts_and_half_a_line_does_not(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert last_losses(path) == (0, {})
    write(path, {"step": 10, "train/text/loss": 3.0, "train/grad_norm/text": 1.0})
    write(path, {"step": 10, "val/text/loss": 4.0}, {"step": 20, "train/text/loss": 2.0})
    with open(path, "a") as file:
        file.write('{"step": 30, "train/te')
    assert last_losses(path) == (20, {"train/text/loss": 2.0, "val/text/loss": 4.0})


def test_without_a_terminal_each_tenth_is_one_line_per_run(tmp_path: Path) -> None:
    out = io.StringIO()
    paths = {"mot seed 0": tmp_path / "a.jsonl", "dense seed 0": tmp_path / "b.jsonl"}
    with RunBoard(lengths(paths), Console(file=out)) as board:
        for step in range(5, 105, 5):
            write(paths["mot seed 0"], {"step": step, "train/image/loss": 1 / step})
            board.update()
    lines = out.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == [
        f"mot seed 0: step {step}/100" for step in range(10, 110, 10)
    ]
    assert "0.01" in lines[-1]


def test_on_a_terminal_there_is_a_bar_for_each_run(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    paths = {"mot seed 0": tmp_path / "a.jsonl", "dense seed 0": tmp_path / "b.jsonl"}
    with RunBoard(lengths(paths, 50), console) as board:
        write(paths["mot seed 0"], {"step": 40, "train/image/loss": 0.5})
        board.update()
        assert board.progress is not None
        assert [task.completed for task in board.progress.tasks] == [40, 0]
        assert [task.total for task in board.progress.tasks] == [100, 50]
