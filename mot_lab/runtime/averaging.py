"""Averaged weights, to draw pictures and write captions with; training keeps the raw ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mot_lab.distributed.ranks import of_here


class ExponentialMovingAverage(Callback):
    """Keeps an exponential moving average of the trainable weights, updated after each step.

    Training and validation use the raw weights (the curves are those of the optimiser); evaluation
    opts in with :meth:`averaged_weights`, or :func:`averages_in` for a checkpoint. At update ``n``
    the decay is ``min(decay, (1 + n) / (10 + n))``, so that a short run is not dominated by its
    initial weights. Averages of sharded weights are sharded like them.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must lie in [0, 1), not {decay}")
        self.decay = decay
        self.updates = 0
        self.averages: dict[str, Tensor] = {}
        self._weights: list[Tensor] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        restored, self.averages = self.averages, _copies(pl_module)
        self._weights = [of_here(w.detach()) for w in _trainable(pl_module).values()]
        if restored:
            load_weights(self.averages, restored)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.updates:  # still accumulating gradients
            return
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages = [of_here(average) for average in self.averages.values()]
        get_ema_multi_avg_fn(decay)(averages, self._weights, self.updates)
        self.updates = trainer.global_step

    @contextmanager
    def averaged_weights(self, module: nn.Module) -> Iterator[None]:
        """Inside, ``module`` (the one trained) holds the averages; after, its own weights again."""
        with swapped_weights(module, self.averages):
            yield

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "averages": self.averages}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.updates = state_dict["updates"]
        self.averages = state_dict["averages"]


def averages_in(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The averaged weights in a loaded training checkpoint, by the module's parameter names.

    Raises:
        ValueError: the run kept no averages.
    """
    state = checkpoint.get("callbacks", {}).get(ExponentialMovingAverage.__qualname__)
    if state is None:
        raise ValueError(
            "the checkpoint holds no averaged weights: the run had no ExponentialMovingAverage"
        )
    return state["averages"]


@contextmanager
def swapped_weights(module: nn.Module, weights: dict[str, Tensor]) -> Iterator[None]:
    """Inside, trainable parameters of ``module`` hold ``weights``; after, bit for bit their own."""
    originals = _copies(module)
    parameters = _trainable(module)
    try:
        load_weights(parameters, weights)
        yield
    finally:
        load_weights(parameters, originals)


@torch.no_grad()
def load_weights(target: dict[str, Any], source: dict[str, Tensor]) -> None:
    """Copy ``source`` into the tensors of ``target``, name by name.

    Raises:
        ValueError: the names differ.
    """
    if target.keys() != source.keys():
        names = sorted(target.keys() ^ source.keys())
        raise ValueError(f"averaged weights of another model: only on one side are {names[:5]}")
    for name, tensor in target.items():
        given = source[name]
        if isinstance(tensor, DTensor) and not isinstance(given, DTensor):
            given = distribute_tensor(given, tensor.device_mesh, tensor.placements)
        tensor.copy_(given)


def _trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in module.named_parameters() if weight.requires_grad}


def _copies(module: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in _trainable(module).items()}
