"""Which samples make up which batch: a pure function of the step, so any step can be the first."""

from collections.abc import Iterator

from torch.utils.data import Sampler


class StepSampler(Sampler[list[int]]):
    """Batch sampler: the batch of step ``s`` holds samples ``s * batch_size .. (s + 1) * batch_size
    - 1``; of several processes each takes an equal block of them, in the order of their ranks.

    Sample ``i`` is itself a function of (seed, i), so there is nothing to shuffle. Build the loader
    in ``LightningDataModule.train_dataloader`` with ``start`` = the steps already done
    (``trainer.global_step * trainer.accumulate_grad_batches``): Lightning calls it after it has
    restored the step, and resuming then neither replays nor skips a batch.

    ``len()`` is the length of the whole run, not of what is left: after a resume Lightning starts
    counting batches at the restored step and ends the epoch when that count reaches ``len()``.

    Raises:
        ValueError: numbers out of range, or a batch that does not divide into the processes.
    """

    def __init__(
        self, batch_size: int, steps: int, start: int = 0, rank: int = 0, ranks: int = 1
    ) -> None:
        if batch_size < 1 or not 0 <= start <= steps:
            raise ValueError(
                "need batch_size >= 1 and 0 <= start <= steps; "
                f"got {batch_size=}, {start=}, {steps=}"
            )
        if batch_size % ranks:
            raise ValueError(f"{batch_size} rows do not divide into {ranks} processes")
        self.batch_size = batch_size
        self.share = batch_size // ranks
        self.first = rank * self.share
        self.steps = steps
        self.start = start

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.steps):
            start = step * self.batch_size + self.first
            yield list(range(start, start + self.share))

    def __len__(self) -> int:
        return self.steps
