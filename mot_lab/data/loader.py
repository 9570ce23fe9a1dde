"""A loader that knows how long it kept its user waiting."""

import time
from collections.abc import Iterator
from typing import Any, TypeVar

from torch.utils.data import DataLoader

T_co = TypeVar("T_co", covariant=True)


class TimedLoader(DataLoader[T_co]):
    """A ``DataLoader``; ``seconds_waited`` is what its user spent asking it for batches.

    Without worker processes that is the whole of making a batch; with them, what they were late
    by. On a GPU it is the host's time, during which the device may still be at work on what it was
    given before: an upper bound of what the device waits.
    """

    seconds_waited = 0.0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches = super().__iter__()
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.seconds_waited += time.perf_counter() - began
            if batch is None:
                return
            yield batch
