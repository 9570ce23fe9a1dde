"""The one LightningModule, for every arm and setting: batch -> network -> losses -> log."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import Optimizer

from mot_lab.backbones.towers import Towers
from mot_lab.backbones.transformer import TransformerConfig
from mot_lab.backbones.wiring import parse_arm
from mot_lab.batch import MultimodalBatch
from mot_lab.data.interface import DataInterface
from mot_lab.expert_load import last_taken
from mot_lab.freezing import FreezeConfig, freeze
from mot_lab.heads.diffusion import MOST_WEIGHT, DiffusionConfig
from mot_lab.limits import require_between
from mot_lab.losses import Losses, multimodal_losses
from mot_lab.model import MultimodalModel
from mot_lab.optim import OptimizerConfig, make_optimizer
from mot_lab.plain import plain


@dataclass
class ModelConfig:
    """Everything of the model but the arm, the same for every arm of a study
    but for what an arm overrides (`mot_lab.study_arm`).

    Attributes:
        backbone, diffusion, optimizer: the parts.
        z_loss: weight of Chameleon's z-loss on the logits (1e-5 there), 0 = none (Transfusion).
        compile: ``torch.compile`` the network in place.
        start_from: Dense model whose weights training begins with, copied into all towers and
            experts (`mot_lab.upcycling`): a checkpoint of mot-lab, a folder of ``mot-lab export``,
            or a folder or hub id of a Llama or Qwen of `transformers`; left out, random weights.
        freeze: weights that are not trained.
    """

    backbone: TransformerConfig = field(default_factory=TransformerConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    z_loss: float = 0.0
    compile: bool = False
    start_from: str | None = None
    freeze: FreezeConfig = field(default_factory=FreezeConfig)

    def __post_init__(self) -> None:
        require_between(self, 0, MOST_WEIGHT, "z_loss")
        if self.start_from == "":
            raise ValueError("start_from '' must be the path or hub id of a model, or left out")


class MultimodalModule(L.LightningModule):
    """Trains one arm.

    Args:
        config: of the model.
        data: what model and data agree on.
        arm: a name, a partition or an entry (`mot_lab.backbones.wiring.parse_arm`).
        seed: of the initial weights; towers of one arm, and arms of equal shape, start alike.
    """

    def __init__(
        self, config: ModelConfig, data: DataInterface, arm: Any = "mot", seed: int = 0
    ) -> None:
        super().__init__()
        self.config = config
        self.arm = parse_arm(arm, data.modalities)
        self.arm_spec = arm
        self.data_interface = data
        self.seed = seed
        self.started: dict[str, Any] | None = None  # `Started`, once training has begun
        config.freeze.require_towers(self.arm.wiring)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.net = MultimodalModel(config.backbone, self.arm.wiring, config.diffusion, data)
        freeze(self.net, config.freeze)
        if config.compile:
            self.net.compile()
        self.step_losses: dict[str, Tensor] = {}  # of the last batch, as they are logged
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = defaultdict(int)

    def on_fit_start(self) -> None:
        """Begin from the model that is configured, unless training goes on from a checkpoint."""
        if self.config.start_from is None or self.started is not None:
            return
        # What is read may be a checkpoint of this module.
        from mot_lab.upcycling.start import start_network

        texts = self.trainer.datamodule.prepared.texts  # type: ignore[attr-defined]
        started = start_network(
            self.net, self.data_interface, self.config.start_from, texts.ids(), self.seed
        )
        self.started = plain(started)

    def training_step(self, batch: MultimodalBatch, batch_idx: int) -> Tensor:
        if batch.step != batch_idx:
            raise RuntimeError(f"step {batch_idx} was given the batch of step {batch.step}")
        losses = self.losses(batch)
        present = [modality for modality, count in losses.counts.items() if count]
        self.step_losses = {"train/total/loss": losses.total.detach()} | {
            f"train/{modality}/loss": losses.mean(modality).detach() for modality in present
        }
        if self._logs_now:  # to be asked for more often costs Lightning 3% of a small model's step
            self._log_step(batch, present)
        return losses.total

    def _log_step(self, batch: MultimodalBatch, present: list[str]) -> None:
        self.log_dict(self.step_losses)
        for modality in self.data_interface.modalities:
            if modality not in present:
                self._forget(modality)
            elif modality != self.net.diffused:
                mean = self.step_losses[f"train/{modality}/loss"]
                self.log(f"train/{modality}/perplexity", mean.exp())
        self.log_dict(self.unrouted_shares(batch))

    def _forget(self, modality: str) -> None:
        """Without this Lightning would log the modality's last values again, in a step that has
        none of it: it keeps what was logged until an epoch ends.
        """
        results = self.trainer._results
        assert results is not None, "a step is being trained"
        for name in ("loss", "perplexity", "unrouted"):
            key = f"train/{name}/{modality}" if name == "unrouted" else f"train/{modality}/{name}"
            results.pop(f"training_step.{key}", None)

    def losses(self, batch: MultimodalBatch) -> Losses:
        """The objective of a batch, under training routing."""
        return multimodal_losses(self.net, self.net(batch), batch, self.config.z_loss)

    def validation_step(self, batch: MultimodalBatch, batch_idx: int) -> None:
        losses = self.losses(batch)
        for modality, count in losses.counts.items():
            total = losses.sums[modality]
            self._sums[modality] = self._sums.get(modality, torch.zeros_like(total)) + total
            self._counts[modality] += count

    def on_validation_epoch_end(self) -> None:
        for modality, total in self._sums.items():
            if self._counts[modality]:
                mean = total / self._counts[modality]
                self.log(f"val/{modality}/loss", mean)
                if modality != self.net.diffused:
                    self.log(f"val/{modality}/perplexity", mean.exp())
        self._sums.clear()
        self._counts.clear()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if self._logs_now:
            self.log_dict(self.gradient_norms())

    @property
    def _logs_now(self) -> bool:
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return (self.trainer.global_step + 1) % every == 0

    def gradient_norms(self) -> dict[str, Tensor]:
        """``train/grad_norm/<tower>``: gradient norm of each tower's weights before clipping;
        embeddings and heads count as ``heads``.
        """
        squares: dict[str, list[Tensor]] = defaultdict(list)
        towers = {
            id(parameter): tower
            for module in self.net.modules()
            if isinstance(module, Towers)
            for tower, part in module.tower.items()
            for parameter in part.parameters()
        }
        for parameter in self.net.parameters():
            if parameter.grad is not None:
                tower = towers.get(id(parameter), "heads")
                squares[tower].append(parameter.grad.detach().float().square().sum())
        return {
            f"train/grad_norm/{tower}": torch.stack(parts).sum().sqrt()
            for tower, parts in squares.items()
        }

    def unrouted_shares(self, batch: MultimodalBatch) -> dict[str, Tensor]:
        """``train/unrouted/<modality>``: share of a modality's tokens that no expert of a layer
        chose in the last forward pass, mean over layers; empty without expert choice.
        """
        shares: dict[str, list[Tensor]] = defaultdict(list)
        for each in last_taken(self.net, batch):
            shares[each.modality].append(each.unrouted_M.float().mean())
        return {f"train/unrouted/{name}": torch.stack(each).mean() for name, each in shares.items()}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        assert self.trainer.max_steps > 0, "a run's length is given in steps"
        optimizer, schedule = make_optimizer(
            self.net, self.config.optimizer, self.trainer.max_steps
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # A checkpoint says by itself what it is of: plain values, loadable with weights_only.
        checkpoint["model_settings"] = {"config": plain(self.config), "arm": plain(self.arm_spec)}
        if self.started is not None:
            checkpoint["started"] = self.started

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.started = checkpoint.get("started")
