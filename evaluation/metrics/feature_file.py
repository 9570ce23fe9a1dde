"""Features of any number of pictures on disk, so that memory does not grow with their number.

Tensor legend: N pictures, B a batch of them, F features.
"""

import os
import tempfile
from collections.abc import Iterator

import numpy as np

BLOCK = 1024


class FeatureFile:
    """Rows of features in a temporary file, appended batch by batch and read back at will.

    The file has no name in the file system and goes with the object. It takes 8 KB per picture for
    the 2048 features of Inception-v3, in the folder that ``TMPDIR`` names.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the object)
        self._dtype = np.dtype(np.float32)
        self._rows = 0
        self._features = 0

    def append(self, features_BF: np.ndarray) -> None:
        """Adds a batch; all batches have the width and number type of the first."""
        if not self._rows:
            self._features, self._dtype = features_BF.shape[1], features_BF.dtype
        if features_BF.shape[1] != self._features or features_BF.dtype != self._dtype:
            raise ValueError(
                f"a batch of {features_BF.shape[1]} features of type {features_BF.dtype} after "
                f"batches of {self._features} of type {self._dtype}"
            )
        self._file.write(np.ascontiguousarray(features_BF).data)
        self._file.flush()
        self._rows += len(features_BF)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, F)."""
        return self._rows, self._features

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Some rows, as numpy would give them: a slice without a step, or positions [B]."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(self._rows)
            return self._read(start, max(stop - start, 0))
        return np.concatenate([self._read(int(row), 1) for row in rows])

    def _read(self, start: int, count: int) -> np.ndarray:
        size = self._features * self._dtype.itemsize
        data = os.pread(self._file.fileno(), count * size, start * size)
        return np.frombuffer(data, self._dtype).reshape(count, self._features)


Features = np.ndarray | FeatureFile


def blocks(features: Features) -> Iterator[np.ndarray]:
    """All rows in order, float64 [up to BLOCK, F] at a time."""
    for start in range(0, len(features), BLOCK):
        yield np.asarray(features[start : start + BLOCK], dtype=np.float64)
