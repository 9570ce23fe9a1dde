"""``metrics.jsonl``: every number a run logged, one JSON object a line, the truth about its curves.

A line is ``{"step": 20, "time": 1767225600.123, "train/text/loss": 2.31, ...}``: ``step`` counts
finished optimiser steps, ``time`` is seconds since 1970. JSON has no NaN, so a value that is not
finite is kept as the string ``"NaN"``, ``"Infinity"`` or ``"-Infinity"``, and the line says how
many there are in ``nonfinite``.
"""

import errno
import json
import math
import os
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from mot_lab.runtime.files import atomic_file, not_written

RESERVED = ("step", "time", "nonfinite")


class MetricsFile:
    """Appends to one run's ``metrics.jsonl``; a line is in the file when ``append`` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: FileIO | None = None

    def append(self, step: int, values: Mapping[str, float], time: float) -> None:
        """Add one line.

        Raises:
            ValueError: a metric bears a reserved name.
            OSError: the line could not be written whole (for example: the disk is full).
        """
        line = (json.dumps(_line(step, values, time), allow_nan=False) + "\n").encode()
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _drop_torn_line(self.path)
            self._file = FileIO(self.path, "ab")  # unbuffered: a kill loses no line
        whole = os.path.getsize(self.path)
        try:
            if self._file.write(line) != len(line):  # a disk takes what it has room for
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self.close()
            os.truncate(self.path, whole)
            raise not_written(self.path, error) from error

    def rewind(self, step: int) -> int:
        """Forget every line beyond ``step``: training goes on from there. Returns how many."""
        self.close()
        if not self.path.exists():
            return 0
        lines, _ = read_lines(self.path)
        kept = [line for line in lines if line["step"] <= step]
        with atomic_file(self.path) as file:
            file.writelines((json.dumps(line) + "\n").encode() for line in kept)
        return len(lines) - len(kept)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def read_lines(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The whole lines of a ``metrics.jsonl`` from byte ``offset`` on, and the offset after them.

    A last line without its newline is being written, or was torn by a kill: it is left out.

    Raises:
        ValueError: a line is not a JSON object with a step.
    """
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    lines = []
    for number, text in enumerate(whole.splitlines(), start=1):
        try:
            line = json.loads(text)
            line["step"] = int(line["step"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}: line {number} after byte {offset} is no metrics line: "
                f"{text[:80]!r} ({error})"
            ) from None
        lines.append(line)
    return lines, offset + len(whole)


def read_curve(path: Path, name: str) -> list[tuple[int, float]]:
    """``(step, value)`` of one metric in the order logged; NaN and infinity are floats again."""
    return [(line["step"], float(line[name])) for line in read_lines(path)[0] if name in line]


def _line(step: int, values: Mapping[str, float], time: float) -> dict[str, Any]:
    line: dict[str, Any] = {"step": step, "time": round(time, 3)}
    nonfinite = 0
    for name, value in values.items():
        if name in RESERVED:
            raise ValueError(
                f"a metric cannot be named {name!r}: every line of metrics.jsonl has one"
            )
        number = float(value)
        if math.isfinite(number):
            line[name] = number
        else:
            nonfinite += 1
            line[name] = "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    if nonfinite:
        line["nonfinite"] = nonfinite
    return line


def _drop_torn_line(path: Path) -> None:
    """Cut what follows the last newline, so that the next line does not grow out of a torn one."""
    if not path.exists():
        return
    with open(path, "r+b") as file:
        data = file.read()
        file.truncate(data.rfind(b"\n") + 1)
