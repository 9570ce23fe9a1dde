"""What tells the data of one run from another's: hashes of batches as the run would draw them."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator

from torch.utils.data import DataLoader

from mot_lab.batch import MultimodalBatch
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.data.packing import Row

FIRST, SPREAD = 3, 5


def data_digests(data: MultimodalDataModule, steps: int) -> dict[str, str]:
    """Digests of some training batches of a run and of all held-out batches, split by split.

    Args:
        data: of the run.
        steps: of the run.
    """
    training = digest(batch.sha256() for batch in training_batches(data, sampled(steps)))
    return {"training": training, **held_out_digests(data)}


def held_out_digests(data: MultimodalDataModule) -> dict[str, str]:
    """A digest of all batches of every held-out split."""
    return {
        split: digest(batch.sha256() for batch in _batches(data.held_out_loader(split)))
        for split in data.config.held_out
    }


def held_out_counts(data: MultimodalDataModule, split: str) -> Counter[str]:
    """Tokens by modality of a held-out split's evaluation batches."""
    counts = Counter(dict.fromkeys(data.interface.modalities, 0))
    for batch in _batches(data.held_out_loader(split)):
        counts.update(batch.counts)
    return counts


def sampled(steps: int) -> list[int]:
    """The first few of a run's steps and some spread evenly over the rest, the last included."""
    spread = (steps - 1 - (steps - 1) * part // SPREAD for part in range(SPREAD))
    return sorted({*range(min(FIRST, steps)), *spread})


def training_batches(data: MultimodalDataModule, steps: Iterable[int]) -> Iterator[MultimodalBatch]:
    """The batches of these steps, one at a time, from the run's own loader."""
    for step in steps:
        yield from _batches(data.train_loader(step + 1, start=step))


def digest(hashes: Iterable[str]) -> str:
    """One hash of many, in their order (16 hex digits)."""
    together = hashlib.sha256()
    for each in hashes:
        together.update(each.encode())
    return together.hexdigest()[:16]


def _batches(loader: DataLoader[tuple[int, Row]]) -> Iterator[MultimodalBatch]:
    """A loader's batches without its worker processes, and without a draw from torch's generator,
    which every iteration over a loader makes.
    """
    assert loader.batch_sampler is not None
    for indices in loader.batch_sampler:
        yield loader.collate_fn([loader.dataset[index] for index in indices])
