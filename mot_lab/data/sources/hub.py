"""Data sets of the Hugging Face hub, or local folders laid out like one, read as they stream."""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from mot_lab.data.sources.files import Folders, data_extra, expand
from mot_lab.data.sources.records import Row
from mot_lab.parsing import one_line, shown

NAME = re.compile(r"hf:(?P<name>[^:@]+)(:(?P<config>[^:@]+))?(@(?P<split>[^:@]+))?")


def is_hub(path: str) -> bool:
    """A data set for ``datasets``; ``hf://`` is a file on the hub, for fsspec."""
    return path.startswith("hf:") and not path.startswith("hf://")


class HubRows:
    """Rows of ``hf:NAME:CONFIG@SPLIT``; a part is one of the files that the data set is made of.

    Every part is read at the revision that was the newest when the source was opened.

    Args:
        path: ``NAME`` is ``owner/name`` or a local folder; without ``CONFIG`` the only or default
            one, without ``SPLIT`` train.
        columns: fields that are read.

    Raises:
        ValueError: another form, no such data set, configuration or split, or no answer.
    """

    def __init__(self, path: str, columns: Sequence[str]) -> None:
        form = NAME.fullmatch(path)
        if form is None:
            raise ValueError(f"{shown(path)} is not of the form hf:NAME:CONFIG@SPLIT")
        self._path, self._columns = path, columns
        self._name, self._config = form["name"], form["config"]
        self._split = form["split"] or "train"
        self._parts = [f"{path} file {number}" for number in range(self._stream.num_shards)]

    def parts(self) -> list[str]:
        """One a file."""
        return list(self._parts)

    def rows(self, part: str) -> Iterator[Row]:
        """See `mot_lab.data.sources.rows.Rows`.

        Raises:
            ValueError: the stream ends in an error: what comes after it cannot be reached.
        """
        files = self._stream.shard(len(self._parts), self._parts.index(part))
        read = 0
        try:
            for fields in files:
                there = {name: fields[name] for name in self._columns if name in fields}
                yield Row(f"{part} row {read}", there)
                read += 1
        except Exception as error:  # of the network and of every format that datasets reads
            what = f"{type(error).__name__}: {one_line(error)}"
            raise ValueError(f"{part} cannot be read after {read} rows: {what}") from error

    def names(self) -> list[str]:
        """Of the fields, where the data set declares them."""
        return list(self._stream.column_names or [])

    def state(self) -> str:
        """The revision, or the files of a local folder."""
        said = self._revision or "\n".join(file.state() for file in expand(self._name, ("",)))
        return hashlib.sha256(f"{self._path} {said}".encode()).hexdigest()[:16]

    def folders(self) -> Folders | None:
        """The local folder; data sets of the hub name no files of this machine."""
        return Folders(self._name) if os.path.isdir(self._name) else None

    @cached_property
    def _revision(self) -> str | None:
        if os.path.isdir(self._name):
            return None
        with data_extra():
            from huggingface_hub import dataset_info
        try:
            return dataset_info(self._name).sha
        except Exception as error:  # of the network, or of the hub: not found, not allowed
            raise ValueError(self._refused(error)) from error

    @cached_property
    def _stream(self) -> Any:
        """As ``datasets`` streams it; pictures and sounds stay bytes."""
        with data_extra():
            from datasets import load_dataset
        try:
            stream = load_dataset(
                self._name,
                self._config,
                split=self._split,
                streaming=True,
                revision=self._revision,
            )
        except Exception as error:  # it raises errors of its own for each of its formats
            raise ValueError(self._refused(error)) from error
        return stream.decode(False)

    def _refused(self, error: Exception) -> str:
        return f"{shown(self._path)} cannot be opened: {type(error).__name__}: {one_line(error)}"
