"""Rows of JSON lines, parquet or a data set of the Hugging Face hub: one way to read all three."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, Protocol

from mot_lab.data.sources.files import File, Folders, expand, folder_of
from mot_lab.data.sources.hub import HubRows, is_hub
from mot_lab.data.sources.json_lines import LINES, json_parts, json_rows, require_lines
from mot_lab.data.sources.parquet import parquet_names, parquet_parts, parquet_rows
from mot_lab.data.sources.raw import Skipped
from mot_lab.data.sources.records import Record, Row, Wanted
from mot_lab.parsing import shown

PARQUET = (".parquet",)
PEEKED = 32  # rows in which a field must come up


class Rows(Protocol):
    """Rows in parts."""

    def parts(self) -> list[str]:
        """See `mot_lab.data.sources.raw.Source`."""

    def rows(self, part: str) -> Iterator[Row | Skipped]:
        """In their order."""

    def names(self) -> list[str]:
        """Of all fields, as far as the files declare them."""

    def state(self) -> str:
        """16 hex digits of the files."""

    def folders(self) -> Folders | None:
        """Of the files that rows name, where nothing else is said; None where there is none."""


def open_rows(path: str, columns: Sequence[str], required: Sequence[tuple[str, ...]]) -> Rows:
    """The rows at a path.

    Args:
        path: files in ``.parquet``, ``.jsonl``, ``.json`` and so on, a pattern or a folder of
            them; or ``hf:NAME:CONFIG@SPLIT``.
        columns: fields that will be read; others need not be.
        required: of each group, one must come up in the first rows.

    Raises:
        ValueError: nothing there, nothing readable, or no such field.
    """
    rows: Rows = (
        HubRows(path, columns)
        if is_hub(path)
        else FileRows(expand(path, (*PARQUET, *LINES)), columns)
    )
    _require_fields(rows, path, required)
    return rows


class FileRows:
    """Rows of files: parquet by row groups, JSON lines by ranges of bytes.

    Args:
        files: whose names say what they are.
        columns: that are read of parquet.

    Raises:
        ValueError: a file of another kind, or one JSON value instead of lines.
    """

    def __init__(self, files: Sequence[File], columns: Sequence[str]) -> None:
        self._files, self._columns = files, columns
        for file in files:
            if not file.path.lower().endswith((*PARQUET, *LINES)):
                kinds = ", ".join((*PARQUET, *LINES))
                raise ValueError(f"{file.name} is none of {kinds}: no rows are read of it")
        for file in files:
            if file.path.lower().endswith(LINES):
                require_lines(file)
                break  # of the first: a corpus is written in one piece

    def parts(self) -> list[str]:
        """Row groups, and ranges of lines."""
        return list(self._places)

    def rows(self, part: str) -> Iterator[Row | Skipped]:
        """See `Rows`."""
        file, place = self._places[part]
        found = (
            parquet_rows(file, place, self._columns)
            if file.path.lower().endswith(PARQUET)
            else json_rows(file, place)
        )
        for each in found:
            yield each if isinstance(each, Skipped) else Row(*each)

    def names(self) -> list[str]:
        """The columns of the first parquet file; JSON lines declare none."""
        parquet = [file for file in self._files if file.path.lower().endswith(PARQUET)]
        return parquet_names(parquet[0]) if parquet else []

    def state(self) -> str:
        """See `Rows`."""
        return state_of(self._files)

    def folders(self) -> Folders:
        """The folder of the first file."""
        return Folders(folder_of(self._files))

    @cached_property
    def _places(self) -> dict[str, tuple[File, Any]]:
        """For each part its file, and the row group or range; a file that cannot be opened is a
        part too, whose reading says so."""
        places: dict[str, tuple[File, Any]] = {}
        for file in self._files:
            parquet = file.path.lower().endswith(PARQUET)
            for name, place in parquet_parts(file) if parquet else json_parts(file):
                places[name] = (file, place)
        return places


class RowReader(ABC):
    """What reads documents out of rows (`mot_lab.data.sources.records.Reader`).

    Args:
        rows: opened.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def parts(self) -> list[str]:
        """Those of the rows."""
        return self._rows.parts()

    def records(self, part: str, wanted: Wanted) -> Iterator[Record | Skipped]:
        """See `mot_lab.data.sources.records.Reader`."""
        for row in self._rows.rows(part):
            if isinstance(row, Skipped):
                yield row
            else:
                yield from self._of_row(row)

    def state(self) -> str:
        """Of the rows."""
        return self._rows.state()

    @abstractmethod
    def _of_row(self, row: Row) -> Iterator[Record | Skipped]:
        """The documents of one row."""


def state_of(files: Sequence[File]) -> str:
    """16 hex digits of names, sizes and times of change."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.state().encode() + b"\n")
    return digest.hexdigest()[:16]


def named_folders(rows: Rows, pattern: str | None) -> Folders | None:
    """Where files lie that rows name: what the configuration says, or beside the rows."""
    return rows.folders() if pattern is None else Folders(pattern)


def _require_fields(rows: Rows, path: str, required: Sequence[tuple[str, ...]]) -> None:
    """Some row among the first can be read and has what every record should have."""
    first = _first_rows(rows)
    read = [each for each in first if isinstance(each, Row)]
    if not read:
        why = f": {first[0].name}: {first[0].reason}" if first else ""  # type: ignore[union-attr]
        raise ValueError(f"no record can be read at {shown(path)}{why}")
    there = {name for row in read for name in row.fields}
    for names in required:
        if not there.intersection(names):
            known = ", ".join(sorted(there.union(rows.names())))
            raise ValueError(
                f"no {' or '.join(names)} in the first {len(read)} records of {shown(path)}, "
                f"whose fields are {known}: name it by fields"
            )


def _first_rows(rows: Rows) -> list[Row | Skipped]:
    """``PEEKED`` rows, or with them all that cannot be read up to the first that can."""
    found: list[Row | Skipped] = []
    for part in rows.parts():
        found += islice(rows.rows(part), PEEKED)
        if any(isinstance(each, Row) for each in found):
            break
    return found
