"""The state of every random number generator, saved and restored with the checkpoint."""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mot_lab.distributed.ranks import gathered_objects, rank, ranks


class RandomStateCheckpoint(Callback):
    """Python's, NumPy's and torch's generators go on from a checkpoint as if never interrupted.

    Of several processes that train together each has its own. Training goes on with another number
    of them too: nothing that is trained or logged is drawn from these generators, and those
    processes that have no saved state keep the one that the run's seed gave them.

    The state is put back at the first batch rather than when the checkpoint is read, because
    building the data loaders in between draws from torch's generator.
    """

    def __init__(self) -> None:
        self._to_restore: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"ranks": gathered_objects(random_state())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        states = state_dict.get("ranks", [state_dict])  # before there were several, the state alone
        self._to_restore = states[rank()] if rank() < len(states) else None

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
        "cuda": [torch.cuda.get_rng_state(each) for each in _devices()],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Put back what :func:`random_state` returned.

    Raises:
        ValueError: the state is of another number of CUDA devices than this machine has.
    """
    devices = _devices()
    if state["cuda"] and len(state["cuda"]) != len(devices):
        raise ValueError(
            f"the checkpoint holds the random state of {len(state['cuda'])} CUDA devices; "
            f"here are {len(devices)}"
        )
    version, words, gauss_next = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss_next))
    numpy_state = state["numpy"]
    keys = numpy_state["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state({**numpy_state, "state": {**numpy_state["state"], "key": keys}})  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"]:
        for device, cuda_state in zip(devices, state["cuda"], strict=True):
            torch.cuda.set_rng_state(cuda_state.cpu(), device)


def _devices() -> list[int]:
    """The CUDA devices of this process: its own, where each of several processes has one."""
    if not torch.cuda.is_available():
        return []
    return [torch.cuda.current_device()] if ranks() > 1 else list(range(torch.cuda.device_count()))
