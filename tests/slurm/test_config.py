"""What a study may ask a cluster for."""

from typing import Any

import pytest

from mot_lab.parsing import from_dict
from mot_lab.slurm.config import SlurmConfig


@pytest.mark.parametrize("hours, minutes", [(24, 1440), (0.05, 3), (1.001, 61)])
def test_hours_are_whole_minutes_rounded_up(hours: float, minutes: int) -> None:
    assert SlurmConfig(hours=hours).minutes == minutes


@pytest.mark.parametrize(
    "values, said",
    [
        ({"partition": "gpu\n#SBATCH --uid=0"}, "slurm.partition 'gpu"),
        ({"account": ""}, "slurm.account '' must be one word"),
        ({"qos": "a b"}, "slurm.qos 'a b' must be one word"),
        ({"gpus_per_task": -1}, "slurm.gpus_per_task -1 must be at least 0"),
        ({"cpus_per_task": 0}, "slurm.cpus_per_task 0 must be at least 1"),
        ({"mem_gb": 0}, "slurm.mem_gb 0.0 must be above 0"),
        ({"hours": 0}, "slurm.hours 0.0 must be above 0"),
        ({"hours": "1-00:00:00"}, "slurm.hours: '1-00:00:00' must be float"),
        ({"hours": 0.1, "grace_seconds": 600}, "slurm.hours 0.1 must be more than the grace"),
        ({"setup": ["module load a\nexit"]}, "slurm.setup 'module load a"),
        ({"nodes": 2}, "unknown key slurm.nodes: 2; there are partition, account"),
    ],
    ids=str,
)
def test_what_is_wrong_is_one_line_that_names_the_key(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        from_dict(SlurmConfig, values, "slurm")
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)
