"""Weights sharded over processes: FSDP2 on the blocks, and on what stands around them.

Each block's weights are gathered when it is computed, and its gradients are reduced and scattered
when they are known. There is no tensor parallelism: its plans replace the forward pass of
``nn.Linear``, which the towers here do not call (`mot_lab.backbones.towers` multiplies the rows of
all towers by their weights at once).
"""

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from mot_lab.model import MultimodalModel


def shard(net: MultimodalModel, mesh: DeviceMesh) -> None:
    """Shard a network's weights in place, each along its first dimension; once is enough.

    Args:
        net: the same on all processes.
        mesh: of one dimension, all processes.
    """
    if any(isinstance(weight, DTensor) for weight in net.parameters()):
        return
    for block in net.transformer.layers:
        fully_shard(block, mesh=mesh)
    fully_shard(net, mesh=mesh)
