"""Files of a source, local or behind any fsspec URL: found, opened, and their states."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from mot_lab.data.sources.records import BadRecord
from mot_lab.parsing import shown

MOST_FILES = 1_000_000  # that a pattern stands for
LARGEST_FILE = 1 << 28  # bytes of one picture or sound
# What file systems say of a file's age; a local file has its time of change in nanoseconds.
AGES = ("ETag", "etag", "mtime", "LastModified", "last_modified", "sha", "blob_id", "created")


@contextlib.contextmanager
def data_extra() -> Iterator[None]:
    """Turn the absence of a package that only sources need into one line that says what to do."""
    try:
        yield
    except ImportError as error:
        raise ValueError(
            f"this source needs another package ({error}): pip install 'mot-lab[data]', and for "
            "object stores the one of their protocol (s3fs, gcsfs, adlfs)"
        ) from error


@dataclass(frozen=True)
class File:
    """A file of an fsspec file system.

    Attributes:
        system: the file system.
        path: in it.
    """

    system: Any
    path: str

    @property
    def local(self) -> bool:
        """On this machine."""
        return _is_local(self.system)

    @property
    def name(self) -> str:
        """As it is written in messages: a path or a URL."""
        return self.path if self.local else str(self.system.unstrip_protocol(self.path))

    def open(self) -> BinaryIO:
        """Its bytes, to be read and sought in."""
        if self.local:  # fsspec's own wrapper reads lines byte by byte
            return open(self.path, "rb")
        return self.system.open(self.path, "rb")  # type: ignore[no-any-return]

    def size(self) -> int:
        """In bytes."""
        return int(self.system.size(self.path))

    def state(self) -> str:
        """Name, size and age: other bytes under the same name have another state."""
        if self.local:
            state = os.stat(self.path)
            return f"{self.name} {state.st_size} {state.st_mtime_ns}"
        info = self.system.info(self.path)
        age = next((str(info[each]) for each in AGES if info.get(each)), "")
        return f"{self.name} {info.get('size')} {age}"


def expand(path: str, suffixes: Sequence[str]) -> list[File]:
    """The files that a path, folder or pattern stands for, in a fixed order.

    Args:
        path: local or an fsspec URL; ``{00..99}`` and ``{a,b}`` name each of their files, ``*``
            stands for those that are there, a folder for all below it but hidden ones.
        suffixes: of the files that are taken of a folder.

    Raises:
        ValueError: nothing there, or a file of the braces is missing, or one is named twice.
    """
    found: list[File] = []
    missing: list[str] = []
    for each in _braces(path):
        system, place = _resolved(each)
        files = _below(system, place, suffixes)
        found += (File(system, file) for file in files)
        if not files:
            missing.append(each)
    if missing:
        said = "" if missing == [path] else f", {len(missing)} that {shown(path)} stands for"
        raise ValueError(
            f"no file at {shown(missing[0])}{said}; a folder needs files in {', '.join(suffixes)}"
        )
    names = [file.name for file in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shown(path)} names {shown(twice)} twice")
    return found


class Folders:
    """Where files lie that a data set names.

    Args:
        pattern: a folder, or several as ``{train,val}2017``, looked through in this order.

    Raises:
        ValueError: one of them is no folder.
    """

    def __init__(self, pattern: str) -> None:
        self._places = [_resolved(each) for each in _braces(pattern)]
        for system, root in self._places:
            if not system.isdir(root):
                raise ValueError(f"no folder {shown(root)}")

    def find(self, name: str) -> File:
        """A file by its name below one of the folders.

        Raises:
            BadRecord: none has it, or the name leads out of them: data of others name no other
                file of this machine.
        """
        for system, root in self._places:
            inside = name.removeprefix(root.rstrip("/") + "/")
            parts = PurePosixPath(inside.replace("\\", "/"))
            if parts.is_absolute() or ".." in parts.parts or "\0" in inside or not parts.parts:
                raise BadRecord(f"the file {shown(name)} is not inside {shown(root)}")
            path = f"{root.rstrip('/')}/{inside}"
            if system.isfile(path):
                return File(system, path)
        raise BadRecord(f"no file {shown(name)} in {', '.join(root for _, root in self._places)}")

    def read(self, name: str) -> bytes:
        """What `find` finds.

        Raises:
            BadRecord: see `find`; or it is larger than ``LARGEST_FILE``.
        """
        with self.find(name).open() as file:
            data = file.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise BadRecord(f"the file {shown(name)} is larger than {LARGEST_FILE:,} bytes")
        return data


def folder_of(files: Sequence[File]) -> str:
    """The folder of the first file: what files that it names are relative to."""
    return os.path.dirname(files[0].name) or "."


def _braces(path: str) -> Iterator[str]:
    if "{" not in path:
        yield path
        return
    with data_extra():
        from braceexpand import braceexpand
    names = list(islice(braceexpand(path), MOST_FILES + 1))
    if len(names) > MOST_FILES:
        raise ValueError(f"{shown(path)} stands for more than {MOST_FILES:,} files")
    yield from names


def _resolved(path: str) -> tuple[Any, str]:
    with data_extra():
        from fsspec.core import url_to_fs

        system, place = url_to_fs(path)
    return system, place


def _below(system: Any, place: str, suffixes: Sequence[str]) -> list[str]:
    if system.isfile(place):
        return [place]
    if system.isdir(place):
        inside = (each for each in system.find(place) if each.lower().endswith(tuple(suffixes)))
        # Copies that an editor or a notebook keeps in hidden folders are not read a second time.
        return sorted(each for each in inside if "/." not in each[len(place.rstrip("/")) :])
    if any(mark in place for mark in "*?["):
        return sorted(each for each in system.glob(place) if system.isfile(each))
    return []


def _is_local(system: Any) -> bool:
    from fsspec.implementations.local import LocalFileSystem

    return isinstance(system, LocalFileSystem)
