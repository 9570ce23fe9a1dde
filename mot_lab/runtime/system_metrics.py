"""The machine's load beside the losses, under the names that MLflow's own monitor uses, so that the
UI shows them on its System metrics tab.

MLflow's monitor is not used: it asks the tracker before every sample, ends at its first silence,
and counts samples where everything else of a run counts optimiser steps.
"""

from typing import Any

import psutil
import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class SystemMetrics(Callback):
    """Logs ``system/*`` at the steps at which the losses are logged."""

    def __init__(self) -> None:
        self._received, self._sent = 0, 0
        self._steps_done = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        network = psutil.net_io_counters()
        self._received, self._sent = network.bytes_recv, network.bytes_sent
        self._steps_done = trainer.global_step
        psutil.cpu_percent()  # its first call only sets the mark that the next one counts from

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step == self._steps_done:  # still accumulating gradients
            return
        self._steps_done = step
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if step % every == 0 and trainer.logger is not None:
            values = {f"system/{name}": value for name, value in self.sample().items()}
            # Lightning's loggers count batches from 0
            trainer.logger.log_metrics(values, step=step - 1)

    def sample(self) -> dict[str, float]:
        """The load now; processor and network since the last sample and the start of training."""
        memory, disk = psutil.virtual_memory(), psutil.disk_usage("/")
        network = psutil.net_io_counters()
        values = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / 1e6,
            "system_memory_usage_percentage": 100 * memory.used / memory.total,
            "disk_usage_percentage": disk.percent,
            "disk_usage_megabytes": disk.used / 1e6,
            "disk_available_megabytes": disk.free / 1e6,
            "network_receive_megabytes": (network.bytes_recv - self._received) / 1e6,
            "network_transmit_megabytes": (network.bytes_sent - self._sent) / 1e6,
        }
        for device in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(device)
            values[f"gpu_{device}_memory_usage_megabytes"] = (total - free) / 1e6
            values[f"gpu_{device}_memory_usage_percentage"] = 100 * (total - free) / total
        return {name: round(value, 1) for name, value in values.items()}
