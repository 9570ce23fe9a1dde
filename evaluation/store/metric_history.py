"""The histories of metrics in an MLflow tracking store, and the loss curves made of them.

MLflow's client makes one Python object per record, which takes a minute for the 1.2 million
records of 30 runs. A database store is therefore asked in SQL, through the table that MLflow
itself declares; every other store (a server, files) is asked through the client. Both ways give
the same records.

Shapes: R records of one metric of one run, duplicates of a step included.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.store.db.utils import create_sqlalchemy_engine
from mlflow.store.tracking.dbmodels.models import SqlMetric
from sqlalchemy import select

from evaluation.curve import Curve

LARGEST = 1e308  # MLflow's SQL stores write infinity as 1.797e308


@dataclass(frozen=True, eq=False)
class History:
    """The records of one metric of one run, in no particular order.

    Attributes:
        steps_R, times_R: int64, optimiser step and milliseconds of the clock.
        values_R: float64, as they stand in the store: NaN and infinity included.
    """

    steps_R: np.ndarray
    times_R: np.ndarray
    values_R: np.ndarray


def read_curves(client: MlflowClient, run: Run, metrics: Sequence[str]) -> list[tuple[Curve, int]]:
    """Each metric over steps, and how many of its points were not finite and are not in it.

    A run that was resumed has logged some steps twice: the later record of a step counts. A value
    that was not finite stands in the store as one of ``nonfinite/<metric>``, or as it is.

    Raises:
        ValueError: the run has no such metric, or fewer than two finite points of it.
    """
    for metric in metrics:
        if metric not in run.data.metrics:
            name = run.info.run_name
            raise ValueError(f"run {name!r} ({run.info.run_id}) has no metric {metric!r}")
    counted = [f"nonfinite/{metric}" for metric in metrics]
    counted = [metric for metric in counted if metric in run.data.metrics]
    histories = read_histories(client, run.info.run_id, [*metrics, *counted])
    return [
        _curve(
            histories[metric],
            histories.get(f"nonfinite/{metric}"),
            f"{metric} of run {run.info.run_name!r}",
        )
        for metric in metrics
    ]


def read_histories(client: MlflowClient, run_id: str, metrics: Sequence[str]) -> dict[str, History]:
    """The whole history of each metric of a run, by the fastest way that its store allows."""
    if client.tracking_uri.partition(":")[0].partition("+")[0] in DATABASE_ENGINES:
        return database_histories(client.tracking_uri, run_id, metrics)
    return client_histories(client, run_id, metrics)


def client_histories(
    client: MlflowClient, run_id: str, metrics: Sequence[str]
) -> dict[str, History]:
    """Through MLflow's client: works with every store."""
    found = {}
    for metric in metrics:
        records = client.get_metric_history(run_id, metric)
        found[metric] = _history((one.step, one.timestamp, one.value, False) for one in records)
    return found


def database_histories(
    tracking_uri: str, run_id: str, metrics: Sequence[str]
) -> dict[str, History]:
    """In SQL: for stores that are databases."""
    columns = SqlMetric.step, SqlMetric.timestamp, SqlMetric.value, SqlMetric.is_nan
    engine = create_sqlalchemy_engine(tracking_uri)
    found = {}
    with engine.connect() as connection:
        for metric in metrics:
            wanted = SqlMetric.run_uuid == run_id, SqlMetric.key == metric
            # the order leads sqlite to the index of run, key and step, not to one of key alone
            rows = connection.execute(select(*columns).where(*wanted).order_by(SqlMetric.step))
            found[metric] = _history(map(tuple, rows))
    engine.dispose()
    return found


def _history(records: Iterable[tuple[int, int, float, bool]]) -> History:
    """The history of records of step, time, value and whether the value is NaN."""
    fields = [("step", np.int64), ("time", np.int64), ("value", np.float64), ("is_nan", np.bool_)]
    records_R = np.fromiter(records, dtype=fields)
    values_R = np.where(records_R["is_nan"], np.nan, records_R["value"])
    return History(records_R["step"], records_R["time"], values_R)


def _curve(history: History, counted: History | None, name: str) -> tuple[Curve, int]:
    """The curve of a metric and its count of points that were not finite."""
    steps_R, times_R, values_R = history.steps_R, history.times_R, history.values_R
    if counted is not None:
        steps_R = np.concatenate([steps_R, counted.steps_R])
        times_R = np.concatenate([times_R, counted.times_R])
        values_R = np.concatenate([values_R, np.full(len(counted.steps_R), np.nan)])
    # by step, then time; of two records of one instant NaN, else the greater, comes last
    order = np.lexsort((values_R, times_R, steps_R))
    steps_R, values_R = steps_R[order], values_R[order]
    is_last = np.append(steps_R[1:] != steps_R[:-1], True)
    steps, values = steps_R[is_last], values_R[is_last]
    finite = np.isfinite(values) & (np.abs(values) < LARGEST)
    return Curve(steps[finite], values[finite], name), int((~finite).sum())
