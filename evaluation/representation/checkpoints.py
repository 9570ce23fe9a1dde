"""From paths as a user names them to checkpoints with the names that figures give them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mot_lab.runtime.plain_files import laid_out, read_json
from mot_lab.runtime.run_folder import RunFolder
from mot_lab.training import CHECKPOINT


@dataclass(frozen=True)
class Source:
    """A checkpoint and whose it is; ``arm`` and ``seed`` are None where no run lies around it."""

    path: Path
    arm: str | None = None
    seed: int | None = None


def find_checkpoints(paths: Sequence[Path]) -> list[Source]:
    """The checkpoints behind paths of checkpoints, of runs' folders and of studies' folders; of a
    study those of its first seed.

    Raises:
        ValueError: a folder that is neither, or a checkpoint that is named twice.
    """
    found = [source for path in paths for source in _behind(path)]
    for place, source in enumerate(found):
        if source.path.resolve() in [other.path.resolve() for other in found[:place]]:
            raise ValueError(f"{source.path} is named twice: name every checkpoint once")
    return found


def _behind(path: Path) -> list[Source]:
    if not path.is_dir():
        return [_source(path)]
    if RunFolder(path).record_path.exists():
        return [_source(path / CHECKPOINT)]
    if (path / "study.json").exists():
        study = read_json(path / "study.json")
        with laid_out(path / "study.json"):
            names = [f"{arm}-seed{study['seeds'][0]}" for arm in study["arms"]]
        return [_source(path / name / CHECKPOINT) for name in names]
    raise ValueError(
        f"{path} holds neither a run (run.json) nor a finished study (study.json): name a "
        f"checkpoint, a run's folder or a study's folder"
    )


def _source(path: Path) -> Source:
    if not path.exists():
        raise ValueError(f"there is no checkpoint {path}")
    folder = RunFolder(path.parent)
    if not folder.record_path.exists():
        return Source(path)
    record = folder.record()
    return Source(path, record.arm, record.seed)


def labels(sources: Sequence[Source], arms: Sequence[str]) -> list[str]:
    """What to call them: their arms; with seeds, or else paths, where arms are not enough.

    Args:
        sources: the checkpoints.
        arms: of each, as the checkpoint says.
    """
    seeded = [
        f"{arm}, seed {source.seed}" if source.seed is not None else f"{arm}, {source.path}"
        for arm, source in zip(arms, sources, strict=True)
    ]
    paths = [f"{arm}, {source.path}" for arm, source in zip(arms, sources, strict=True)]
    return next(names for names in (list(arms), seeded, paths) if len(set(names)) == len(names))
