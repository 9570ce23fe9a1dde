"""The state of every random number generator, saved and restored with the checkpoint."""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class RandomStateCheckpoint(Callback):
    """Python's, NumPy's and torch's generators go on from a checkpoint as if never interrupted.

    The state is put back at the first batch rather than when the checkpoint is read, because
    building the data loaders in between draws from torch's generator.
    """

    def __init__(self) -> None:
        self._to_restore: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        return random_state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._to_restore = state_dict

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._to_restore is not None:
            set_random_state(self._to_restore)
            self._to_restore = None


def random_state() -> dict[str, Any]:
    """All generators' states in containers and tensors that ``weights_only=True`` loads."""
    version, words, gauss_next = random.getstate()
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002  the one that libraries draw from
    keys = torch.from_numpy(numpy_state["state"]["key"].astype(np.int64))
    return {
        "python": [version, torch.tensor(words, dtype=torch.int64), gauss_next],
        "numpy": {**numpy_state, "state": {**numpy_state["state"], "key": keys}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Put back what :func:`random_state` returned.

    Raises:
        ValueError: the state is of another number of CUDA devices than this machine has.
    """
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if state["cuda"] and len(state["cuda"]) != devices:
        raise ValueError(
            f"the checkpoint holds the random state of {len(state['cuda'])} CUDA devices; "
            f"here are {devices}"
        )
    version, words, gauss_next = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss_next))
    numpy_state = state["numpy"]
    keys = numpy_state["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state({**numpy_state, "state": {**numpy_state["state"], "key": keys}})  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"]:
        torch.cuda.set_rng_state_all([cuda_state.cpu() for cuda_state in state["cuda"]])
