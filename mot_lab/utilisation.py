"""Model-FLOP utilisation: the FLOPs that a step needs over what the hardware could have done.

The peak of a GPU is a table's: the vendor's dense figure for the precision, never the figure with
sparsity, which is twice that and which no training step can use. (Lightning has such a table,
`lightning.fabric.utilities.throughput`; in 2.6 its figures for H100 NVL and H200 are those with
sparsity, and it does not know an H200 by the name that the driver gives.) For a CPU there is no
table worth the name, so its peak is what one large matrix product reaches on as many threads; that
is measured, and said.
"""

from dataclasses import dataclass, replace

import torch

from mot_lab.clock import now

TFLOPS = 1e12
# Device names (all parts must occur, first match counts) and dense TFLOP/s in bf16, TF32 and fp32.
# NVIDIA's data sheets print tensor-core figures with sparsity, except for A100 and L4: halved here.
DENSE_TFLOPS: tuple[tuple[tuple[str, ...], tuple[float, float, float]], ...] = (
    # nvidia.com/en-us/data-center/h200
    (("h200", "nvl"), (835.5, 417.5, 60.0)),
    (("h200",), (989.0, 494.5, 67.0)),
    # nvidia.com/en-us/data-center/h100
    (("h100", "nvl"), (835.5, 417.5, 60.0)),
    (("h100", "pcie"), (756.0, 378.0, 51.0)),
    (("h100",), (989.0, 494.5, 67.0)),
    # nvidia.com/en-us/data-center/a100, SXM and PCIe alike
    (("a100",), (312.0, 156.0, 19.5)),
    # nvidia.com/en-us/data-center/l40s and /l4
    (("l40s",), (362.0, 183.0, 91.6)),
    (("nvidia l4",), (121.0, 60.0, 30.3)),
)
SIDE = {"cpu": 1024, "cuda": 8192}  # of the matrices that a measured peak multiplies
MEASURED_SECONDS = 0.3
LEAST_PRODUCTS = 3


@dataclass(frozen=True)
class Peak:
    """What the hardware can do.

    Attributes:
        flops_per_second: a multiply and an add are two.
        source: where the figure is from.
    """

    flops_per_second: float
    source: str


@dataclass(frozen=True)
class StepWork:
    """What a training step needs, and what it runs on.

    Attributes:
        flops: of one step, attention counted as masked (`mot_lab.flops`).
        peak: of the hardware, in the precision of the training.
    """

    flops: float
    peak: Peak

    def on(self, processes: int) -> "StepWork":
        """The same work on so many times the hardware."""
        peak = replace(self.peak, flops_per_second=processes * self.peak.flops_per_second)
        return replace(self, peak=peak)

    def utilisation(self, seconds: float) -> float:
        """Model-FLOP utilisation of a step of that length, 1 is all of the peak."""
        return self.flops / seconds / self.peak.flops_per_second


def hardware_peak(precision: str) -> Peak:
    """The peak of what `mot_lab.training` trains on: the GPU where there is one, else the CPU.

    Args:
        precision: ``32-true`` or ``bf16-mixed``, as the Trainer is told.
    """
    mixed = precision != "32-true"
    if not torch.cuda.is_available():
        return measured_peak(torch.device("cpu"), torch.bfloat16 if mixed else torch.float32)
    name = torch.cuda.get_device_name()
    tf32 = torch.get_float32_matmul_precision() != "highest"
    kind = "bf16" if mixed else "tf32" if tf32 else "fp32"
    if (listed := listed_peak(name, kind)) is not None:
        return listed
    return measured_peak(torch.device("cuda"), torch.bfloat16 if mixed else torch.float32)


def listed_peak(name: str, kind: str) -> Peak | None:
    """The table's dense peak of a device; None where it is not in the table.

    Args:
        name: of the device, as its driver gives it.
        kind: ``bf16``, ``tf32`` or ``fp32``.
    """
    place = ("bf16", "tf32", "fp32").index(kind)
    for parts, figures in DENSE_TFLOPS:
        if all(part in name.lower() for part in parts):
            said = f"data sheet of {name}: {figures[place]:g} TFLOP/s dense {kind}"
            return Peak(figures[place] * TFLOPS, said)
    return None


def measured_peak(device: torch.device, dtype: torch.dtype) -> Peak:
    """FLOPs per second of the fastest of some large matrix products on this process's threads."""
    side = SIDE[device.type]
    one_DD = torch.randn(side, side, device=device).to(dtype)
    seconds: list[float] = []
    torch.mm(one_DD, one_DD)
    while len(seconds) < LEAST_PRODUCTS or sum(seconds) < MEASURED_SECONDS:
        began = now(device)
        torch.mm(one_DD, one_DD)
        seconds.append(now(device) - began)
    rate = 2 * side**3 / min(seconds)
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    else:
        threads = torch.get_num_threads()
        where = f"the CPU with {threads} thread{'s' if threads > 1 else ''}"
    kind = "bf16" if dtype == torch.bfloat16 else "fp32"
    said = f"measured: the fastest {side} x {side} {kind} matrix product on {where}"
    return Peak(rate, f"{said}, {rate / 1e9:.4g} GFLOP/s")
