"""The LightningDataModule: batches whose order and noise are a function of (seed, step)."""

from functools import partial
from typing import Any

import lightning as L
from torch.utils.data import Dataset

from mot_lab.batch import MultimodalBatch
from mot_lab.data.documents import DocumentStream
from mot_lab.data.interface import DataInterface
from mot_lab.data.loader import TimedLoader
from mot_lab.data.packing import Layout, Row, collate, pack_row
from mot_lab.data.prepare import DataConfig, PreparedData, prepare
from mot_lab.data.sampler import StepSampler
from mot_lab.plain import plain

TRAIN, HELD_OUT = 0, 1


class PackedRows(Dataset[tuple[int, Row]]):
    """Row i of a stream: a function of (seed, i), for every i."""

    def __init__(self, stream: DocumentStream, layout: Layout, seed: tuple[int, ...]) -> None:
        self.stream, self.layout, self.seed = stream, layout, seed

    def __getitem__(self, index: int) -> tuple[int, Row]:
        return index, pack_row(self.stream, self.layout, (*self.seed, index))


def _collate(indexed: list[tuple[int, Row]], layout: Layout) -> MultimodalBatch:
    step = indexed[0][0] // len(indexed)
    return collate([row for _, row in indexed], step, layout)


class MultimodalDataModule(L.LightningDataModule):
    """Training and validation batches: its loaders yield `MultimodalBatch`.

    Args:
        config: what they hold.
        seed: of the order and the noise of training; validation has the configuration's own.
        num_workers: processes that pack ahead; the batches are the same for every number.
    """

    def __init__(self, config: DataConfig, seed: int = 0, num_workers: int = 0) -> None:
        super().__init__()
        self.config, self.seed, self.num_workers = config, seed, num_workers
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
        """The batches of steps ``start .. steps - 1``."""
        return self._loader("train", (self.seed, TRAIN), steps, start)

    def held_out_loader(self, split: str) -> TimedLoader[tuple[int, Row]]:
        """The fixed evaluation batches of a held-out split."""
        seed = (self.config.seed, HELD_OUT)
        return self._loader(split, seed, self.config.val_rows // self.config.rows, 0)

    def train_dataloader(self) -> TimedLoader[tuple[int, Row]]:
        """From the step the trainer stands at; Lightning calls this after restoring it."""
        assert self.trainer is not None
        accumulated = self.trainer.accumulate_grad_batches
        return self.train_loader(
            self.trainer.max_steps * accumulated, self.trainer.global_step * accumulated
        )

    def val_dataloader(self) -> TimedLoader[tuple[int, Row]]:
        """The same batches, noise and noise levels at every evaluation."""
        return self.held_out_loader("val")

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
        self, split: str, seed: tuple[int, ...], steps: int, start: int
    ) -> TimedLoader[tuple[int, Row]]:
        rows = PackedRows(self.prepared.stream(split), self.prepared.layout, seed)
        return TimedLoader(
            rows,
            batch_sampler=StepSampler(self.config.rows, steps, start),
            collate_fn=partial(_collate, layout=self.prepared.layout),
            num_workers=self.num_workers,
        )
