"""On a GPU a step's losses stay on the device, and the host waits for nothing; checked without one.

Fake tensors of CUDA have no values: whoever asks for one fails, and so does an operation on tensors
of two devices. What is copied between host and device, which waits too, is refused here. The
backward pass is torch's alone, and no fake tensor can go through it.

Shapes: B rows, H heads, S positions, E head width.
"""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any
from unittest import mock

import pytest
import torch
from factories import CHAMELEON_SPEECH, INTERFACE, TRANSFUSION_SPEECH, random_batch, tiny_backbone
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.utils._python_dispatch import TorchDispatchMode

from mot_lab.backbones.attending import Kernel
from mot_lab.batch import MultimodalBatch
from mot_lab.data.interface import DataInterface
from mot_lab.heads.diffusion import DiffusionConfig
from mot_lab.module import ModelConfig, MultimodalModule

SETTINGS = {
    "transfusion": (INTERFACE, "linear"),
    "transfusion_unet": (INTERFACE, "unet"),
    "transfusion_speech": (TRANSFUSION_SPEECH, "linear"),
    "chameleon_speech": (CHAMELEON_SPEECH, "linear"),
}
ARMS = ("dense", "moe_4x", "mot", "mot_text_moe_4x", "untie_ffn")


@pytest.fixture
def fake_cuda() -> Iterator[mock.Mock]:
    """Fake tensors may be on CUDA, and autocast believes that there is one. Gives what stands for
    compilation of single functions."""
    with (
        FakeTensorMode(),
        mock.patch("torch.amp.autocast_mode.torch.cuda.is_available", lambda: True),
        mock.patch("torch.cuda.is_bf16_supported", lambda: True),
        mock.patch("mot_lab.backbones.attending._compiled", side_effect=_not_compiled) as compiled,
    ):
        yield compiled


class _NothingCopied(TorchDispatchMode):
    """Fails where a tensor goes from one device to another."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            devices = {each.device.type for each in (*args, result) if isinstance(each, Tensor)}
            assert len(devices) == 1, f"copied between {devices}"
        return result


def _not_compiled(function: Any) -> Any:
    """For what is compiled on a GPU, of which torch asks the driver."""
    return {create_block_mask: create_block_mask, flex_attention: _any_attention}[function]


def _any_attention(
    q_BHSE: Tensor, k_BHSE: Tensor, v_BHSE: Tensor, block_mask: BlockMask, enable_gqa: bool
) -> Tensor:
    assert block_mask.kv_indices.device.type == "cuda"
    assert q_BHSE.dtype == k_BHSE.dtype == v_BHSE.dtype
    return F.scaled_dot_product_attention(q_BHSE, k_BHSE, v_BHSE, enable_gqa=enable_gqa)


def _on_cuda(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")


def _moved(module: nn.Module) -> None:
    for each in module.modules():
        for name, weight in each._parameters.items():
            each._parameters[name] = None if weight is None else nn.Parameter(_on_cuda(weight))
        for name, buffer in each._buffers.items():
            each._buffers[name] = None if buffer is None else _on_cuda(buffer)


def _batch_on_cuda(batch: MultimodalBatch) -> MultimodalBatch:
    values = {each.name: getattr(batch, each.name) for each in fields(batch)}
    return replace(
        batch, **{name: _on_cuda(x) for name, x in values.items() if isinstance(x, Tensor)}
    )


@pytest.mark.parametrize("kernel", ["auto", "flex"])
@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("interface, codec", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("mixed", [True, False], ids=["bf16", "fp32"])
def test_losses_ask_the_device_for_nothing(
    fake_cuda: mock.Mock,
    interface: DataInterface,
    arm: str,
    codec: str,
    kernel: Kernel,
    mixed: bool,
) -> None:
    config = ModelConfig(
        backbone=tiny_backbone(width=32), diffusion=DiffusionConfig(codec=codec, unet_channels=8)
    )
    with torch._subclasses.fake_tensor.unset_fake_temporarily():
        module = MultimodalModule(config, interface, arm)
        batch = random_batch(interface=interface)
    _moved(module)
    module.net.transformer.kernel = kernel
    batch = _batch_on_cuda(batch)
    with _NothingCopied(), torch.autocast("cuda", torch.bfloat16, enabled=mixed):
        losses = module.losses(batch)
    assert losses.total.device.type == "cuda" and losses.total.dtype == torch.float32
    assert {each.device.type for each in losses.sums.values()} == {"cuda"}
    compiled = {call.args[0] for call in fake_cuda.call_args_list}
    assert compiled == ({create_block_mask, flex_attention} if kernel == "flex" else set())


def test_what_waits_is_noticed(fake_cuda: mock.Mock) -> None:
    index = _on_cuda(torch.empty(3, dtype=torch.int64))
    for moved in (lambda: index.cpu(), lambda: torch.ones(3).to("cuda")):
        with _NothingCopied(), pytest.raises(AssertionError, match="copied between"):
            moved()
    with pytest.raises(DataDependentOutputException):
        bool(index.sum() > 0)
    with pytest.raises(RuntimeError, match="device"):
        _on_cuda(torch.empty(3)).index_select(0, torch.empty(3, dtype=torch.int64))
