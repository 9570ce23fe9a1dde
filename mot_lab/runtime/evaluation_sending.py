"""Sends what was found out about a run after its training: figures, and tables with pictures.

Every call can be repeated: a figure that the tracker has is not logged again, and files replace
themselves, because their names depend on nothing but the run.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric

from mot_lab.runtime.plain_files import read_json
from mot_lab.runtime.run_tables import evaluation_metrics, evaluation_tables


def log_figures(client: MlflowClient, run_id: str, values: Mapping[str, float]) -> None:
    """Log the values that the tracker does not have as a metric's latest.

    At step 0: of what is measured once the UI then draws bars, one per run, not lines of a point.
    """
    known = client.get_run(run_id).data.metrics
    now = round(time.time() * 1000)
    new = [Metric(name, value, now, 0) for name, value in values.items()]
    if new := [metric for metric in new if known.get(metric.key) != metric.value]:
        client.log_batch(run_id, metrics=new)


def send_evaluation(client: MlflowClient, run_id: str, artifacts: Path) -> None:
    """Send ``evaluation.json`` of the folder ``artifacts`` as metrics and tables.

    The file itself and the pictures that the tables show are sent with all other artifacts. (They
    are not logged as MLflow's images with steps: the UI draws those on the compare page, small and
    under a list of all the run's parameters.)
    """
    evaluation = read_json(artifacts / "evaluation.json")
    log_figures(client, run_id, evaluation_metrics(evaluation))
    tables = []
    for name, table in evaluation_tables(evaluation).items():
        tables.append({"path": f"tables/{name}.json", "type": "table"})
        client.log_text(run_id, json.dumps(table), f"tables/{name}.json")
    client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps(tables))
