"""Loss curves from files of any project: CSV with a header, or JSON lines.

CSV: columns ``step``, the metric's name and, where they are there, ``flops`` and ``seconds``, both
counted from the start of the run. JSON lines: the same names as keys. A line without the metric is
of some other metric and is counted. In this project's own ``metrics.jsonl`` (or the folder of a
run, which holds one) values that were not finite are marked as such: they are left out and counted;
its ``time`` gives the seconds since its first line.
"""

import csv
import json
from pathlib import Path
from typing import Any

from evaluation.matching.measured_curve import MeasuredCurve, Row, measured_curve

COSTS = ("flops", "seconds")
OWN = "metrics.jsonl"
NOT_FINITE = ("NaN", "Infinity", "-Infinity")  # as metrics.jsonl writes them
OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def read_curve_file(path: Path, metric: str) -> MeasuredCurve:
    """The metric's curve in that file, or in the ``metrics.jsonl`` of that folder.

    Raises:
        ValueError: the file cannot be read as such, has no such metric, or its numbers make no
            curve; with the line.
    """
    if path.is_dir():
        if not (path / OWN).is_file():
            raise ValueError(f"{path} is a folder without a {OWN}: give a run's folder or a file")
        path = path / OWN
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8 ({error.reason})") from None
    if not text.strip():
        raise ValueError(f"{path} is empty")
    if text.lstrip()[0] in "{[":
        return _from_json_lines(path, text, metric)
    return _from_csv(path, text, metric)


def _from_csv(path: Path, text: str, metric: str) -> MeasuredCurve:
    try:
        reader = csv.reader(text.splitlines(), strict=True)
        header = [name.strip() for name in next(reader)]
        _check_header(path, header, metric)
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: not CSV ({error})") from None
    rows, unlogged = [], 0
    for number, cells in lines:
        place = f"line {number}"
        if len(cells) != len(header):
            raise ValueError(
                f"{path}, {place}: {len(cells)} cells under a header of {len(header)} columns"
            )
        line = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
        if not line[metric]:
            unlogged += 1
            continue
        known = [name for name in COSTS if line.get(name)]
        figures = {
            name: _number(path, place, name, line[name]) for name in ("step", metric, *known)
        }
        costs = {name: figures[name] for name in known}
        rows.append(Row(place, figures["step"], figures[metric], costs))
    return measured_curve(str(path), metric, rows, unlogged=unlogged)


def _check_header(path: Path, header: list[str], metric: str) -> None:
    for delimiter, name in OTHER_DELIMITERS.items():
        if len(header) == 1 and delimiter in header[0]:
            raise ValueError(
                f"{path}: its columns are separated by {name}; separate them by commas"
            )
    if missing := [name for name in ("step", metric) if name not in header]:
        raise ValueError(f"{path} has no column {missing[0]!r}; its columns: {', '.join(header)}")
    if twice := [name for name in ("step", metric, *COSTS) if header.count(name) > 1]:
        raise ValueError(f"{path} has two columns {twice[0]!r}: rename one")


def _number(path: Path, place: str, name: str, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise ValueError(f"{path}, {place}: {name} is {cell!r}, not a number") from None


def _from_json_lines(path: Path, text: str, metric: str) -> MeasuredCurve:
    lines, notes = _json_objects(path, text)
    own = path.name == OWN and all("time" in line for _, line in lines)
    if own:
        notes.append("seconds count from the first line of the file, pauses included")
    rows, left_out = [], 0
    for place, line in lines:
        if line.get(metric) in NOT_FINITE and "nonfinite" in line:
            left_out += 1
        elif line.get(metric) is not None:
            known = [name for name in COSTS if line.get(name) is not None]
            costs = {name: _json_number(path, place, line, name) for name in known}
            if own:
                costs["seconds"] = _json_number(path, place, line, "time") - lines[0][1]["time"]
            step = _json_number(path, place, line, "step")
            rows.append(Row(place, step, _json_number(path, place, line, metric), costs))
    if not rows and not left_out:
        names = dict.fromkeys(name for _, line in lines for name in line)
        raise ValueError(f"{path} has no {metric!r} on any line; it has: {', '.join(names)}")
    unlogged = len(lines) - len(rows) - left_out
    return measured_curve(str(path), metric, rows, left_out, unlogged, notes)


def _json_objects(path: Path, text: str) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
    """Every line's place and object; a last line that is torn is left out, and that is noted."""
    found: list[tuple[str, dict[str, Any]]] = []
    numbered = [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    for number, line in numbered:
        try:
            content = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            if number == numbered[-1][0] and len(found) and not text.endswith("\n"):
                return found, [f"line {number}, the last, is torn and left out: being written?"]
            raise ValueError(
                f"{path}, line {number}: not JSON ({error}); each line holds one JSON object"
            ) from None
        if not isinstance(content, dict):
            raise ValueError(
                f"{path}, line {number}: {line[:40]!r} is not a JSON object; write one object with "
                "a step to a line"
            )
        found.append((f"line {number}", content))
    return found, []


def _json_number(path: Path, place: str, line: dict[str, Any], name: str) -> float:
    value = line.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        has = f"is {json.dumps(value)}, not a number" if name in line else "is missing"
        raise ValueError(f"{path}, {place}: {name} {has}")
    return float(value)
