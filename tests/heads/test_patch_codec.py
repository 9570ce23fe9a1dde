"""Patches in and out of the backbone.

Shapes: N images, C x H x W latents, p patch side, P patches, Q = C p p.
"""

import pytest
import torch
from factories import randomize

from mot_lab.heads.patch_codec import make_codec, patchify, unpatchify

SHAPE = (3, 4, 8)


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_unpatchify_is_the_inverse(patch: int) -> None:
    x_NCHW = torch.randn(5, *SHAPE)
    patches_NPQ = patchify(x_NCHW, patch)
    assert patches_NPQ.shape == (5, 32 // patch**2, 3 * patch**2)
    assert torch.equal(unpatchify(patches_NPQ, SHAPE, patch), x_NCHW)
    assert torch.equal(patchify(unpatchify(patches_NPQ, SHAPE, patch), patch), patches_NPQ)


def test_patches_are_in_reading_order() -> None:
    x_NCHW = torch.arange(96).view(1, *SHAPE)
    patches_NPQ = patchify(x_NCHW, 2)
    for row in range(2):
        for column in range(4):
            square = x_NCHW[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert torch.equal(patches_NPQ[0, 4 * row + column], square.flatten())


@pytest.mark.parametrize("kind", ["linear", "unet"])
@pytest.mark.parametrize("images", [0, 1, 3])
def test_shapes_and_gradients(kind: str, images: int) -> None:
    codec = make_codec(kind, SHAPE, 2, width=12, channels=8)
    x_NCHW, time_N = torch.randn(images, *SHAPE), torch.rand(images)
    tokens_NPD, kept = codec.encode(x_NCHW, time_N)
    assert tokens_NPD.shape == (images, 8, 12)
    assert codec.tokens == 8
    prediction_NCHW = codec.decode(tokens_NPD, time_N, kept)
    assert prediction_NCHW.shape == x_NCHW.shape
    prediction_NCHW.sum().backward()
    for name, parameter in codec.named_parameters():
        assert parameter.grad is not None, name


@pytest.mark.parametrize("kind", ["linear", "unet"])
def test_an_image_depends_on_itself_and_its_own_time(kind: str) -> None:
    codec = make_codec(kind, SHAPE, 2, width=12, channels=8).double()
    randomize(codec)
    x_NCHW, time_N = torch.randn(3, *SHAPE, dtype=torch.float64), torch.tensor([0.1, 0.5, 0.9])
    tokens_NPD, _ = codec.encode(x_NCHW, time_N)
    for image in range(3):
        alone_NPD, _ = codec.encode(x_NCHW[[image]], time_N[[image]])
        torch.testing.assert_close(alone_NPD[0], tokens_NPD[image], rtol=1e-12, atol=1e-12)
    later_NPD, _ = codec.encode(x_NCHW, time_N + torch.tensor([0, 0.05, 0]))
    changed_NP = (later_NPD != tokens_NPD).any(dim=-1)
    assert changed_NP.tolist() == [[False] * 8, [True] * 8, [False] * 8]


def test_time_is_added_to_the_patches_before_the_linear() -> None:
    codec = make_codec("linear", SHAPE, 2, width=12, channels=0)
    x_NCHW, time_N = torch.randn(2, *SHAPE), torch.tensor([0.0, 0.7])
    tokens_NPD, _ = codec.encode(x_NCHW, time_N)
    by_hand = patchify(x_NCHW, 2) + codec.time(time_N)[:, None]
    expected_NPD = by_hand @ codec.encoder.weight.T + codec.encoder.bias
    torch.testing.assert_close(tokens_NPD, expected_NPD)
    frequency_F = torch.exp(-torch.arange(64) * torch.log(torch.tensor(10_000.0)) / 64)
    angle_NF = 1000 * time_N[:, None] * frequency_F
    sinusoid_NF = torch.cat([angle_NF.cos(), angle_NF.sin()], dim=1)
    torch.testing.assert_close(codec.time.sinusoid(1000 * time_N), sinusoid_NF, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("kind", "shape", "patch", "channels", "named"),
    [
        ("linear", (3, 4, 6), 4, 8, "patches of side 4"),
        ("unet", (3, 6, 6), 3, 8, "patch 3"),
        ("unet", (3, 4, 4), 2, 12, "unet_channels 12"),
    ],
)
def test_refusals(kind: str, shape: tuple, patch: int, channels: int, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make_codec(kind, shape, patch, 16, channels)
