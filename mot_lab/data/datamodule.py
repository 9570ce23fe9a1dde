"""The LightningDataModule: batches whose order and noise are a function of (seed, step).

However many processes share a batch, and in however many passes they go through it, the rows of a
step are the same.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import lightning as L
import torch
from torch.utils.data import Dataset

from mot_lab.batch import MultimodalBatch
from mot_lab.data.documents import Stream
from mot_lab.data.interface import DataInterface
from mot_lab.data.loader import TimedLoader
from mot_lab.data.packing import Layout, Row, collate, pack_row
from mot_lab.data.prepare import DataConfig, PreparedData, prepare
from mot_lab.data.sampler import StepSampler
from mot_lab.plain import plain

TRAIN, HELD_OUT = 0, 1


class PackedRows(Dataset[tuple[int, Row]]):
    """Row i of a stream: a function of (seed, i), for every i."""

    def __init__(self, stream: Stream, layout: Layout, seed: tuple[int, ...]) -> None:
        self.stream, self.layout, self.seed = stream, layout, seed

    def __getitem__(self, index: int) -> tuple[int, Row]:
        return index, pack_row(self.stream, self.layout, (*self.seed, index))


def _collate(indexed: list[tuple[int, Row]], layout: Layout, all_rows: int) -> MultimodalBatch:
    """Rows of a batch that has so many on all processes."""
    batch = collate([row for _, row in indexed], indexed[0][0] // all_rows, layout)
    return replace(batch, all_rows=all_rows)


class PassLoader(TimedLoader[tuple[int, Row]]):
    """Batches that know what the other passes of their step hold."""

    passes = 1

    def __iter__(self) -> Iterator[MultimodalBatch]:  # type: ignore[override]
        batches = super().__iter__()
        while step := list(islice(batches, self.passes)):
            yield from _with_step_counts(step) if self.passes > 1 else step


def _with_step_counts(passes: list[MultimodalBatch]) -> list[MultimodalBatch]:
    targets = {
        name: sum(each.target_counts[name] for each in passes) for name in passes[0].target_counts
    }
    images = sum(each.num_images for each in passes)
    return [replace(each, step_targets=targets, step_images=images) for each in passes]


class MultimodalDataModule(L.LightningDataModule):
    """Training and validation batches: its loaders yield `MultimodalBatch`.

    Args:
        config: what they hold.
        seed: of the order and the noise of training; validation has the configuration's own.
        num_workers: processes that pack ahead; the batches are the same for every number.
        parts: that each batch is cut into, one for each pass of a step, where the Trainer's
            ``accumulate_grad_batches`` is as many: memory for time.
    """

    def __init__(
        self, config: DataConfig, seed: int = 0, num_workers: int = 0, parts: int = 1
    ) -> None:
        super().__init__()
        if config.rows % parts:
            raise ValueError(f"rows {config.rows} do not divide into {parts} parts")
        self.config, self.seed, self.num_workers, self.parts = config, seed, num_workers, parts
        self._prepared: PreparedData | None = None

    @property
    def interface(self) -> DataInterface:
        """What the model must know."""
        return self.config.interface()

    @property
    def prepared(self) -> PreparedData:
        """Tokenizers, pools and prose, prepared at the first use."""
        if self._prepared is None:
            self._prepared = prepare(self.config)
        return self._prepared

    def prepare_data(self) -> None:
        """Fill the cache before any process trains."""
        for split in ("train", "val"):
            self.prepared.stream(split)

    def train_loader(self, steps: int, start: int = 0) -> TimedLoader[tuple[int, Row]]:
        """The batches of steps ``start .. steps - 1``, whole."""
        return self._loader("train", (self.seed, TRAIN), steps, start)

    def held_out_loader(self, split: str) -> TimedLoader[tuple[int, Row]]:
        """The fixed evaluation batches of a held-out split, whole."""
        return self._held_out(split, 0, 1)

    def train_dataloader(self) -> TimedLoader[tuple[int, Row]]:
        """This process's share, from the step the trainer stands at; Lightning calls this after
        restoring it.
        """
        assert self.trainer is not None
        passes = self.trainer.accumulate_grad_batches
        steps, start = self.trainer.max_steps * passes, self.trainer.global_step * passes
        seed = (self.seed, TRAIN)
        loader = self._loader("train", seed, steps, start, self.parts, *self._place())
        loader.pin_memory = self._pins
        loader.passes = passes
        return loader

    def val_dataloader(self) -> TimedLoader[tuple[int, Row]]:
        """This process's share of the same batches, noise and noise levels at every evaluation."""
        loader = self._held_out("val", *self._place())
        loader.pin_memory = self._pins
        return loader

    def transfer_batch_to_device(
        self, batch: MultimodalBatch, device: torch.device, dataloader_idx: int
    ) -> MultimodalBatch:
        """Without waiting for a GPU to be done with the step before, as Lightning would. (On MPS
        it would be a race.)
        """
        return batch.to(device, non_blocking=device.type == "cuda")

    @property
    def _pins(self) -> bool:
        """Whether batches are read by a GPU. Others than the Trainer's are read on the host, where
        to pin them would open a context on a GPU that may not be this process's.
        """
        assert self.trainer is not None
        return self.trainer.strategy.root_device.type == "cuda"

    def _place(self) -> tuple[int, int]:
        """Rank of this process, and how many there are."""
        assert self.trainer is not None
        return self.trainer.global_rank, self.trainer.world_size

    def _held_out(self, split: str, rank: int, ranks: int) -> PassLoader:
        steps = self.config.val_rows // self.config.rows
        seed = (self.config.seed, HELD_OUT)
        return self._loader(split, seed, steps, 0, 1, rank, ranks)

    def state_dict(self) -> dict[str, Any]:
        """The configuration, so that a checkpoint says which data it is of."""
        return {"config": plain(self.config), "seed": self.seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to go on with other data than the checkpoint's."""
        if state_dict != self.state_dict():
            raise ValueError(
                f"the checkpoint was trained on data {state_dict}, this is {self.state_dict()}"
            )

    def _loader(
        self,
        split: str,
        seed: tuple[int, ...],
        steps: int,
        start: int,
        parts: int = 1,
        rank: int = 0,
        ranks: int = 1,
    ) -> PassLoader:
        """Batches, or equal parts of them, of whose rows this process has its share."""
        rows = self.config.rows // parts
        return PassLoader(
            PackedRows(self.prepared.stream(split), self.prepared.layout, seed),
            batch_sampler=StepSampler(rows, steps, start, rank, ranks),
            collate_fn=partial(_collate, layout=self.prepared.layout, all_rows=rows),
            num_workers=self.num_workers,
        )
