"""Parquet files, row group by row group, only the columns that are read."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from mot_lab.data.sources.files import File, data_extra
from mot_lab.data.sources.raw import Skipped
from mot_lab.parsing import one_line

BATCH = 32  # rows in memory at a time: they may hold pictures


def parquet_parts(file: File) -> list[tuple[str, int]]:
    """Names and numbers of the row groups; of a file that cannot be opened, one."""
    try:
        with _opened(file) as parquet:
            groups = parquet.num_row_groups
    except _Unreadable:
        groups = 1
    return [(f"{file.name} row group {group}", group) for group in range(groups)]


def parquet_names(file: File) -> list[str]:
    """Of its columns; none of a file that cannot be opened."""
    try:
        with _opened(file) as parquet:
            return list(parquet.schema_arrow.names)
    except _Unreadable:
        return []


def parquet_rows(
    file: File, group: int, columns: Sequence[str]
) -> Iterator[tuple[str, Mapping[str, Any]] | Skipped]:
    """Each row: where it stands, counted from 0 in its file, and those of its columns that are
    there."""
    row = 0
    try:
        with _opened(file) as parquet:
            row = sum(parquet.metadata.row_group(each).num_rows for each in range(group))
            there = [each for each in columns if each in parquet.schema_arrow.names]
            # Without threads: processes that read parts may have been forked.
            batches = parquet.iter_batches(
                BATCH, row_groups=[group], columns=there, use_threads=False
            )
            while (batch := _next(batches)) is not None:
                for place in range(batch.num_rows):
                    yield _row(batch, place, f"{file.name} row {row}")
                    row += 1
    except _Unreadable as error:
        yield Skipped(f"{file.name} row {row}", f"the row group is not read from here: {error}")


class _Unreadable(Exception):
    """What pyarrow says of a damaged file."""


@contextmanager
def _opened(file: File) -> Iterator[Any]:
    with data_extra():
        from pyarrow.parquet import ParquetFile
    with file.open() as raw:
        with _damage():
            parquet = ParquetFile(raw)
        yield parquet


def _next(batches: Iterator[Any]) -> Any:
    with _damage():
        return next(batches, None)


@contextmanager
def _damage() -> Iterator[None]:
    """Tells a damaged file from errors of the system's, which have a number."""
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _Unreadable(one_line(error)) from error


def _row(batch: Any, place: int, where: str) -> tuple[str, Mapping[str, Any]] | Skipped:
    try:
        return where, {name: batch.column(name)[place].as_py() for name in batch.schema.names}
    except UnicodeDecodeError as error:
        return Skipped(where, f"not in UTF-8: {error}")
