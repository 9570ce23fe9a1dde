"""Sends a run's folder to MLflow, each number exactly once, however often it fails in between.

What was sent is remembered in the folder, per tracking URI and metric: the last step. Before a
batch goes out its metrics are noted as pending; if the answer never comes (a timeout, a kill), the
tracker is asked what it has of them before anything more is sent. After a resume the metrics
between the checkpoint and the interruption are computed again, equal bit for bit, and skipped.
Names that MLflow does not take are changed (``mlflow_names``).
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from mot_lab.runtime.evaluation_sending import log_figures, send_evaluation
from mot_lab.runtime.metrics_file import RESERVED, read_lines
from mot_lab.runtime.mlflow_names import allowed
from mot_lab.runtime.mlflow_store import connect, create_child_run, run_exists
from mot_lab.runtime.run_folder import RunFolder, flatten
from mot_lab.runtime.sent import Sent, load_sent, save_sent

METRICS_PER_CALL = 1000  # MLflow's limits
PARAMS_PER_CALL = 100
VALUE_LENGTH = 6000
TERMINATED = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class RunSender:
    """Brings one tracker up to date with one run's folder. Use as a context: it locks the folder.

    ``costs`` are figures of the run's arm, known only when the whole study is (``send_study``).

    Raises:
        ValueError: another sender is at work on this folder.
    """

    def __init__(
        self, folder: RunFolder, tracking_uri: str, costs: Mapping[str, float] | None = None
    ) -> None:
        self.folder = folder
        self.tracking_uri = tracking_uri
        self.costs = costs or {}
        self._lock = filelock.FileLock(folder.path / ".tracking.lock", timeout=0)
        # of two runs that begin at once, one makes the study's experiment and parent run
        self._study_lock = filelock.FileLock(folder.path.parent / ".tracking.lock")
        self._client: MlflowClient | None = None
        self._sent = Sent()
        self._offset = 0

    def __enter__(self) -> "RunSender":
        try:
            self._lock.acquire()
        except filelock.Timeout:
            raise ValueError(
                f"{self.folder.path} is being sent by another process; wait for it"
            ) from None
        return self

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def read_again(self) -> None:
        """Start over at the top of the metrics file, because it was rewound."""
        self._offset = 0

    def send(self) -> int:
        """Send what the folder holds and the tracker lacks; the number of metric values sent."""
        client = self._connected()
        self._settle_pending(client)
        count = self._send_metrics(client)
        self._send_config(client)
        self._send_artifacts(client)
        self._send_evaluation(client)
        if self.costs:
            log_figures(client, self._sent.run_id, self.costs)
        self._send_status(client)
        return count

    def _connected(self) -> MlflowClient:
        if self._client is None:
            with self._study_lock:
                client = connect(self.tracking_uri)
                self._sent = load_sent(self.folder, self.tracking_uri)
                if not self._sent.run_id or not run_exists(client, self._sent.run_id):
                    self._sent = Sent(
                        run_id=create_child_run(client, self.tracking_uri, self.folder.record())
                    )
                    self._save()
            self._client = client
        return self._client

    def _settle_pending(self, client: MlflowClient) -> None:
        for name in self._sent.pending:
            history = client.get_metric_history(self._sent.run_id, name)
            self._sent.steps[name] = max(
                (m.step for m in history), default=self._sent.steps.get(name, -1)
            )
        if self._sent.pending:
            self._sent.pending = []
            self.read_again()
            self._save()

    def _send_metrics(self, client: MlflowClient) -> int:
        if not self.folder.metrics_path.exists():
            return 0
        lines, offset = read_lines(self.folder.metrics_path, self._offset)
        new = [
            m
            for line in lines
            for m in _metrics_of(line)
            if m.step > self._sent.steps.get(m.key, -1)
        ]
        for first in range(0, len(new), METRICS_PER_CALL):
            batch = new[first : first + METRICS_PER_CALL]
            self._sent.pending = sorted({metric.key for metric in batch})
            self._save()
            client.log_batch(self._sent.run_id, metrics=batch)
            self._sent.pending = []
            self._sent.steps |= {metric.key: metric.step for metric in batch}
            self._save()
        self._offset = offset
        return len(new)

    def _send_config(self, client: MlflowClient) -> None:
        if self._sent.params or not self.folder.config_path.exists():
            return
        record = self.folder.record()  # the arm's entry in the configuration may be a mapping
        flat = flatten(self.folder.config()) | {"arm": record.arm, "seed": str(record.seed)}
        flat = {allowed(name): value for name, value in flat.items()}
        cut = sorted(name for name, value in flat.items() if len(value) > VALUE_LENGTH)
        params = [Param(name, value[:VALUE_LENGTH]) for name, value in flat.items()]
        for first in range(0, len(params), PARAMS_PER_CALL):
            client.log_batch(self._sent.run_id, params=params[first : first + PARAMS_PER_CALL])
        if cut:
            client.set_tag(self._sent.run_id, "mot_lab.params_cut", ", ".join(cut))
        client.log_artifact(self._sent.run_id, str(self.folder.config_path))
        self._sent.params = True
        self._save()

    def _send_artifacts(self, client: MlflowClient) -> None:
        root = self.folder.artifacts_path
        for path in sorted(
            p for p in root.rglob("*") if p.is_file() and not p.name.startswith(".")
        ):
            name = path.relative_to(root).as_posix()
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if self._sent.files.get(name) != digest:
                parent = path.relative_to(root).parent.as_posix()
                client.log_artifact(self._sent.run_id, str(path), None if parent == "." else parent)
                self._sent.files[name] = digest
                self._save()

    def _send_evaluation(self, client: MlflowClient) -> None:
        """Whatever :meth:`_send_artifacts` has sent of ``evaluation.json``, to be looked at."""
        digest = self._sent.files.get("evaluation.json", "")
        if digest != self._sent.evaluation:
            send_evaluation(client, self._sent.run_id, self.folder.artifacts_path)
            self._sent.evaluation = digest
            self._save()

    def _send_status(self, client: MlflowClient) -> None:
        record = self.folder.record()
        status = f"{record.status} {record.resumed_at}"
        if status == self._sent.status:
            return
        tags = {"mot_lab.status": record.status}
        if record.resumed_at:
            tags["mot_lab.resumed_at"] = ", ".join(map(str, record.resumed_at))
        if record.tracking_errors:
            tags["mot_lab.tracking_errors"] = str(record.tracking_errors)
        client.log_batch(
            self._sent.run_id, tags=[RunTag(name, value) for name, value in tags.items()]
        )
        if record.status in TERMINATED:
            client.set_terminated(self._sent.run_id, TERMINATED[record.status])
        else:
            client.update_run(self._sent.run_id, status="RUNNING")
        self._sent.status = status
        self._save()

    def _save(self) -> None:
        save_sent(self.folder, self.tracking_uri, self._sent)


def sync_run(
    run_dir: str | Path, tracking_uri: str, costs: Mapping[str, float] | None = None
) -> int:
    """Send what a tracker lacks of a run; the number of metric values sent (0 when it had all).

    Raises:
        ValueError: the folder holds no run, or is being sent by another process.
        Exception: whatever MLflow raises when the tracker does not answer.
    """
    folder = RunFolder(run_dir)
    folder.record()
    with RunSender(folder, tracking_uri, costs) as sender:
        return sender.send()


def _metrics_of(line: dict[str, Any]) -> Iterator[Metric]:
    """MLflow's metrics of one line; it holds no infinity: a value not finite becomes a count."""
    timestamp = round(line["time"] * 1000)
    for name, value in line.items():
        if name in RESERVED:
            continue
        if isinstance(value, str):
            name, value = f"nonfinite/{name}", 1.0
        yield Metric(allowed(name), value, timestamp, line["step"])
