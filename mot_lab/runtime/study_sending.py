"""Sends a whole study to MLflow: every run, and of a finished study what holds for all of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from requests import RequestException
from sqlalchemy.exc import SQLAlchemyError

from mot_lab.parsing import root_cause
from mot_lab.runtime.files import lacks_room, not_written
from mot_lab.runtime.mlflow_store import StudyTracker
from mot_lab.runtime.plain_files import laid_out, read_json
from mot_lab.runtime.run_folder import RunFolder
from mot_lab.runtime.sending import sync_run


class TrackerDown(ValueError):
    """A tracker did not take what it was sent."""


def send_study(folder: str | Path, tracking_uri: str) -> dict[str, int]:
    """Send what a tracker lacks of a study: its runs and, when it is finished, its record.

    Returns:
        the number of metric values sent, by run.

    Raises:
        TrackerDown: the tracker did not answer, or not as it should.
        ValueError: the folder holds no runs, or one that is being sent by another process.
    """
    runs = sorted(path.parent for path in Path(folder).glob("*/run.json"))
    if not runs:
        raise ValueError(f"{folder} holds no runs")
    tracker = StudyTracker(RunFolder(runs[0]).record().study, tracking_uri)
    try:
        arms: dict[str, Any] = {}
        if (Path(folder) / "study.json").exists():
            arms = _send_record(tracker, Path(folder))
        sent = {}
        for run in runs:
            arm = arms.get(RunFolder(run).record().arm)
            sent[run.name] = sync_run(run, tracking_uri, _costs(arm) if arm else None)
        if arms:
            tracker.finish()
    except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
        if lacks_room(error):
            raise not_written(f"the tracking store {tracking_uri}", error) from error
        raise TrackerDown(
            f"the tracking store {tracking_uri} failed ({root_cause(error)}); nothing is lost: "
            f"when it is back, mot-lab sync {folder} --tracking-uri {tracking_uri} sends the rest"
        ) from error
    return sent


def _send_record(tracker: StudyTracker, folder: Path) -> dict[str, Any]:
    """Send ``study.json`` and ``config.yaml`` to the parent run; returns the study's arms."""
    record = read_json(folder / "study.json")
    with laid_out(folder / "study.json"):
        description = _description(record, tracker)
    tracker.set_tags({"mlflow.note.content": description})
    for name in ("study.json", "config.yaml"):
        tracker.log_artifact(folder / name)
    arms: dict[str, Any] = record["arms"]
    return arms


def _description(study: Mapping[str, Any], tracker: StudyTracker) -> str:
    """The description of a study's parent run, in Markdown, from its ``study.json``."""
    arms = "\n".join(
        f"| {name} | {arm['parameters']:,} | {arm['active_parameters']:,} "
        f"| {arm['flops_per_step']:.4g} | {arm['seconds_per_step']:.4g} |"
        for name, arm in study["arms"].items()
    )
    return (
        f"**{study['study']}**: {', '.join(study['arms'])} in the {study['setting']} setting, "
        f"seeds {', '.join(map(str, study['seeds']))}, {study['steps']} steps; "
        f"baseline {study['baseline']}.\n\n"
        f"[Compare the arms]({tracker.compare_page()}), "
        f"[their tables and pictures]({tracker.compare_page('ARTIFACT')}). "
        "The report is under Artifacts, `report/report.html`.\n\n"
        "| arm | parameters | active | FLOPs per step | seconds per step |\n"
        f"|---|---|---|---|---|\n{arms}\n"
    )


def _costs(arm: Mapping[str, Any]) -> dict[str, float]:
    """What an arm costs, from its entry in ``study.json``, as metrics ``cost/*``."""
    names = ("parameters", "active_parameters", "flops_per_step", "seconds_per_step")
    return {f"cost/{name}": float(arm[name]) for name in names}
