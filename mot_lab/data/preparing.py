"""All data of a study prepared ahead of it, with an account of what lies where."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mot_lab.data.prepare import DataConfig, prepare
from mot_lab.data.scenes import SPLITS
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
        for split in SPLITS:
            data.stream(split)
    return [
        PreparedFolder(path, _size(path), path not in before)
        for path in folders_used()
        if path.parent == root
    ]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
