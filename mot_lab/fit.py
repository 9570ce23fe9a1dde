"""``mot-lab fit``: one run by LightningCLI, for whoever wants the Trainer's every switch."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.module import MultimodalModule
from mot_lab.runtime.averaging import ExponentialMovingAverage
from mot_lab.runtime.checkpoint import AtomicCheckpointIO, StepCheckpoint
from mot_lab.runtime.finite_guard import BadSteps, FiniteGuard
from mot_lab.runtime.progress import StudyProgress
from mot_lab.runtime.random_state import RandomStateCheckpoint


class FitCLI(LightningCLI):
    """``--model.config``, ``--model.arm``, ``--data.config`` and every option of the Trainer."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--checkpoint", default="runs/fit/checkpoint.ckpt", help="file to write"
        )
        parser.add_argument("--checkpoint_every", type=int, default=200, help="steps between two")
        parser.add_argument(
            "--average_decay", type=float, default=0.999, help="of averaged weights"
        )
        parser.add_argument(
            "--bad_steps", type=BadSteps, default="stop", help="not finite, or spikes"
        )
        parser.add_argument(
            "--spike_sigmas", type=float, default=0.0, help="over the mean; 0: none is a spike"
        )
        parser.link_arguments(
            "data", "model.data", compute_fn=lambda data: data.interface, apply_on="instantiate"
        )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config["fit"]
        extra = [
            StudyProgress("fit"),
            ExponentialMovingAverage(config["average_decay"]),
            RandomStateCheckpoint(),
            FiniteGuard("fit", config["bad_steps"], config["spike_sigmas"]),
            StepCheckpoint(config["checkpoint"], config["checkpoint_every"]),
        ]
        kwargs["callbacks"] = [*(config["trainer"].get("callbacks") or []), *extra]
        return super().instantiate_trainer(**kwargs)


def fit(arguments: Sequence[str]) -> None:
    """Parse and train.

    Raises:
        SystemExit: 2 with a line on what is wrong.
    """
    FitCLI(
        MultimodalModule,
        MultimodalDataModule,
        save_config_callback=None,  # fails with loggers that have no folder (Lightning 2.6)
        trainer_defaults={
            "max_steps": 1000,
            "check_val_every_n_epoch": None,
            "val_check_interval": 50,
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,  # the sampler knows its process
            "gradient_clip_val": 1.0,
            "plugins": [AtomicCheckpointIO()],
            "enable_model_summary": False,
        },
        args=["fit", *arguments],
        seed_everything_default=0,
    )
