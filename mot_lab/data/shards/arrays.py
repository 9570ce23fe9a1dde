"""Arrays in ``.npy`` files: written as they grow, read where they lie.

Shapes: n entries, any further axes.
"""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import torch

SMALL = np.iinfo(np.uint16).max + 1  # numbers that 16 bits tell apart


def token_type(size: int) -> np.dtype:
    """The smaller of two types that hold 0 .. size - 1: uint16 or int32."""
    return np.dtype(np.uint16 if size <= SMALL else np.int32)


class GrowingArray:
    """An ``.npy`` file whose first axis grows until it is closed.

    Plain writes, never through a memory map: there a full disk ends the process with SIGBUS.

    Args:
        path: of the file.
        dtype: of the entries.
        shape: of one entry.
    """

    def __init__(self, path: Path, dtype: np.dtype | type, shape: Sequence[int] = ()) -> None:
        self.dtype, self.shape, self.length = np.dtype(dtype), tuple(shape), 0
        self._file: BinaryIO = path.open("wb")
        self._write_header()
        self._begin = self._file.tell()

    def append(self, entries: np.ndarray | Sequence[int]) -> None:
        """Add entries [n, *shape]."""
        array = np.ascontiguousarray(entries, self.dtype)
        if array.shape[1:] != self.shape:
            raise ValueError(f"entries are {list(array.shape)}, not [n, *{list(self.shape)}]")
        self._file.write(array.data)
        self.length += len(array)

    def close(self) -> None:
        """Say in the header how long it became."""
        self._file.seek(0)
        self._write_header()
        assert self._file.tell() == self._begin, "numpy leaves room for a first axis that grows"
        self._file.close()

    def __enter__(self) -> "GrowingArray":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()

    def _write_header(self) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.length, *self.shape),
        }
        np.lib.format.write_array_header_1_0(self._file, header)


def mapped(path: Path) -> np.ndarray:
    """What ``numpy.load(path, mmap_mode="r")`` gives, without a file that stays open: of the many
    parts of a large data set all can be mapped at once.

    Raises:
        ValueError: no such file, or no whole array; with its path.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if (version := np.lib.format.read_magic(file)) != (1, 0):
                raise ValueError(f"its format is {version}, not 1.0")
            shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
            begin = file.tell()
        if by_columns or dtype.hasobject:
            raise ValueError(f"it holds {dtype}, not plain numbers row by row")
        wanted = begin + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if size != wanted:
            raise ValueError(f"it has {size:,} bytes, its header says {wanted:,}")
        # not shared: pages are the file's own as long as nobody writes, and nobody can
        whole = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).numpy()
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no whole array: {error}") from error
    array = whole[begin:].view(dtype).reshape(shape)
    array.flags.writeable = False
    return array
