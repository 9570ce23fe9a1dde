"""``tracking.json`` of a run: what each tracker has of it."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mot_lab.runtime.files import write_json
from mot_lab.runtime.mlflow_store import sqlite_file
from mot_lab.runtime.run_folder import RunFolder


@dataclass
class Sent:
    """What one tracker has: ``steps`` is the last step by metric, ``files`` SHA-256 by artifact,
    ``evaluation`` that of the ``evaluation.json`` whose figures and tables it has."""

    run_id: str = ""
    steps: dict[str, int] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    params: bool = False
    status: str = ""
    files: dict[str, str] = field(default_factory=dict)
    evaluation: str = ""


def load_sent(folder: RunFolder, tracking_uri: str) -> Sent:
    """What the tracker has, as far as the run's folder knows; no tracker is asked."""
    state = _read_state(folder.tracking_path).get(_name(folder, tracking_uri))
    return Sent(**state) if state else Sent()


def save_sent(folder: RunFolder, tracking_uri: str, sent: Sent) -> None:
    """Note what the tracker has."""
    state = _read_state(folder.tracking_path)
    state[_name(folder, tracking_uri)] = dataclasses.asdict(sent)
    write_json(folder.tracking_path, state)


def tracked_run_id(run_dir: str | Path, tracking_uri: str) -> str | None:
    """Id of the run in that tracker, as far as its folder knows; no tracker is asked."""
    return load_sent(RunFolder(run_dir), tracking_uri).run_id or None


def _name(folder: RunFolder, tracking_uri: str) -> str:
    """What a run's folder calls a tracker: its URI, but the store in the study's own folder is
    named from there, so that a study that is moved does not take it for another."""
    file = sqlite_file(tracking_uri)
    if file is not None and file.parent == folder.path.absolute().parent:
        return f"sqlite:///../{file.name}"
    return tracking_uri


def _read_state(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
