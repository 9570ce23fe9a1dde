"""Streams the pictures of a folder, whatever they are, and counts what was odd about them.

Tensor legend: H W C a picture.
"""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from evaluation.files.pictures import ENDINGS, problem_with, read_picture

BATCH = 64
AHEAD = 3  # batches being decoded while the network works on one
DECODERS = max((os.cpu_count() or 1) - 1, 1)  # a core is left to the network: 5% faster on two
NAMED = 5  # files named in an error

Advance = Callable[[int], None]


class PictureFolder:
    """All pictures in a folder and its subfolders, in the order of their paths.

    A file is taken for a picture by its ending (``pictures.ENDINGS``). Files of other endings and
    hidden ones (names that begin with a dot) are left aside and counted.

    Attributes:
        folder: where they are.
        names: path of each picture relative to the folder, with "/" between parts, sorted.
        left_aside: number of other files by ending.
        oddities: how many pictures were odd in each way, and sizes, how many of each
            (height, width): of those read by the last ``batches``.

    Raises:
        ValueError: no such folder, or no pictures in it.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder: give a folder of pictures")
        self.folder = folder
        self.left_aside: Counter[str] = Counter()
        self.oddities: Counter[str] = Counter()
        self.sizes: Counter[tuple[int, int]] = Counter()
        names = []
        for name in _files_below(folder):
            ending = Path(name).suffix.lower()
            if any(part.startswith(".") for part in name.split("/")):
                self.left_aside["hidden"] += 1
            elif ending in ENDINGS:
                names.append(name)
            else:
                self.left_aside[ending or "without an ending"] += 1
        self.names = sorted(names)
        if not self.names:
            raise ValueError(
                f"no pictures in {folder} ({self._aside() or 'it is empty'}): "
                f"their names end in {', '.join(sorted(ENDINGS))}"
            )

    def __len__(self) -> int:
        return len(self.names)

    def check(self, advance: Advance = lambda count: None) -> None:
        """Find broken files before the work on them starts (see ``problem_with``).

        Raises:
            ValueError: some are broken; names the first few and counts them.
        """
        problems = [
            problem
            for found in self._each_batch(lambda path: (path, problem_with(path)), advance)
            for problem in found
            if problem[1] is not None
        ]
        if problems:
            raise ValueError(_unreadable(self.folder, problems, len(self)))

    def batches(self, advance: Advance = lambda count: None) -> Iterator[list[np.ndarray]]:
        """The pictures, uint8 [H, W, C] each, in lists of up to ``BATCH``, decoded by threads.

        Args:
            advance: told after each batch how many pictures it held.

        Raises:
            ValueError: a picture is broken in a way that ``check`` cannot see.
        """
        self.oddities.clear()
        self.sizes.clear()
        for batch in self._each_batch(_read, advance):
            for pixels_HWC, oddities in batch:
                self.oddities.update(oddities)
                self.sizes[pixels_HWC.shape[:2]] += 1
            yield [pixels_HWC for pixels_HWC, _ in batch]

    def summary(self) -> str:
        """``1,000 pictures scored (12 grey, 3 with transparency, laid on white)``."""
        odd = [f"{count:,} {oddity}" for oddity, count in self.oddities.most_common()]
        if len(self.sizes) > 1:
            odd.append(f"of {len(self.sizes):,} sizes")
        text = f"{len(self):,} pictures scored" + (f" ({'; '.join(odd)})" if odd else "")
        return f"{text}; left aside: {self._aside()}" if self.left_aside else text

    def _aside(self) -> str:
        return ", ".join(f"{count:,} {ending}" for ending, count in sorted(self.left_aside.items()))

    def _each_batch(self, work: Callable, advance: Advance) -> Iterator[list]:
        """``work`` on the path of every picture, a batch per thread at a time, in order."""
        paths = iter([self.folder / name for name in self.names])
        chunks = iter(lambda: list(islice(paths, BATCH)), [])
        with ThreadPoolExecutor(DECODERS) as threads:
            try:
                waiting = deque(
                    threads.submit(_map, work, chunk) for chunk in islice(chunks, AHEAD)
                )
                while waiting:
                    done = waiting.popleft().result()
                    waiting.extend(threads.submit(_map, work, each) for each in islice(chunks, 1))
                    yield done
                    advance(len(done))
            finally:
                threads.shutdown(cancel_futures=True)


def _map(work: Callable, paths: list[Path]) -> list:
    return [work(path) for path in paths]


def _read(path: Path) -> tuple[np.ndarray, list[str]]:
    try:
        return read_picture(path)
    except ValueError as error:
        raise ValueError(_unreadable(path.parent, [(path, str(error))])) from error


def _unreadable(
    folder: Path, problems: Sequence[tuple[Path, str | None]], of: int | None = None
) -> str:
    named = "; ".join(f"{path.relative_to(folder)} ({why})" for path, why in problems[:NAMED])
    more = f" and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
    count = "a picture" if of is None else f"{len(problems):,} of {of:,} pictures"
    return f"{count} in {folder} cannot be read: {named}{more}: mend or remove them"


def _files_below(folder: Path) -> Iterator[str]:
    """Relative paths of all files; folders behind links are entered, each once."""
    seen = set()
    for parent, inner, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        for name in files:
            yield (Path(parent) / name).relative_to(folder).as_posix()
