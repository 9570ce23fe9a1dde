"""Where prepared shards lie: a folder of this machine, or any URL that fsspec knows.

What is written stands under its name whole or not at all. On an object store, which renames no
folders, the record of a part is put there last, and without it the part does not count.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import fsspec

from mot_lab.data.shards.manifest import PART
from mot_lab.runtime.files import atomic_file, whole_folder


class LocalPlace:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, name: str) -> bytes | None:
        """What a file holds; None where there is none."""
        path = self.root / name
        return path.read_bytes() if path.is_file() else None

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all."""
        with atomic_file(self.root / name) as file:
            file.write(content)

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """An empty folder that gets its name at the end; one of that name is removed before."""
        final = self.root / name
        if final.exists():  # of other settings, or without its record: it did not count
            shutil.rmtree(final)
        with whole_folder(final) as building:
            yield building

    def remove_abandoned(self) -> None:
        """Remove half-written folders that killed processes left."""
        for path in self.root.glob("*/*/.*"):
            shutil.rmtree(path, ignore_errors=True)


class RemotePlace:
    """A URL of fsspec: an object store, another machine."""

    def __init__(self, url: str) -> None:
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise ValueError(f"{url}: {error}") from None

    def read(self, name: str) -> bytes | None:
        """What a file holds; None where there is none."""
        try:
            content: bytes = self._files.cat_file(self._path(name))
        except FileNotFoundError:
            return None
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write a file."""
        self._make_parent(name)
        self._files.pipe_file(self._path(name), content)

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """An empty folder of this machine whose files are sent at the end."""
        with TemporaryDirectory(prefix="mot-lab-") as building:
            yield Path(building)
            found = [path for path in sorted(Path(building).rglob("*")) if path.is_file()]
            for path in sorted(found, key=lambda each: each.name == PART):
                inside = f"{name}/{path.relative_to(building).as_posix()}"
                self._make_parent(inside)
                self._files.put_file(str(path), self._path(inside))

    def fetch(self, name: str, target: Path) -> None:
        """Copy a file to this machine."""
        self._files.get_file(self._path(name), str(target))

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _make_parent(self, name: str) -> None:
        self._files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)


def place_of(url: str) -> LocalPlace | RemotePlace:
    """The place of a path of this machine or of a URL.

    Raises:
        ValueError: a URL of an unknown kind, or whose package is not installed.
    """
    return RemotePlace(url) if "://" in url else LocalPlace(Path(url))
