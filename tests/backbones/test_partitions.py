"""Every partition once, and each of them Dense where its towers are equal."""

from math import comb

import pytest
import torch
from factories import (
    THREE,
    TWO,
    assert_close,
    assert_same_gradients,
    copy_into_towers,
    gradients_by_shared_name,
    random_layout,
    run_backbone,
    tiny_transformer,
)

from mot_lab.backbones.partitions import expand_arms, partition_arms
from mot_lab.backbones.wiring import WEIGHT_KINDS, parse_arm
from mot_lab.config import NAME

FOUR = (*THREE, "sketch")


def bell(number: int) -> int:
    """Partitions of so many things: the last one's block has k others of the rest."""
    return 1 if number == 0 else sum(comb(number - 1, k) * bell(k) for k in range(number))


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_there_are_as_many_as_bell_says_and_none_twice(number: int) -> None:
    names = ("text", "image", "speech", "sketch", "touch")[:number]
    arms = [parse_arm(entry, names) for entry in partition_arms(names)]
    assert len(arms) == bell(number) == {1: 1, 2: 2, 3: 5, 4: 15, 5: 52}[number]
    assert len({frozenset(map(frozenset, arm.wiring.attention)) for arm in arms}) == len(arms)
    assert len({arm.name for arm in arms}) == len(arms)
    for arm in arms:
        assert NAME.fullmatch(arm.name)
        assert len({getattr(arm.wiring, kind) for kind in WEIGHT_KINDS}) == 1
        assert not arm.wiring.experts


def test_those_with_a_name_stand_under_it() -> None:
    assert partition_arms(TWO) == ["dense", "mot"]
    assert partition_arms(THREE) == ["dense", "loo_text", "loo_image", "loo_speech", "mot"]
    entries = partition_arms(FOUR)
    assert entries[0] == "dense" and entries[-1] == "mot"
    assert [one for one in entries if isinstance(one, str)][1:-1] == [f"loo_{n}" for n in FOUR]
    pairs = [["text", "image"], ["speech", "sketch"]]
    assert pairs in entries
    assert parse_arm(pairs, FOUR).name == "text_image-speech_sketch"


def test_one_line_stands_for_all_of_them() -> None:
    every = partition_arms(THREE)
    assert expand_arms("all_partitions", THREE) == every
    assert expand_arms(["all_partitions", "moe_4x"], THREE) == [*every, "moe_4x"]
    assert expand_arms(["mot", "all_partitions"], THREE) == ["mot", *every[:-1]]
    assert expand_arms(["dense", "mot"], THREE) == ["dense", "mot"]
    with pytest.raises(ValueError, match="'all' must be a list, or all_partitions"):
        expand_arms("all", THREE)


@pytest.mark.parametrize("name", ["loo_text", "loo_image", "loo_speech"])
def test_the_named_modality_is_the_one_alone(name: str) -> None:
    wiring = parse_arm(name, THREE).wiring
    alone = (name.removeprefix("loo_"),)
    assert set(map(frozenset, wiring.attention)) == {
        frozenset(alone),
        frozenset(THREE) - frozenset(alone),
    }


@pytest.mark.parametrize(
    ("modalities", "entry"),
    [(names, entry) for names in (TWO, THREE, FOUR) for entry in partition_arms(names)]
    + [(THREE, "untie_ffn_qkv_shared_o")],
    ids=str,
)
def test_equal_towers_are_dense(modalities: tuple[str, ...], entry: object) -> None:
    layout = random_layout(4, rows=2, length=14, ids=range(len(modalities)))
    dense = tiny_transformer("dense", modalities)
    other = tiny_transformer(entry, modalities, seed=1)
    copy_into_towers(dense, other)
    generator = torch.Generator().manual_seed(3)
    shape = (2, *layout.modality_BS.shape, dense.config.width)
    x_BSD, weight_BSD = torch.randn(shape, generator=generator, dtype=torch.float64)
    outputs = []
    for transformer in (dense, other):
        y_BSD = run_backbone(transformer, layout, x_BSD)
        y_BSD = y_BSD * (layout.modality_BS >= 0)[..., None]
        (y_BSD * weight_BSD).sum().backward()
        outputs.append(y_BSD)
    assert outputs[0].abs().max() > 0.1
    assert_close(outputs[1], outputs[0], 1e-12)
    assert_same_gradients(gradients_by_shared_name(other), gradients_by_shared_name(dense), 1e-12)
