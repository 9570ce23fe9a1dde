"""The LightningModule: what it logs is what it says."""

import math
from dataclasses import replace
from itertools import islice

import lightning as L
import pytest
import torch
from factories import INTERFACE, random_batch, random_batches, tiny_backbone
from lightning.pytorch.loggers import Logger
from torch.utils.data import DataLoader

from mot_lab.batch import MultimodalBatch
from mot_lab.heads.diffusion import DiffusionConfig
from mot_lab.module import ModelConfig, MultimodalModule
from mot_lab.optim import OptimizerConfig
from mot_lab.runtime.finite_guard import FiniteGuard


class _Kept(Logger):
    name, version = "kept", 0

    def __init__(self) -> None:
        super().__init__()
        self.values: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        self.values.append((step, dict(metrics)))

    def log_hyperparams(self, *args: object, **kwargs: object) -> None:
        pass


def module(arm: str = "mot", **changes: object) -> MultimodalModule:
    optimizer = OptimizerConfig(lr=1e-3, final_lr=1e-4, warmup_steps=0)
    config = ModelConfig(
        backbone=tiny_backbone(), diffusion=DiffusionConfig(), optimizer=optimizer, **changes
    )
    return MultimodalModule(config, INTERFACE, arm, seed=3)


def batches(number: int) -> list[MultimodalBatch]:
    return list(islice(random_batches(), number))


def fitted(
    subject: MultimodalModule,
    train: list[MultimodalBatch],
    val: list[MultimodalBatch],
    **settings: object,
) -> _Kept:
    logger = _Kept()
    trainer = L.Trainer(
        **settings,
        max_steps=len(train),
        accelerator="cpu",
        logger=logger,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        val_check_interval=len(train),
        check_val_every_n_epoch=None,
    )
    trainer.fit(subject, DataLoader(train, batch_size=None), DataLoader(val, batch_size=None))
    return logger


def test_validation_losses_are_means_over_tokens_and_images_not_over_batches() -> None:
    subject, val = module(), batches(4)
    assert len({batch.target_L.numel() for batch in val}) > 1  # else it would prove nothing
    logger = fitted(subject, batches(1), val)
    logged = {name: v for _, each in logger.values for name, v in each.items()}
    with torch.no_grad():
        losses = [subject.losses(batch) for batch in val]
    text, image = (
        sum(each.sums[name].item() for each in losses) / sum(each.counts[name] for each in losses)
        for name in ("text", "image")
    )
    assert logged["val/text/loss"] == pytest.approx(text, rel=1e-6)
    assert logged["val/image/loss"] == pytest.approx(image, rel=1e-6)
    assert logged["val/text/perplexity"] == pytest.approx(math.exp(text), rel=1e-6)


def test_training_perplexity_is_that_of_the_training_loss() -> None:
    logger = fitted(module(), batches(3), batches(1))
    logged = [each for _, each in logger.values if "train/text/loss" in each]
    assert len(logged) == 3
    for each in logged:
        perplexity = math.exp(each["train/text/loss"])
        assert each["train/text/perplexity"] == pytest.approx(perplexity, rel=1e-5)


def test_validating_twice_gives_the_same_bits() -> None:
    subject, val = module(), batches(2)
    with torch.no_grad():
        once, twice = ([subject.losses(b).total for b in val] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, twice, strict=True))


def test_gradient_norms_of_towers_make_up_the_whole() -> None:
    subject = module()
    (batch,) = batches(1)
    subject.losses(batch).total.backward()
    norms = subject.gradient_norms()
    assert set(norms) == {f"train/grad_norm/{tower}" for tower in ("text", "image", "heads")}
    whole = torch.nn.utils.get_total_norm([p.grad for p in subject.parameters()])
    together = torch.stack(list(norms.values())).square().sum().sqrt()
    assert together.item() == pytest.approx(whole.item(), rel=1e-5)
    image = [p.grad for name, p in subject.net.named_parameters() if ".tower.image." in name]
    norm = torch.nn.utils.get_total_norm(image)
    assert norms["train/grad_norm/image"].item() == pytest.approx(norm.item(), rel=1e-5)


def test_unrouted_share_counts_tokens_of_each_modality_that_no_expert_chose() -> None:
    subject, (batch,) = module("moe_4x"), batches(1)
    subject.losses(batch)
    shares = subject.unrouted_shares(batch)
    modality_T = subject.net.groups(batch).group(batch.modality_BS.reshape(-1, 1))[:, 0]
    for i, name in enumerate(("text", "image")):
        missed = [
            (~expert.taken_TE.any(dim=1)[modality_T == i]).float().mean().item()
            for _, _, expert in subject.net.transformer.expert_choice()
        ]
        mean = sum(missed) / len(missed)
        assert shares[f"train/unrouted/{name}"].item() == pytest.approx(mean, abs=1e-6)
    assert 0 < shares["train/unrouted/text"] < 1
    assert module("mot").unrouted_shares(batch) == {}


def test_unrouted_share_of_the_hybrid_is_of_text_alone() -> None:
    subject, (batch,) = module("mot_text_moe_4x"), batches(1)
    subject.losses(batch)
    assert set(subject.unrouted_shares(batch)) == {"train/unrouted/text"}


def test_arms_of_equal_shape_start_from_equal_weights() -> None:
    one, other = module("dense"), module("dense")
    for left, right in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(left, right)


def test_a_batch_of_another_step_stops_the_run() -> None:
    with pytest.raises(RuntimeError, match="step 0 was given the batch of step 7"):
        fitted(module(), batches(8)[7:], batches(1))


def test_compiling_in_place_keeps_names() -> None:
    plain, compiled = module(), module(compile=True)
    assert list(plain.state_dict()) == list(compiled.state_dict())


def test_a_step_without_a_modality_logs_no_loss_of_it() -> None:
    """Not the one of the step before, which would enter the training curve again."""
    with_images, without = random_batch(), next(random_batches(prose_share=1.0))
    steps = [replace(each, step=i) for i, each in enumerate([with_images, without, with_images])]
    logger = fitted(module("moe_4x"), steps, batches(1))
    logged = [each for _, each in logger.values if "train/text/loss" in each]
    for name in ("train/image/loss", "train/unrouted/image"):
        assert [name in each for each in logged] == [True, False, True]


class _Norms(L.Callback):
    """Of the gradients that the optimiser was given."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, subject: L.LightningModule, *_: object
    ) -> None:
        gradients = [each.grad for each in subject.parameters() if each.grad is not None]
        self.values.append(torch.nn.utils.get_total_norm(gradients).item())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("guarded", [True, False])
def test_gradients_are_clipped_in_either_precision(precision: str, guarded: bool) -> None:
    """bf16 is what a GPU trains in, where Lightning alone would refuse the fused optimiser."""
    kept = _Norms()
    callbacks = [kept, FiniteGuard()] if guarded else [kept]
    fitted(
        module(),
        batches(3),
        batches(1),
        callbacks=callbacks,
        precision=precision,
        gradient_clip_val=1e-3,
    )
    assert kept.values == pytest.approx([1e-3] * 3, rel=1e-2)


@pytest.mark.parametrize(
    "clipping",
    [
        {"gradient_clip_val": 1e-3},
        {"gradient_clip_val": 1e-3, "gradient_clip_algorithm": "value"},
        {"gradient_clip_val": -1.0},
    ],
)
def test_clipping_with_the_guards_norm_is_lightnings(
    clipping: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One norm is computed for both."""
    norms: list[torch.Tensor] = []
    compute = torch.nn.utils.get_total_norm

    def counted(gradients: list[torch.Tensor]) -> torch.Tensor:
        norms.append(compute(gradients))
        return norms[-1]

    guarded, lightnings = module(), module()
    with monkeypatch.context() as patch:
        patch.setattr("torch.nn.utils.get_total_norm", counted)
        patch.setattr("mot_lab.module.get_total_norm", counted)
        fitted(guarded, batches(3), batches(1), callbacks=[FiniteGuard()], **clipping)
    assert len(norms) == 3 and min(norms) > 1e-3
    monkeypatch.delattr(MultimodalModule, "configure_gradient_clipping")
    fitted(lightnings, batches(3), batches(1), **clipping)
    weights = dict(lightnings.net.named_parameters())
    assert all(torch.equal(each, weights[name]) for name, each in guarded.net.named_parameters())


def test_a_fit_that_was_broken_off_leaves_nothing_for_the_next() -> None:
    """Half of an accumulated step must not be taken for half of a later one."""

    class Breaks(L.Callback):
        def on_train_batch_start(
            self, trainer: L.Trainer, subject: L.LightningModule, batch: object, number: int
        ) -> None:
            if number == 1:
                raise RuntimeError("broken off")

    subject, fresh, two = module(), module(), {"accumulate_grad_batches": 2}
    with pytest.raises(RuntimeError, match="broken off"):
        fitted(subject, batches(4), batches(1), callbacks=[Breaks()], **two)
    logged, expected = (fitted(each, batches(4), batches(1), **two) for each in (subject, fresh))
    assert [each for _, each in logged.values] == [each for _, each in expected.values]
