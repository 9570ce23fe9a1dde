"""Rows computed piece by piece behind a cache are rows computed at once.

Shapes: B rows, S positions, R rows of a step, W places of each of them, D width.
"""

import numpy as np
import pytest
import torch
from factories import (
    THREE,
    TWO,
    RandomLayout,
    assert_close,
    give_routers,
    run_backbone,
    tiny_transformer,
)
from torch import Tensor

from mot_lab.backbones.cache import KVCache
from mot_lab.backbones.expert_choice import FEW
from mot_lab.backbones.transformer import Transformer

ARMS = {
    "dense": ("dense", TWO),
    "mot": ("mot", TWO),
    "untie_ffn": ("untie_ffn", TWO),
    "untie_ffn_qkv": ("untie_ffn_qkv", TWO),
    "moe_4x": ("moe_4x", TWO),
    "hybrid": ("mot_text_moe_4x", TWO),
    "dense of three": ("dense", THREE),
    "mot of three": ("mot", THREE),
    "loo_image": ("loo_image", THREE),
}
every_arm = pytest.mark.parametrize(("arm", "modalities"), ARMS.values(), ids=ARMS.keys())


def backbone(arm: str, modalities: tuple[str, ...] = TWO, **changes: object) -> Transformer:
    """In fp64 and, where it has experts, routed by random auxiliary routers."""
    transformer = tiny_transformer(arm, modalities, **changes)
    give_routers(transformer)
    return transformer


def documents(seed: int, lengths: tuple[int, ...], modalities: int) -> RandomLayout:
    """A document per row, of runs of 1 to 4 places of one modality; padding behind it. Half of the
    runs of modality 1 are pictures whose patches see each other.
    """
    rng = np.random.default_rng(seed)
    modality_BS = torch.full((len(lengths), max(lengths)), -1)
    image_BS, document_BS = modality_BS.clone(), modality_BS.clone()
    for row, length in enumerate(lengths):
        document_BS[row, :length] = 0
        start = 0
        while start < length:
            stop = min(length, start + int(rng.integers(1, 5)))
            modality_BS[row, start:stop] = int(rng.integers(modalities))
            if modality_BS[row, start] == 1 and rng.random() < 0.5:
                image_BS[row, start:stop] = start
            start = stop
    position_BS = torch.arange(max(lengths)).expand(len(lengths), -1).contiguous()
    return RandomLayout(modality_BS, document_BS, image_BS, position_BS)


def last_seen(layout: RandomLayout, row: int, place: int) -> int:
    """The last place of its picture, or the place itself."""
    image = layout.image_BS[row, place]
    return place if image < 0 else int((layout.image_BS[row] == image).nonzero().max())


def piecewise(
    cache: KVCache, layout: RandomLayout, x_BSD: Tensor, seed: int, largest: int = 5
) -> Tensor:
    """Every row in pieces of its own sizes, in steps of some of the rows; pictures stay whole."""
    rng = np.random.default_rng(seed)
    y_BSD = torch.zeros_like(x_BSD)
    lengths = (layout.modality_BS >= 0).sum(dim=1).tolist()
    done = [0] * len(lengths)
    while any(a < b for a, b in zip(done, lengths, strict=True)):
        open_rows = [row for row, length in enumerate(lengths) if done[row] < length]
        rows = [row for row in open_rows if rng.random() < 0.7] or open_rows[-1:]
        pieces = []
        for row in rows:
            stop = min(lengths[row], done[row] + int(rng.integers(1, largest)))
            pieces.append(range(done[row], last_seen(layout, row, stop - 1) + 1))
        width = max(map(len, pieces))
        modality_RW = np.full((len(rows), width), -1)
        position_RW, last_RW = np.zeros((2, len(rows), width), np.int64)
        # What stands in padding must not matter.
        x_RWD = torch.full((len(rows), width, x_BSD.shape[-1]), 1e6, dtype=x_BSD.dtype)
        for i, (row, piece) in enumerate(zip(rows, pieces, strict=True)):
            for j, place in enumerate(piece):
                modality_RW[i, j] = layout.modality_BS[row, place]
                position_RW[i, j] = place
                last_RW[i, j] = last_seen(layout, row, place)
                x_RWD[i, j] = x_BSD[row, place]
        step = cache.step(rows, modality_RW, position_RW, last_RW)
        y_RWD = cache.run(step, x_RWD.flatten(0, 1)).view(x_RWD.shape)
        for i, (row, piece) in enumerate(zip(rows, pieces, strict=True)):
            y_BSD[row, piece.start : piece.stop] = y_RWD[i, : len(piece)]
            done[row] = piece.stop
    return y_BSD


def random_inputs(transformer: Transformer, layout: RandomLayout, seed: int = 3) -> Tensor:
    shape = (*layout.modality_BS.shape, transformer.config.width)
    generator = torch.Generator().manual_seed(seed)
    x_BSD = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x_BSD * (layout.modality_BS >= 0)[..., None]


@every_arm
@pytest.mark.parametrize("norm", ["pre", "post"])
@torch.no_grad()
def test_piece_by_piece_is_at_once(arm: str, modalities: tuple[str, ...], norm: str) -> None:
    transformer = backbone(arm, modalities, norm=norm)
    for seed in range(3):
        layout = documents(seed, (11, 1, 19, 6), len(modalities))
        x_BSD = random_inputs(transformer, layout)
        with transformer.routing("causal"):
            expected_BSD = run_backbone(transformer, layout, x_BSD)
            y_BSD = piecewise(KVCache(transformer, 4), layout, x_BSD, seed)
        assert_close(y_BSD, expected_BSD, 1e-12)


@pytest.mark.parametrize("kv_heads", [None, 1])
@pytest.mark.parametrize("qk_norm", ["layer", "rms", "none"])
@torch.no_grad()
def test_with_every_qk_norm_and_beyond_one_growth_of_the_cache(
    qk_norm: str, kv_heads: int | None
) -> None:
    transformer = backbone("mot", qk_norm=qk_norm, layers=1, kv_heads=kv_heads)
    layout = documents(1, (150, 70), 2)
    x_BSD = random_inputs(transformer, layout)
    cache = KVCache(transformer, 2)
    y_BSD = piecewise(cache, layout, x_BSD, seed=0, largest=40)
    assert_close(y_BSD, run_backbone(transformer, layout, x_BSD), 1e-12)
    assert cache.key_LBCHE.shape[2] >= 150
    assert cache.key_LBCHE.shape[3] == (kv_heads or 2)


@every_arm
@torch.no_grad()
def test_what_is_computed_again_replaces_what_stood_there(
    arm: str, modalities: tuple[str, ...]
) -> None:
    """A picture denoised in four steps and then written leaves no trace of those steps."""
    transformer = backbone(arm, modalities)
    length, picture = 12, slice(3, 9)
    modality_BS = torch.zeros(1, length, dtype=torch.int64)
    modality_BS[0, picture] = 1
    image_BS = modality_BS - 1
    layout = RandomLayout(
        modality_BS, torch.zeros_like(modality_BS), image_BS, torch.arange(length)[None]
    )
    x_BSD = random_inputs(transformer, layout)
    cache = KVCache(transformer, 1)

    def feed(piece: slice, x_BWD: Tensor) -> Tensor:
        last_BW = np.array([[last_seen(layout, 0, p) for p in range(length)[piece]]])
        modality_BW, position_BW = (
            x_BS[:, piece].numpy() for x_BS in (modality_BS, layout.position_BS)
        )
        step = cache.step([0], modality_BW, position_BW, last_BW)
        return cache.run(step, x_BWD[0])[None]

    with transformer.routing("causal"):
        feed(slice(0, 3), x_BSD[:, :3])
        for seed in range(4):
            noised_BSD = x_BSD.clone()
            noised_BSD[:, picture] = random_inputs(transformer, layout, seed)[:, picture]
            denoised_BWD = feed(picture, noised_BSD[:, picture])
            expected_BSD = run_backbone(transformer, layout, noised_BSD)
            assert_close(denoised_BWD, expected_BSD[:, picture], 1e-12)
        feed(picture, x_BSD[:, picture])
        after_BWD = feed(slice(9, length), x_BSD[:, 9:])
        assert_close(after_BWD, run_backbone(transformer, layout, x_BSD)[:, 9:], 1e-12)


@torch.no_grad()
def test_a_step_can_be_run_again() -> None:
    """The places of all denoising steps are prepared once."""
    transformer = backbone("mot")
    layout = documents(2, (9, 9), 2)
    cache = KVCache(transformer, 2)
    last_BS = np.array([[last_seen(layout, row, p) for p in range(9)] for row in range(2)])
    step = cache.step([0, 1], layout.modality_BS.numpy(), layout.position_BS.numpy(), last_BS)
    for seed in range(2):
        x_BSD = random_inputs(transformer, layout, seed)
        y_ND = cache.run(step, x_BSD.flatten(0, 1))
        assert_close(y_ND.view(x_BSD.shape), run_backbone(transformer, layout, x_BSD), 1e-12)


def token_by_token(transformer: Transformer, rows: int, modalities: int) -> tuple[Tensor, Tensor]:
    """Rows that change their modality together: computed one place at a time, and at once."""
    length = 9
    modality_BS = (torch.arange(length) // 2 % modalities).expand(rows, -1).contiguous()
    position_BS = torch.arange(length).expand(rows, -1).contiguous()
    layout = RandomLayout(modality_BS, 0 * modality_BS, 0 * modality_BS - 1, position_BS)
    x_BSD = random_inputs(transformer, layout)
    cache, y_BSD = KVCache(transformer, rows), torch.zeros_like(x_BSD)
    with transformer.routing("causal"):
        for place in range(length):
            position_B1 = np.full((rows, 1), place)
            modality_B1 = modality_BS[:, place : place + 1].numpy()
            step = cache.step(range(rows), modality_B1, position_B1, position_B1)
            assert step.groups.order_N is None  # or it would not be the stack of a cell
            y_BSD[:, place] = cache.run(step, x_BSD[:, place])
        return y_BSD, run_backbone(transformer, layout, x_BSD)


@every_arm
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("norm", ["pre", "post"])
@torch.no_grad()
def test_token_by_token_is_at_once(
    arm: str, modalities: tuple[str, ...], rows: int, norm: str
) -> None:
    transformer = backbone(arm, modalities, norm=norm)
    assert_close(*token_by_token(transformer, rows, len(modalities)), 1e-12)


@pytest.mark.parametrize("head_width", [None, 8, 32])
@pytest.mark.parametrize("qk_norm", ["layer", "rms", "none"])
@torch.no_grad()
def test_token_by_token_with_biases_and_shared_heads(qk_norm: str, head_width: int | None) -> None:
    changes = {"qk_norm": qk_norm, "head_width": head_width}
    transformer = backbone("mot", kv_heads=1, qkv_bias=True, **changes)
    assert_close(*token_by_token(transformer, 2, 2), 1e-12)


@torch.no_grad()
def test_an_expert_says_what_it_took_of_few_tokens_and_of_many() -> None:
    """Each token alone, or with a few, has the experts and the output that it has among many."""
    transformer = backbone("moe_4x")
    layer = transformer.expert_choice()[0][2]
    x_TD = torch.randn(8 * FEW, transformer.config.width, dtype=torch.float64)
    with transformer.routing("causal"):
        y_TD, taken_TE = layer(x_TD), layer.taken_TE
        assert taken_TE is not None
        assert set(taken_TE.sum(dim=1).tolist()) >= {0, 1, 2}  # none, one and several
        for few in (1, FEW // 2, FEW):
            for first in range(0, 8 * FEW, few):
                part = slice(first, first + few)
                assert_close(layer(x_TD[part]), y_TD[part], 1e-13)
                assert layer.taken_TE is not None
                assert layer.taken_TE.tolist() == taken_TE[part].tolist()


@torch.no_grad()
def test_an_expert_that_overflows_is_nothing_to_tokens_it_does_not_take() -> None:
    transformer = backbone("moe_4x")
    layer = transformer.expert_choice()[0][2]
    x_TD = torch.randn(FEW, transformer.config.width, dtype=torch.float64)
    with transformer.routing("causal"):
        layer(x_TD)
        assert layer.taken_TE is not None
        expert = int(layer.taken_TE.sum(0).argmax())
        untaken_T = ~layer.taken_TE[:, expert]
        assert 0 < untaken_T.sum() < FEW
        before_TD = layer(x_TD)[untaken_T]
        layer.down_EFD[expert] = torch.inf
        assert_close(layer(x_TD)[untaken_T], before_TD, 0)
