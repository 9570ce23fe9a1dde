"""The folder of one run: what is true about it on this disk, whether or not any tracker is up.

run.json         who it is (study, arm, seed), its status, where it was resumed
config.yaml      its configuration
metrics.jsonl    its curves
start.json       the model that it began from, if it did
artifacts/       files for the tracking store, at the same relative paths
tracking.json    per tracking URI, what has been sent there
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mot_lab.runtime.files import atomic_file, write_json
from mot_lab.runtime.plain_files import parse_json, read_yaml

SOMETIMES = ("expert_groups",)


@dataclass
class RunRecord:
    """``run.json``.

    ``status`` is running, finished, interrupted or failed; ``resumed_at`` lists steps.
    """

    study: str
    arm: str
    seed: int
    status: str = "running"
    resumed_at: list[int] = field(default_factory=list)
    tracking_errors: int = 0

    @property
    def name(self) -> str:
        return f"{self.arm}-seed{self.seed}"


class RunFolder:
    """Paths of a run's folder and access to its record and configuration."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.record_path = self.path / "run.json"
        self.config_path = self.path / "config.yaml"
        self.metrics_path = self.path / "metrics.jsonl"
        self.start_path = self.path / "start.json"
        self.artifacts_path = self.path / "artifacts"
        self.tracking_path = self.path / "tracking.json"

    def record(self) -> RunRecord:
        """Raises ValueError where the folder holds no run."""
        try:
            return RunRecord(**parse_json(self.record_path.read_text(), self.record_path.name))
        except FileNotFoundError:
            raise ValueError(
                f"{self.path} holds no run: there is no {self.record_path.name}"
            ) from None
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self.record_path} is not a run's record: {error}") from error

    def save_record(self, record: RunRecord) -> None:
        write_json(self.record_path, dataclasses.asdict(record))

    def begin(self, record: RunRecord, config: dict[str, Any]) -> RunRecord:
        """Set up the folder of a run that starts or goes on; returns the record now in force.

        Raises:
            ValueError: the folder holds another run, or this one under another configuration.
        """
        if self.record_path.exists():
            earlier = self.record()
            if (earlier.study, earlier.arm, earlier.seed) != (
                record.study,
                record.arm,
                record.seed,
            ):
                raise ValueError(
                    f"{self.path} holds run {earlier.name} of {earlier.study}, not {record.name}"
                )
            record = dataclasses.replace(earlier, status="running")
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        if not self.config_path.exists():
            with atomic_file(self.config_path) as file:
                file.write(text.encode())
        else:
            self.require_config(config)
        self.save_record(record)
        return record

    def require_config(self, config: dict[str, Any]) -> None:
        """Raises ValueError where the folder's configuration differs in a key of ``config``, or in
        one that only some runs have.
        """
        wanted = yaml.safe_load(yaml.safe_dump(config))
        compared = {*wanted, *SOMETIMES}
        kept = {key: value for key, value in self.config().items() if key in compared}
        if kept != wanted:
            changed = _first_difference(flatten(kept), flatten(wanted))
            raise ValueError(
                f"{self.path} holds this run under another configuration ({changed}): "
                "choose another study name, or remove the folder to start afresh"
            )

    def config(self) -> dict[str, Any]:
        return read_yaml(self.config_path)


def flatten(config: Any, prefix: str = "") -> dict[str, str]:
    """``{"a": {"b": 1}, "c": [2]}`` -> ``{"a.b": "1", "c": "[2]"}``: nested keys joined by dots."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def _first_difference(old: dict[str, str], new: dict[str, str]) -> str:
    key = next(key for key in [*old, *new] if old.get(key) != new.get(key))
    return f"{key} was {old.get(key, 'absent')}, is {new.get(key, 'absent')}"
