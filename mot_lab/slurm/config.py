"""What every job of a study asks a SLURM cluster for."""

from dataclasses import dataclass, field
from math import ceil

from mot_lab.limits import require_between, require_positive
from mot_lab.parsing import shown

MOST_PROCESSORS = 1024
MOST_MEMORY = 65_536  # GB
MOST_HOURS = 24 * 365
MOST_GRACE = 65_535  # seconds, sbatch's own limit
WORDS = ("partition", "account", "qos", "constraint")


@dataclass
class SlurmConfig:
    """The ``slurm`` of a study, read by ``mot-lab study --launcher slurm`` alone; no result depends
    on it. One job trains, fits and evaluates one run.

    Attributes:
        partition, account, qos, constraint: sbatch's options of these names; by default the
            cluster's own.
        gpus_per_task: GPUs of a job; 0 where the cluster has none. A run uses one.
        cpus_per_task: cores of a job, for the run and the processes that pack its batches.
        mem_gb: memory of a job, GB; by default the partition's.
        hours: time limit of a job, by default a day. A job that comes to it saves, goes back into
            the queue, and goes on: the limit bounds a turn, not a run. (In hours, because YAML
            reads sbatch's 12:00:00 as a number of seconds.)
        grace_seconds: how long before the limit a job is told to save (SIGTERM); it must be enough
            for one step and one checkpoint. SLURM may send it up to a minute sooner.
        setup: lines of shell to run in a job before Python, like ``module load cuda``.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpus_per_task: int = 1
    cpus_per_task: int = 2
    mem_gb: float | None = None
    hours: float = 24.0
    grace_seconds: int = 120
    setup: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in WORDS:
            value = getattr(self, name)
            if value is not None and (not value or not value.isprintable() or " " in value):
                raise ValueError(f"{name} {shown(value)} must be one word, as sbatch takes it")
        require_between(self, 0, MOST_PROCESSORS, "gpus_per_task")
        require_between(self, 1, MOST_PROCESSORS, "cpus_per_task")
        require_between(self, 1, MOST_GRACE, "grace_seconds")
        require_positive(self, MOST_HOURS, "hours")
        if self.mem_gb is not None:
            require_positive(self, MOST_MEMORY, "mem_gb")
        if self.minutes * 60 <= self.grace_seconds:
            raise ValueError(
                f"hours {self.hours} must be more than the grace_seconds {self.grace_seconds}, at "
                "whose begin a job is told to save"
            )
        for line in self.setup:
            if not line.isprintable():
                raise ValueError(f"setup {shown(line)} must be lines of shell, one entry each")

    @property
    def minutes(self) -> int:
        """The time limit, rounded up: SLURM counts whole minutes."""
        return ceil(self.hours * 60)
