"""What a study finds in its folder from the last time: it is extended, never mixed with other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mot_lab.runtime.plain_files import laid_out, read_json
from mot_lab.training import Run


def require_same_settings(runs: Sequence[Run]) -> None:
    """Raises ValueError where a run was begun under other settings than it would have now."""
    for run in runs:
        if run.folder.config_path.exists():
            run.folder.require_config(run.settings())


def require_same_evaluators(folder: Path, evaluators: Mapping[str, Any]) -> None:
    """Raises ValueError where the finished study in the folder was scored otherwise."""
    path = folder / "study.json"
    if not path.exists():
        return
    with laid_out(path):
        kept = read_json(path)["evaluators"]
        changed = [key for key in evaluators if kept.get(key) != evaluators[key]]
    if changed:
        key = changed[0]
        raise ValueError(
            f"the runs in {folder} were scored with {key} {kept.get(key)}, now it would be "
            f"{evaluators[key]}: choose another study name, or remove study.json and every run's "
            "artifacts/evaluation.json to score all runs again"
        )


def left_out(folder: Path, runs: Sequence[Run]) -> list[str]:
    """Names of runs in the folder that are of other arms or seeds than the study has now."""
    found = {path.parent.name for path in folder.glob("*/run.json")}
    return sorted(found - {run.name for run in runs})
