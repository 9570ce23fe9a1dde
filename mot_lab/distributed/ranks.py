"""The processes that train one run together, by `torch.distributed`; alone, nothing is exchanged.

Numbers of the host go through gloo, so that a GPU is never waited for; tensors of a GPU through its
own backend. Every function but `ranks`, `rank` and `of_here` is collective: all processes call it,
in the same order.

Shapes: R processes, K numbers.
"""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.tensor import DTensor


def ranks() -> int:
    """Number R of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, 0 .. R - 1."""
    return dist.get_rank() if ranks() > 1 else 0


def gathered(numbers_K: Sequence[int]) -> list[list[int]]:
    """The K whole numbers of every process, rank by rank."""
    return gathering(numbers_K)()


def gathering(numbers_K: Sequence[int]) -> Callable[[], list[list[int]]]:
    """Begin `gathered`; what is returned waits for it, the first time it is called."""
    if ranks() == 1:
        return lambda: [list(numbers_K)]
    own_K = torch.tensor(numbers_K, dtype=torch.int64)
    all_RK = [torch.empty_like(own_K) for _ in range(ranks())]
    work = dist.all_gather(all_RK, own_K, group=_host_group(), async_op=True)
    assert work is not None, "it is asynchronous"

    @cache
    def wait() -> list[list[int]]:
        work.wait()
        return [each.tolist() for each in all_RK]

    return wait


def gathered_objects(value: Any) -> list[Any]:
    """A picklable value of every process, rank by rank."""
    if ranks() == 1:
        return [value]
    values: list[Any] = [None] * ranks()
    dist.all_gather_object(values, value, group=_host_group())
    return values


def summed(numbers_K: Sequence[int]) -> list[int]:
    """K whole numbers, each summed over the processes."""
    return summing(numbers_K)()


def summing(numbers_K: Sequence[int]) -> Callable[[], list[int]]:
    """Begin `summed`; what is returned waits for it. Whatever stands between the two is done while
    the other processes catch up.
    """
    if ranks() == 1:
        return lambda: list(numbers_K)
    sum_K = torch.tensor(numbers_K, dtype=torch.int64)
    work = dist.all_reduce(sum_K, group=_host_group(), async_op=True)
    assert work is not None, "it is asynchronous"

    def wait() -> list[int]:
        work.wait()
        return sum_K.tolist()

    return wait


def largest(number: int) -> int:
    """The largest of the processes' numbers."""
    return max(each for (each,) in gathered([number]))


def summed_tensor(x: Tensor) -> Tensor:
    """A tensor, summed over the processes on its own device; none is changed."""
    if ranks() == 1:
        return x
    x = x.clone()
    dist.all_reduce(x)
    return x


def of_here(x: Tensor) -> Tensor:
    """This process's part of a tensor that is sharded over the processes; any other one as it is.
    Not collective.
    """
    return x.to_local() if isinstance(x, DTensor) else x


def whole(x: Tensor) -> Tensor:
    """A tensor that is sharded over the processes, put together; any other one as it is."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def _host_group() -> dist.ProcessGroup:
    return _gloo_beside(dist.group.WORLD)


@lru_cache(maxsize=1)
def _gloo_beside(world: dist.ProcessGroup) -> dist.ProcessGroup:
    """A group of all processes for tensors of the host."""
    if dist.get_backend(world) == "gloo":
        return world
    group = dist.new_group(backend="gloo")
    assert isinstance(group, dist.ProcessGroup), "all processes are in it"
    return group
