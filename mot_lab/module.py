"""The one LightningModule, for every arm and setting: batch -> network -> losses -> log.

Several processes share each batch row by row, and a step may be made in several passes over parts
of it: losses are divided by the counts of the whole step, and what is logged is of the whole step,
on every process alike.

Shapes: M modalities.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from mot_lab.backbones.transformer_config import TransformerConfig
from mot_lab.backbones.wiring import parse_arm
from mot_lab.batch import MultimodalBatch
from mot_lab.data.interface import DataInterface
from mot_lab.distributed.ranks import ranks, summed_tensor
from mot_lab.distributed.sharding import shard
from mot_lab.expert_load import last_taken
from mot_lab.freezing import FreezeConfig, freeze
from mot_lab.gradient_norms import gradient_norms
from mot_lab.heads.diffusion import MOST_WEIGHT, DiffusionConfig
from mot_lab.limits import require_between
from mot_lab.losses import (
    Losses,
    loss_counts,
    multimodal_losses,
    sum_of,
    summed_by_modality,
    summed_counts,
    summing_counts,
)
from mot_lab.model import MultimodalModel
from mot_lab.optim import OptimizerConfig, make_optimizer, weights_of
from mot_lab.plain import plain


@dataclass
class ModelConfig:
    """Everything of the model but the arm, the same for every arm of a study
    but for what an arm overrides (`mot_lab.study_arm`).

    Attributes:
        backbone, diffusion, optimizer: the parts.
        z_loss: weight of Chameleon's z-loss on the logits (1e-5 there), 0 = none (Transfusion).
        compile: ``torch.compile`` the blocks of the backbone in place.
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
            self.net.transformer.compile_blocks()
        self.step_losses: dict[str, Tensor] = {}  # of the last step, as they are logged
        self.gradient_norm: Tensor | None = None  # of this step, before clipping, once it is known
        self._passes: list[Losses] = []  # of the step under way
        self._unrouted: list[Tensor] = []  # of its passes
        self._validated: list[Losses] = []

    def setup(self, stage: str) -> None:
        """From here on all processes are at work on one batch."""
        self.net.distributed = True

    def teardown(self, stage: str) -> None:
        """From here on this process may be alone."""
        self.net.distributed = False
        self.net.transformer.share_experts(None)

    def configure_model(self) -> None:
        """Shard the weights, where the Trainer's strategy has a mesh of processes to do so over."""
        if self.device_mesh is None:
            return
        self.on_fit_start()  # later a whole model no longer fits the shards
        shard(self.net, self.device_mesh["data_parallel"])

    def on_train_start(self) -> None:
        """Nothing is left of a fit that was broken off."""
        self._passes.clear()
        self._unrouted.clear()
        self.step_losses, self.gradient_norm = {}, None

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
        passes: int = self.trainer.accumulate_grad_batches
        losses = self.losses(batch)
        self._passes.append(losses.detached())
        if self._logs_now:
            self._unrouted.append(self.unrouted_counts(batch))
        # Lightning divides by the passes, and the gradients' mean over processes by their number.
        return losses.total * (passes * ranks())

    def on_after_backward(self) -> None:
        """Keep what the passes of all processes come to together, and log it when that is due: to
        be asked more often costs Lightning 3% of a small model's step.

        Processes have just waited for each other's gradients, and need not do so once more.
        """
        if len(self._passes) < self.trainer.accumulate_grad_batches:
            return
        sums, total = summed_by_modality(self._passes)
        counts = self._passes[-1].step_counts
        self.step_losses = {"train/total/loss": total} | {
            f"train/{modality}/loss": sums[modality] / count
            for modality, count in counts.items()
            if count
        }
        if self._logs_now:
            self._log_step(counts)
        self._passes.clear()
        self._unrouted.clear()

    def _log_step(self, counts: Mapping[str, int]) -> None:
        self.log_dict(self.step_losses)
        for modality, count in counts.items():
            if not count:
                self._forget(modality)
            elif modality != self.net.diffused:
                mean = self.step_losses[f"train/{modality}/loss"]
                self.log(f"train/{modality}/perplexity", mean.exp())
        self.log_dict(self._shares(summed_tensor(sum_of(self._unrouted))))

    def _forget(self, modality: str) -> None:
        """Without this Lightning would log the modality's last values again, in a step that has
        none of it: it keeps what was logged until an epoch ends.
        """
        results = self.trainer._results
        assert results is not None, "a step is being trained"
        for name in ("loss", "perplexity", "unrouted"):
            key = f"train/{name}/{modality}" if name == "unrouted" else f"train/{modality}/{name}"
            results.pop(f"on_after_backward.{key}", None)

    def losses(self, batch: MultimodalBatch) -> Losses:
        """The objective of a batch, under training routing; in training, of its step's share."""
        counts = loss_counts(self.net, batch)
        of_step = summing_counts(counts) if self.training and self.net.distributed else None
        mixed = torch.is_autocast_enabled(batch.token_BS.device.type)
        output = self.net(batch, logits=mixed or self.config.z_loss > 0)
        all_counts = of_step and of_step()
        return multimodal_losses(self.net, output, batch, self.config.z_loss, all_counts)

    def validation_step(self, batch: MultimodalBatch, batch_idx: int) -> None:
        self._validated.append(self.losses(batch))

    def on_validation_epoch_end(self) -> None:
        counts = {
            modality: sum(each.counts[modality] for each in self._validated)
            for modality in self._validated[0].counts
        }
        sums, _ = summed_by_modality(self._validated)
        for modality, count in summed_counts(counts).items():
            if count:
                mean = sums[modality] / count
                self.log(f"val/{modality}/loss", mean)
                if modality != self.net.diffused:
                    self.log(f"val/{modality}/perplexity", mean.exp())
        self._validated.clear()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if self._logs_now:
            self.log_dict(self.gradient_norms())

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Scale the gradients down to a norm; by the norm that `FiniteGuard` has just computed,
        where it is there: once more is half a percent of a small model's step.

        In bf16 Lightning itself would refuse, since a gradient scaler could not reach the gradients
        of a fused optimiser: but there is none.
        """
        norm, self.gradient_norm = self.gradient_norm, None
        if gradient_clip_val is None or gradient_clip_val <= 0:
            return
        precision = self.trainer.precision_plugin
        has_own_way = type(precision).clip_grad_by_norm is not Precision.clip_grad_by_norm
        is_scaled = getattr(precision, "scaler", None) is not None
        if has_own_way or is_scaled or gradient_clip_algorithm == "value":
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        weights = weights_of(optimizer)
        if norm is None:
            norm = get_total_norm([each.grad for each in weights if each.grad is not None])
        clip_grads_with_norm_(weights, gradient_clip_val, norm)

    @property
    def _logs_now(self) -> bool:
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return (self.trainer.global_step + 1) % every == 0

    def gradient_norms(self) -> dict[str, Tensor]:
        """``train/grad_norm/<tower>``: gradient norm of each tower's weights before clipping;
        embeddings and heads count as ``heads``.
        """
        norms = gradient_norms(self.net)
        return {f"train/grad_norm/{tower}": norm for tower, norm in norms.items()}

    def unrouted_shares(self, batch: MultimodalBatch) -> dict[str, Tensor]:
        """``train/unrouted/<modality>``: share of a modality's tokens that no expert of a layer
        chose in the last forward pass, mean over layers; empty without expert choice.
        """
        return self._shares(self.unrouted_counts(batch))

    def unrouted_counts(self, batch: MultimodalBatch) -> Tensor:
        """By modality the tokens that no expert of a layer chose in the last forward pass, and all
        tokens that one could, summed over layers [M, 2].
        """
        names = self.net.transformer.wiring.modalities
        counts_M2 = torch.zeros(len(names), 2, device=batch.token_BS.device)
        for each in last_taken(self.net, batch):
            counts_M2[names.index(each.modality), 0] += each.unrouted_M.sum()
            counts_M2[names.index(each.modality), 1] += len(each.unrouted_M)
        return counts_M2

    def _shares(self, counts_M2: Tensor) -> dict[str, Tensor]:
        names = self.net.transformer.wiring.modalities
        return {
            f"train/unrouted/{name}": counts_2[0] / counts_2[1]
            for name, counts_2 in zip(names, counts_M2, strict=True)
            if counts_2[1]
        }

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
