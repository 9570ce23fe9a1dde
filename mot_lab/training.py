"""One run: an arm with a seed, trained to the end or on from where it was interrupted."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from mot_lab.config import StudyConfig
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.data.digests import data_digests
from mot_lab.distributed.launch import launch, launched_plugins, started_elsewhere
from mot_lab.distributed.strategies import make_strategy
from mot_lab.module import MultimodalModule
from mot_lab.plain import plain
from mot_lab.runtime.averaging import ExponentialMovingAverage
from mot_lab.runtime.checkpoint import AtomicCheckpointIO, StepCheckpoint
from mot_lab.runtime.files import write_json
from mot_lab.runtime.finite_guard import FiniteGuard
from mot_lab.runtime.random_state import RandomStateCheckpoint
from mot_lab.runtime.run_folder import RunFolder
from mot_lab.runtime.signals import stop_if_asked
from mot_lab.runtime.step_timer import StepTimer
from mot_lab.runtime.system_metrics import SystemMetrics
from mot_lab.runtime.tracking import RunLogger
from mot_lab.study_arm import StudyArm
from mot_lab.upcycling.start import start_digest
from mot_lab.utilisation import StepWork

CHECKPOINT = "checkpoint.ckpt"
# How a run is executed, not what it is.
EXECUTION = (
    *("num_workers", "recompute", "attention"),
    *("devices", "num_nodes", "strategy", "accumulate", "expert_group"),
)

# Lightning's advice and banners would come once per run, between the progress bars.
for _name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True)
class Run:
    """One arm with one seed of a study.

    Attributes:
        config: of the study.
        study_arm: the arm, its overrides settled.
        seed: of weights, order and noise.
        study_folder: where all runs of the study lie.
    """

    config: StudyConfig
    study_arm: StudyArm
    seed: int
    study_folder: Path

    @property
    def arm(self) -> str:
        """The arm's name."""
        return self.study_arm.name

    @property
    def name(self) -> str:
        """Name of the run's folder, and of the run in the tracker."""
        return f"{self.arm}-seed{self.seed}"

    @property
    def folder(self) -> RunFolder:
        """The run's folder."""
        return RunFolder(self.study_folder / self.name)

    @property
    def checkpoint(self) -> Path:
        """The one checkpoint of the run, replaced as training goes on."""
        return self.folder.path / CHECKPOINT

    def is_trained(self) -> bool:
        """Whether the run reached its last step."""
        folder = self.folder
        return self.record_exists() and folder.record().status == "finished"

    def record_exists(self) -> bool:
        """Whether the run was begun."""
        return self.folder.record_path.exists()

    def settings(self) -> dict[str, Any]:
        """What determines the run, as plain values; kept beside it as ``config.yaml``, together
        with the digests of the batches that it saw (`mot_lab.data.digests`), and of what it starts
        from. Batches are the same for every number of workers, gradients with and without
        recomputation, and but for rounding those of both attention kernels and of every number of
        processes and passes: these may be other ones when a run goes on. Where experts choose among
        a part of a step's tokens, it matters how many parts there are.
        """
        training = plain(self.study_arm.training)
        for same in EXECUTION:
            del training[same]
        groups = self.study_arm.training.expert_groups()
        start = self.study_arm.model.start_from
        return {
            **({"started_from": start_digest(start)} if start is not None else {}),
            "arm": plain(self.study_arm.spec),
            "seed": self.seed,
            "setting": self.config.setting,
            "data": plain(self.config.data),
            "model": plain(self.study_arm.model),
            "training": training,
            **({"expert_groups": groups} if groups > 1 and self.study_arm.wiring.experts else {}),
        }

    def module(self) -> MultimodalModule:
        """The arm with its initial weights."""
        data = self.config.data.interface()
        module = MultimodalModule(self.study_arm.model, data, self.study_arm.spec, self.seed)
        module.net.transformer.recompute = self.study_arm.training.recompute
        module.net.transformer.kernel = self.study_arm.training.attention
        module.net.transformer.expert_group = self.study_arm.training.expert_group
        return module

    def data_module(self) -> MultimodalDataModule:
        """The batches that the run is trained and validated on."""
        training = self.study_arm.training
        return MultimodalDataModule(
            self.config.data, self.seed, training.num_workers, training.accumulate
        )

    def trainer_settings(self) -> dict[str, Any]:
        """What the Trainer is told of the arm's training."""
        training = self.study_arm.training
        return {
            "max_steps": training.steps,
            "precision": precision(training.precision),
            "gradient_clip_val": training.gradient_clip,
            "val_check_interval": training.val_every * training.accumulate,
            "accumulate_grad_batches": training.accumulate,
            "log_every_n_steps": training.log_every,
        }


def runs_of(config: StudyConfig, study_folder: Path) -> list[Run]:
    """Every run of a study, seed by seed."""
    return [
        Run(config, arm, seed, study_folder) for seed in config.seeds for arm in config.parsed_arms
    ]


def train(run: Run, tracking_uri: str | None, work: StepWork | None = None) -> None:
    """Train a run to its last step; a run that was interrupted goes on from its checkpoint.

    Its progress is in the run's ``metrics.jsonl``.

    Args:
        run: to train.
        tracking_uri: of MLflow; None logs to the run's folder only.
        work: of a step, for the utilisation that is logged; None leaves that out.

    Raises:
        ValueError: the folder holds this run under other settings, or of other data.
        BadStepError: a loss or the gradient was not finite, or a spike.
        Stopped: the process was asked to end; the checkpoint is of the step just done.
    """
    stop_if_asked()  # a worker that was told to end may still be handed its next run
    config = run.study_arm.training
    together = config.processes > 1 or config.strategy == "fsdp2"
    here = not together or started_elsewhere()
    if config.num_nodes > 1 and not here:
        raise ValueError(
            f"training.num_nodes {config.num_nodes}: a run on several machines is started by "
            f"torchrun or srun, {config.devices} processes on each (docs/distributed.md)"
        )
    settings = {**run.settings(), "digests": data_digests(run.data_module(), config.steps)}
    if work is not None and torch.cuda.is_available():
        work = work.on(config.processes)
    if here:
        train_here(run, settings, tracking_uri, work)
        return
    if run.record_exists():
        run.folder.require_config(settings)
    launch(train_here, config.devices, run, settings, tracking_uri, work)


def train_here(
    run: Run, settings: dict[str, Any], tracking_uri: str | None, work: StepWork | None
) -> None:
    """`train`, in a process of the run.

    Args:
        run, tracking_uri, work: as there.
        settings: of the run, with the digests of its data.
    """
    config = run.study_arm.training
    data = run.data_module()
    L.seed_everything(run.seed, verbose=False)
    logger = RunLogger(
        run.folder.path, run.config.name, run.arm, run.seed, settings, tracking_uri=tracking_uri
    )
    saving = StepCheckpoint(run.checkpoint, config.checkpoint_every)
    callbacks: list[Callback] = [
        StartFile(run.folder.start_path),
        StepTimer(work=work),
        SystemMetrics(),
        ExponentialMovingAverage(config.average_decay),
        RandomStateCheckpoint(),
        FiniteGuard(f"{run.arm} seed {run.seed}", config.bad_steps, config.spike_sigmas),
        saving,
    ]
    trainer = L.Trainer(
        **run.trainer_settings(),
        accelerator="auto",
        devices=config.devices,
        num_nodes=config.num_nodes,
        strategy=make_strategy(config),
        use_distributed_sampler=False,  # the sampler knows its process
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=logger,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(), *launched_plugins()],
        enable_model_summary=False,
        enable_progress_bar=False,
        default_root_dir=run.folder.path,
    )
    if not run.checkpoint.exists():
        trainer.fit(run.module(), data)
        return
    with saving.taken_up():
        trainer.fit(run.module(), data, ckpt_path=run.checkpoint, weights_only=True)


class StartFile(Callback):
    """Writes what a run began from (`mot_lab.upcycling.start.Started`), if from a model."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, MultimodalModule)
        if pl_module.started is not None and trainer.is_global_zero:
            write_json(self.path, pl_module.started)


def precision(wish: str) -> Any:
    """``auto`` is bf16 mixed on a GPU and fp32 elsewhere."""
    if wish != "auto":
        return wish
    return "bf16-mixed" if torch.cuda.is_available() else "32-true"
