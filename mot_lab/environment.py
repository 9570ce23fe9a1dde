"""What figures depend on besides the configuration: versions, hardware, the commit."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch

from mot_lab.training import precision

LIBRARIES = ("torch", "lightning", "mlflow", "diffusers", "open_clip_torch", "torchmetrics")


def environment(wish: str) -> dict[str, Any]:
    """Versions and hardware, as far as figures depend on them."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        "platform": platform.system(),
        "cpu": _cpu_name(),
        "cores": psutil.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": gpu,
        "precision": str(precision(wish)),
        "mot_lab": version("mot-lab"),
        "commit": _commit(),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
