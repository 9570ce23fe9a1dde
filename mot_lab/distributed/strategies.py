"""Lightning's strategies for the processes that train a run together."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from mot_lab.distributed.sharded_checkpoint import is_sharded, load_sharded, named, save_sharded
from mot_lab.runtime.checkpoint import load_checkpoint

if TYPE_CHECKING:
    from mot_lab.study_arm import TrainingConfig


def make_strategy(training: "TrainingConfig") -> str | Strategy:
    """Of a configuration.

    Every weight that is trained has a gradient on every process, zero where its rows hold nothing
    for it (`mot_lab.backbones.grouping.TokenGroups.skip_absent`), so that DDP has none to look for;
    the one buffer is a constant and need not be sent.
    """
    if training.strategy == "fsdp2":
        return ShardedStrategy(training.processes)
    if training.processes == 1:
        return "auto"
    return DDPStrategy(forward_sync_buffers=False, gradient_as_bucket_view=True)


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2 (`mot_lab.distributed.sharding`), whose checkpoints are never torn and are read by any
    number of processes under any strategy (`mot_lab.distributed.sharded_checkpoint`). It goes on
    from a checkpoint of another strategy, too.

    Args:
        processes: that the weights are sharded over, all there are.
    """

    def __init__(self, processes: int) -> None:
        super().__init__(data_parallel_size=processes, tensor_parallel_size=1)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        save_sharded(checkpoint, Path(filepath))

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        path, module = Path(checkpoint_path), self.lightning_module
        assert module is not None
        weights = dict(module.named_parameters())
        if is_sharded(path):
            options = StateDictOptions()
            shards = {name: each for name, each in weights.items() if isinstance(each, DTensor)}
            checkpoint = load_sharded(path, shards)
        else:
            options = StateDictOptions(full_state_dict=True)
            checkpoint = load_checkpoint(path)
            checkpoint["optimizer_states"] = [
                named(state, names_in(optimizer, weights))
                for optimizer, state in zip(
                    self.optimizers, checkpoint["optimizer_states"], strict=True
                )
            ]
        set_model_state_dict(module, checkpoint["state_dict"], options=options)
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            set_optimizer_state_dict(module, optimizer, optim_state_dict=state, options=options)
        return checkpoint


def names_in(optimizer: Optimizer, weights: Mapping[str, Tensor]) -> list[str]:
    """Names of an optimiser's weights, in the order in which it numbers them."""
    name = {id(weight): name for name, weight in weights.items()}
    return [name[id(each)] for group in optimizer.param_groups for each in group["params"]]
