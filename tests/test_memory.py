"""Memory from structure against what torch holds: storages autograd saves, and real objects."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from factories import CHAMELEON, INTERFACE, random_batch, tiny_backbone
from torch import Tensor

from mot_lab.activations import Pass, ends_bytes
from mot_lab.batch import MultimodalBatch
from mot_lab.counting import structure
from mot_lab.data.interface import DataInterface, Latents
from mot_lab.heads.diffusion import DiffusionConfig
from mot_lab.memory import MemoryParts, arm_memory
from mot_lab.module import ModelConfig, MultimodalModule
from mot_lab.optim import make_optimizer
from mot_lab.runtime.averaging import ExponentialMovingAverage
from mot_lab.study_arm import StudyArm, TrainingConfig, settle_arm

WIDE = {"width": 96, "layers": 3, "heads": 4, "feed_forward_multiple": 32}
PICTURES = DataInterface(40, {"image": Latents((4, 16, 16), patch=4)})
TWO = ("text", "image")


def _arm(
    arm: str, interface: DataInterface, codec: str = "linear", z_loss: float = 0.0, **backbone: Any
) -> StudyArm:
    diffusion = DiffusionConfig(codec=codec, unet_channels=32)  # type: ignore[arg-type]
    model = ModelConfig(tiny_backbone(**WIDE, **backbone), diffusion, z_loss=z_loss)
    return settle_arm(arm, interface.modalities, model, TrainingConfig())


def _pass(batch: MultimodalBatch, mixed: bool) -> Pass:
    rows, length = batch.token_BS.shape
    predictions = sum(batch.target_counts.values())
    return Pass(batch.counts, rows, length, predictions, batch.num_images, mixed, on_gpu=False)


@contextmanager
def _saved(module: MultimodalModule) -> Iterator[dict[int, Tensor]]:
    """Inside, one tensor of every storage that autograd saves, the weights' aside."""
    own = {each.untyped_storage().data_ptr() for each in module.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in own:
            kept[address] = tensor  # held, so that no other storage gets its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def _measured(arm: StudyArm, batch: MultimodalBatch, interface: DataInterface, mixed: bool) -> int:
    module = MultimodalModule(arm.model, interface, arm.spec)
    module.net.transformer.recompute = arm.training.recompute
    module.net.transformer.kernel = "sdpa"  # a GPU's, which the plan is for
    with _saved(module) as kept, torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        loss = module.losses(batch).total
    assert loss.requires_grad
    return sum(each.untyped_storage().nbytes() for each in kept.values()) + _made_already(loss)


def _made_already(loss: Tensor) -> int:
    """Gradients that `torch.nn.functional.linear_cross_entropy` holds until the backward pass."""
    nodes, bytes_held = [loss.grad_fn], 0
    for node in nodes:
        held = [getattr(node, name, None) for name in ("_gi", "_gw")]
        bytes_held += sum(each.nbytes for each in held if each is not None)
        following = (each for each, _ in node.next_functions if each is not None)
        nodes += [each for each in following if each not in nodes]
    return bytes_held


def _context_bytes(batch: MultimodalBatch) -> int:
    """Of mask and rotary angles, which blocks that are computed again share and do not save."""
    net = MultimodalModule(_arm("mot", CHAMELEON).model, CHAMELEON, "mot").net
    net.transformer.kernel = "sdpa"
    places = (batch.document_BS, batch.image_BS, batch.position_BS)
    context = net.transformer.context(net.groups(batch), *places)
    (mask,) = context.at.masks
    assert isinstance(mask, Tensor)
    return mask.nbytes + context.cos_T1E.nbytes + context.sin_T1E.nbytes


def _counted(parts: MemoryParts) -> float:
    return parts.weight_copies + parts.activations + parts.logits


CASES = {
    "transfusion": (INTERFACE, {}),
    "chameleon": (CHAMELEON, {"norm": "post", "z_loss": 1e-5}),
    "rms": (CHAMELEON, {"qk_norm": "rms"}),
    "llama": (CHAMELEON, {"qk_norm": "none"}),
}
UNET = (PICTURES, {"codec": "unet", "qk_norm": "none"})


ARMS = ("dense", "moe_4x", "mot", "mot_text_moe_4x")


@pytest.mark.parametrize("mixed", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize(
    ("case", "arm"), [*((case, arm) for case in CASES for arm in ARMS), ("unet", "mot")]
)
def test_what_is_kept_for_the_backward_pass_is_counted(case: str, arm: str, mixed: bool) -> None:
    interface, changes = CASES.get(case, UNET)
    study_arm = _arm(arm, interface, **changes)  # type: ignore[arg-type]
    batch = random_batch(rows=6, length=48, interface=interface)
    counted = _counted(arm_memory(study_arm, interface, _pass(batch, mixed)))
    measured = _measured(study_arm, batch, interface, mixed)
    assert counted == pytest.approx(measured, rel=0.05)


def test_recomputation_keeps_the_inputs_of_blocks() -> None:
    study_arm = _arm("mot", CHAMELEON)
    study_arm.training.recompute = True
    batch = random_batch(rows=6, length=48, interface=CHAMELEON)
    at = _pass(batch, mixed=False)
    counted = arm_memory(study_arm, CHAMELEON, at)
    # The block that the backward pass is at is whole only then.
    whole = arm_memory(study_arm, CHAMELEON, at, recompute=False)
    ends = ends_bytes(structure(study_arm, CHAMELEON), at)
    block = (whole.activations - ends) / WIDE["layers"]
    measured = _measured(study_arm, batch, CHAMELEON, mixed=False) + _context_bytes(batch)
    assert _counted(counted) - block == pytest.approx(measured, rel=0.05)
    assert measured < 0.5 * _counted(whole)


@pytest.mark.parametrize("arm", ["dense", "moe_4x", "mot"])
def test_weights_gradients_moments_and_averages_are_counted(arm: str) -> None:
    study_arm = _arm(arm, INTERFACE)
    batch = random_batch(rows=2, interface=INTERFACE)
    counted = arm_memory(study_arm, INTERFACE, _pass(batch, mixed=False))
    module = MultimodalModule(study_arm.model, INTERFACE, study_arm.spec)
    optimizer, _ = make_optimizer(module.net, study_arm.model.optimizer, 10)
    average = ExponentialMovingAverage()
    average.on_train_start(None, module)  # type: ignore[arg-type]
    module.losses(batch).total.backward()
    optimizer.step()
    weights = [*module.parameters(), *module.buffers()]
    moments = [each for state in optimizer.state.values() for each in state.values()]
    assert counted.weights == sum(each.nbytes for each in weights)
    assert counted.gradients == sum(each.grad.nbytes for each in module.parameters())
    assert counted.optimizer == pytest.approx(sum(each.nbytes for each in moments), rel=1e-2)
    assert counted.average == sum(each.nbytes for each in average.averages.values())


def test_shards_divide_what_is_kept_and_gather_what_is_used() -> None:
    study_arm = _arm("mot", CHAMELEON)
    at = Pass({"text": 48, "image": 48}, 2, 48, 96, 0, mixed=True)
    whole, shared = (arm_memory(study_arm, CHAMELEON, at, shards=each) for each in (1, 4))
    for part in ("weights", "gradients", "optimizer", "average"):
        assert getattr(shared, part) == getattr(whole, part) / 4
    assert whole.gathered == 0 and shared.activations == whole.activations
    blocks = structure(study_arm, CHAMELEON).transformer.layers
    parameters = whole.gradients / 4
    third = sum(each.numel() for each in blocks[0].parameters())
    assert shared.gathered == 4 * (parameters - third)  # all but one of three blocks
    with pytest.raises(ValueError, match="shards 0 must be at least 1"):
        arm_memory(study_arm, CHAMELEON, at, shards=0)
