"""Loss curves of MLflow runs of any project, and the choice between a run and a file."""

import re
from pathlib import Path

import mlflow
import numpy as np
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from evaluation.matching.curve_files import read_curve_file
from evaluation.matching.measured_curve import MeasuredCurve, Row, measured_curve
from evaluation.store.metric_history import History, read_curves, read_histories
from evaluation.store.read import open_store

RUN_ID = re.compile(r"[0-9a-f]{32}")
RUN_PREFIX = "runs:/"
LISTED = 30  # metric names in an error message


def read_measured(named: str, metric: str, tracking_uri: str | None = None) -> MeasuredCurve:
    """The metric's curve in a file, a run's folder, or an MLflow run.

    Args:
        named: a path; or an MLflow run's id, as it is or as ``runs:/ID``.
        metric: column, key or metric to read.
        tracking_uri: where the run is; by default MLflow's own (``MLFLOW_TRACKING_URI``).

    Raises:
        ValueError: nothing is there, or it makes no curve.
    """
    if named.startswith(RUN_PREFIX):
        return read_run(named.removeprefix(RUN_PREFIX).strip("/"), metric, tracking_uri)
    if Path(named).exists():
        return read_curve_file(Path(named), metric)
    if RUN_ID.fullmatch(named):
        return read_run(named, metric, tracking_uri)
    raise ValueError(
        f"there is no file or folder {named!r}, and it is no MLflow run id (32 of 0-9 and a-f; "
        "others as runs:/ID)"
    )


def read_run(run_id: str, metric: str, tracking_uri: str | None = None) -> MeasuredCurve:
    """The metric's curve in an MLflow run.

    Of a step logged twice the later record counts. Values that are not finite, or were logged as
    ``nonfinite/<metric>``, are left out and counted. FLOPs and seconds are the run's metrics
    ``flops`` and ``seconds`` at the same steps; without the latter, seconds are those from the
    run's start to each record's timestamp, pauses included.

    Raises:
        ValueError: no such run or metric, or it makes no curve.
    """
    uri = tracking_uri or mlflow.get_tracking_uri()
    client = open_store(uri)
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        raise ValueError(f"no run {run_id!r} at {uri!r}: {error.message}") from None
    if metric not in run.data.metrics:
        names = sorted(run.data.metrics)
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        raise ValueError(
            f"run {run_id} has no metric {metric!r}; it has: {', '.join(names[:LISTED])}{more}"
        )
    logged = [metric, *(cost for cost in ("flops", "seconds") if cost in run.data.metrics)]
    histories = read_histories(client, run_id, logged)
    costs = {cost: _last_values(histories[cost]) for cost in logged[1:]}
    notes = []
    if "seconds" not in costs:
        if (clock := _clock(histories[metric], run)) is not None:
            costs["seconds"] = clock
            notes.append("seconds are those from the run's start to each record, pauses included")
        else:
            notes.append("no seconds: the timestamps of the records do not rise with the steps")
    curve, left_out = read_curves(client, run, [metric])[0]
    rows = [
        Row(
            f"step {step:g}",
            float(step),
            float(value),
            {cost: of[int(step)] for cost, of in costs.items() if int(step) in of},
        )
        for step, value in zip(curve.steps, curve.values, strict=True)
    ]
    return measured_curve(f"run {run.info.run_name!r}", metric, rows, left_out, 0, notes)


def _last_values(history: History) -> dict[int, float]:
    """The value of each step, of its latest record."""
    order = np.argsort(history.times_R, kind="stable")
    pairs = zip(history.steps_R[order].tolist(), history.values_R[order].tolist(), strict=True)
    return dict(pairs)


def _clock(history: History, run: Run) -> dict[int, float] | None:
    """Seconds from the run's start to each step's latest record; None where they do not rise."""
    times = History(history.steps_R, history.times_R, history.times_R.astype(np.float64))
    seconds = {
        step: (time - run.info.start_time) / 1000
        for step, time in sorted(_last_values(times).items())
    }
    of_steps = np.array(list(seconds.values()))
    return seconds if of_steps[0] >= 0 and (np.diff(of_steps) > 0).all() else None
