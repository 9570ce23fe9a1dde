"""The most memory that this process has held since some moment.

On a GPU that is what tensors took (``torch.cuda.max_memory_allocated``). On the CPU it is the
process's resident memory, interpreter and libraries included: nothing counts tensors there.
"""

import resource
import sys
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # man 5 proc: /proc/pid/clear_refs


def reset_peak(device: torch.device) -> None:
    """Count from now. Where the system cannot (only Linux can), the CPU's peak is that of the
    process from its start.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        CLEAR.write_text(RESET_PEAK)
    except OSError:
        return


def peak_bytes(device: torch.device) -> int:
    """The most bytes held since `reset_peak`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    units = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * units
