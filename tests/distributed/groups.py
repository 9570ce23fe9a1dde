"""Groups of CPU processes that talk through gloo, forked from a server that has imported
everything.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed as dist

MOST_SECONDS = 400

_children = multiprocessing.get_context("forkserver")
_children.set_forkserver_preload(["distributed.gradients", "distributed.faults"])


@contextmanager
def forked() -> Iterator[None]:
    """Inside, the processes of a run are forked from the server; they take seconds to import all
    that it has imported.
    """
    with pytest.MonkeyPatch.context() as patch:  # the fork server knows no other way to tests/
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        patch.setattr("mot_lab.distributed.launch.START", "forkserver")
        forkserver.ensure_running()
        yield


def in_groups(
    folder: Path, sizes: tuple[int, ...], work: Callable[..., Any], *arguments: Any
) -> dict[int, list[Any]]:
    """What ``work(*arguments)`` returns on each rank of a group of each size: one start of as many
    processes as the largest has, of which the smaller groups take the first.

    Args:
        folder: for files that tensors are returned in.
        sizes: of the groups, one after the other.
        work: of a module that the processes can import.
        arguments: of the work.
    """
    with forked():
        pass
    processes = [
        _children.Process(target=_rank, args=(rank, folder, sizes, work, arguments))
        for rank in range(max(sizes))
    ]
    for each in processes:
        each.start()
    for each in processes:
        each.join(MOST_SECONDS)
    codes = [each.exitcode for each in processes]
    for each in processes:
        each.kill()
    assert codes == [0] * len(processes), "a process failed, or hung (None)"
    return {
        size: [torch.load(folder / f"{size}-{rank}.pt") for rank in range(size)] for size in sizes
    }


def _rank(
    rank: int,
    folder: Path,
    sizes: tuple[int, ...],
    work: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    torch.set_num_threads(1)
    for size in sizes:
        if rank < size:
            store = dist.FileStore(str(folder / f"store-{size}"), size)
            dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
            torch.save(work(*arguments), folder / f"{size}-{rank}.pt")
            dist.destroy_process_group()
