"""Checkpoints to which every process writes its shards, and that any number of processes reads.

A checkpoint is a folder: ``step-N`` holds the sharded tensors as safetensors (by
`torch.distributed.checkpoint`, which cuts them anew for whoever reads) and ``rest.ckpt`` all else,
plain; ``current`` names the step that counts, and is written last. Nothing that is read is
executed.

    checkpoint.ckpt/current
    checkpoint.ckpt/step-200/shard-00001-model-00001-of-00001.safetensors ..
    checkpoint.ckpt/step-200/rest.ckpt
"""

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.tensor import DTensor

from mot_lab.distributed.ranks import gathered, rank
from mot_lab.parsing import printable
from mot_lab.runtime.files import atomic_file, not_written

CURRENT, REST = "current", "rest.ckpt"
SHARDED = "sharded"  # key of what stands in the rest for a tensor: its name, and its whole shape


def is_sharded(path: Path) -> bool:
    """Whether a path is such a checkpoint."""
    return (path / CURRENT).is_file()


def save_sharded(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint in which there are sharded tensors. Collective.

    Until its last byte is written, an earlier one under the path stays what is read.
    """
    # Where a checkpoint of another strategy, a file, has the name, it is replaced at the very end.
    base = path.with_name(f".{path.name}.sharded") if path.is_file() else path
    folder = base / f"step-{checkpoint['global_step']}"
    tensors: dict[str, DTensor] = {}
    rest = _without_shards(checkpoint, (), tensors)
    if rank() == 0:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    gathered([0])  # the folder is there
    writer = dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        dcp.save(tensors, storage_writer=writer)
    except CheckpointException as error:  # of any process; no Exception, but a BaseException
        cause = next(iter(error.failures.values()))[0]
        raise not_written(f"the checkpoint {path}", cause) from error
    if rank() == 0:
        with atomic_file(folder / REST) as file:
            torch.save(rest, file)
        with atomic_file(base / CURRENT) as file:
            file.write(folder.name.encode())
        for earlier in set(base.glob("step-*")) - {folder}:
            shutil.rmtree(earlier)
        if base != path:
            path.unlink()
            base.rename(path)
    gathered([0])  # it is written


def load_whole(path: Path) -> dict[str, Any]:
    """A checkpoint as one process would have written it, every tensor whole.

    Raises:
        ValueError: it is not whole; says why, not which.
    """
    checkpoint = _load(path, lambda _, shape, dtype: torch.empty(shape, dtype=dtype), alone=True)
    checkpoint["optimizer_states"] = [numbered(each) for each in checkpoint["optimizer_states"]]
    return checkpoint


def load_sharded(path: Path, weights: Mapping[str, DTensor]) -> dict[str, Any]:
    """A checkpoint cut as weights are now. Collective.

    Args:
        path: of the checkpoint.
        weights: by name; whatever belongs to a weight (its average, its moments) is cut like it.

    Raises:
        ValueError: it is not whole, or of other weights.
    """

    def empty(place: tuple[Any, ...], shape: list[int], dtype: torch.dtype) -> Tensor:
        name = next((part for part in place if part in weights), None)
        if name is None or list(weights[name].shape) != shape:
            raise ValueError(f"it holds {'.'.join(map(str, place))} {shape}, another model's")
        return torch.empty_like(weights[name], dtype=dtype)

    try:
        return _load(path, empty, alone=False)
    except ValueError as error:
        raise ValueError(f"training cannot go on from {path}: {error}") from error


def numbered(state: Mapping[str, Any]) -> dict[str, Any]:
    """An optimiser's state by names of weights -> by their numbers, as the optimiser itself has it:
    in the order of its groups.
    """
    names = [name for group in state["param_groups"] for name in group["params"]]
    number = {name: i for i, name in enumerate(names)}
    groups = [
        {**group, "params": [number[name] for name in group["params"]]}
        for group in state["param_groups"]
    ]
    return {"state": {number[n]: s for n, s in state["state"].items()}, "param_groups": groups}


def named(state: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The inverse of `numbered`, given the names in the order of the numbers."""
    groups = [
        {**group, "params": [names[number] for number in group["params"]]}
        for group in state["param_groups"]
    ]
    return {"state": {names[i]: each for i, each in state["state"].items()}, "param_groups": groups}


def _load(
    path: Path, empty: Callable[[tuple[Any, ...], list[int], torch.dtype], Tensor], alone: bool
) -> dict[str, Any]:
    """Rest and tensors together; ``empty`` makes what a tensor is read into.

    Raises:
        ValueError: the reason alone.
    """
    folder = path / Path((path / CURRENT).read_text()).name
    if not (folder / REST).is_file():
        raise ValueError(f"{folder.name} lacks {REST}")
    rest = torch.load(folder / REST, map_location="cpu", weights_only=True)
    reader = dcp.HuggingFaceStorageReader(str(folder))
    tensors = {}
    try:
        stored = reader.read_metadata().state_dict_metadata
        for place, name, shape in _places(rest, ()):
            found: Any = stored.get(name)
            if found is None or sum(math.prod(c.sizes) for c in found.chunks) != math.prod(shape):
                raise ValueError(f"{folder.name} lacks parts of {name}")
            tensors[name] = empty(place, shape, found.properties.dtype)
        dcp.load(tensors, storage_reader=reader, no_dist=alone)
    except (ValueError, LookupError, TypeError, SafetensorError, CheckpointException) as error:
        raise ValueError(printable(str(error))) from error
    return _with_shards(rest, tensors)


def _without_shards(tree: Any, place: tuple[Any, ...], tensors: dict[str, DTensor]) -> Any:
    """Plain values and tensors; sharded ones are moved to ``tensors``."""
    if isinstance(tree, DTensor):
        name = ".".join(map(str, place))
        tensors[name] = tree
        return {SHARDED: name, "shape": list(tree.shape)}
    if isinstance(tree, Mapping):
        return {k: _without_shards(each, (*place, k), tensors) for k, each in tree.items()}
    if isinstance(tree, list):
        return [_without_shards(each, (*place, i), tensors) for i, each in enumerate(tree)]
    return tree


def _places(tree: Any, place: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], str, list[int]]]:
    """Place, name and shape of what stands for a sharded tensor."""
    if isinstance(tree, Mapping) and SHARDED in tree:
        yield place, tree[SHARDED], tree["shape"]
    elif isinstance(tree, Mapping):
        for key, each in tree.items():
            yield from _places(each, (*place, key))
    elif isinstance(tree, list):
        for i, each in enumerate(tree):
            yield from _places(each, (*place, i))


def _with_shards(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(tree, Mapping):
        if SHARDED in tree:
            return tensors[tree[SHARDED]]
        return {key: _with_shards(each, tensors) for key, each in tree.items()}
    return [_with_shards(each, tensors) for each in tree] if isinstance(tree, list) else tree
