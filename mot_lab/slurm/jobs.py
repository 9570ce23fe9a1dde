"""Which SLURM job is at work on which run of a study, kept in the study's folder."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from submitit.core.utils import JobPaths

from mot_lab.parsing import from_dict, under
from mot_lab.runtime.files import write_json
from mot_lab.runtime.plain_files import read_json

FOLDER = "slurm"  # of a study: scripts, logs, and what jobs are to do


@dataclass
class Jobs:
    """The jobs that a study has submitted last.

    Attributes:
        runs: ids by run, tasks of arrays as ``array_task``.
        gathering: id of the job that makes the report.
    """

    runs: dict[str, str] = field(default_factory=dict)
    gathering: str | None = None

    def ids(self) -> list[str]:
        """What scancel takes: an array by one id."""
        jobs = [*self.runs.values(), *([self.gathering] if self.gathering else [])]
        return list(dict.fromkeys(job.partition("_")[0] for job in jobs))


def read_jobs(study: Path) -> Jobs:
    """Those of a study's folder; none where it has submitted none."""
    path = _record(study)
    if not path.exists():
        return Jobs()
    with under(str(path)):
        return from_dict(Jobs, read_json(path))


def save_jobs(study: Path, jobs: Jobs) -> None:
    """Keep them for the next call."""
    write_json(_record(study), asdict(jobs))


def log_path(study: Path, job: str) -> Path:
    """The file that holds all that a job says; a requeued one goes on in it."""
    return JobPaths(study / FOLDER, job_id=job).stdout


def _record(study: Path) -> Path:
    return study / FOLDER / "jobs.json"
