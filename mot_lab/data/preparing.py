"""All data of a study prepared ahead of it, with an account of what lies where."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mot_lab.data.own_data import OwnData, prepare_own
from mot_lab.data.prepare import DataConfig, prepare
from mot_lab.data.shards.writing import cached_shards, write_shards
from mot_lab.runtime.cache import cache_root, folders_used


@dataclass(frozen=True)
class PreparedFolder:
    """A folder of the cache: its path, bytes in it, and whether it was made just now."""

    path: Path
    size: int
    made: bool


def prepare_all(configs: Sequence[DataConfig]) -> list[PreparedFolder]:
    """Prepare tokenizers, pools and prose of every split; what the cache has is left as it is.

    Returns:
        The folders of the cache that hold them, and all that this process has read of it before.
    """
    root = cache_root()
    before = set(root.iterdir()) if root.exists() else set()
    for config in configs:
        data = prepare(config)
        for split in config.splits:
            data.stream(split)
    return [
        PreparedFolder(path, _size(path), path not in before)
        for path in folders_used()
        if path.parent == root
    ]


def prepare_sources(config: DataConfig, out: str | None, processes: int) -> OwnData:
    """Turn the sources of a configuration into shards; parts that are there stay as they are.

    Args:
        config: with sources.
        out: folder or URL to write them to; None is the one that ``prepared`` names, or the cache.
        processes: that work side by side.

    Returns:
        The data, as a study that names the folder under ``prepared`` finds it.

    Raises:
        ValueError: see `write_shards`; or no row has room for a source's documents.
    """
    if not config.sources:
        raise ValueError(f"{config.own_by} is not prepared from anything: give it data.sources")
    if (url := out or config.prepared) is not None:
        write_shards(config, url, processes)
        config = replace(config, prepared=url)
    else:
        cached_shards(config, processes)
    data = prepare_own(config)
    for split in config.splits:
        data.stream(split)
    return data


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
