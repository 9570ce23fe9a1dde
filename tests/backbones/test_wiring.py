"""Arms as data: what is accepted, what is refused, and what the groups are."""

import pytest
from factories import THREE, TWO

from mot_lab.backbones.wiring import WEIGHT_KINDS, Wiring, named_arms, parse_arm, tower_name


def test_named_arms_of_two_and_three_modalities() -> None:
    assert list(named_arms(TWO)) == [
        "dense",
        "mot",
        "untie_ffn",
        "untie_ffn_qkv",
        "untie_ffn_qkv_shared_o",
        "moe_2x",
        "moe_3x",
        "moe_4x",
        "mot_text_moe_4x",
    ]
    loo = [name for name in named_arms(THREE) if name.startswith("loo_")]
    assert loo == ["loo_text", "loo_image", "loo_speech"]
    isolated = named_arms(THREE)["loo_text"].wiring
    assert isolated.attention == (("image", "speech"), ("text",))


def test_partitions_and_names_are_the_same_wiring() -> None:
    assert parse_arm([["text"], ["image"]], TWO).wiring == parse_arm("mot", TWO).wiring
    assert parse_arm([["text", "image"]], TWO).wiring == parse_arm("dense", TWO).wiring
    assert parse_arm({"mine": [["text"], ["image"]]}, TWO).name == "mine"
    assert (
        parse_arm("moe_4x", TWO).wiring
        == parse_arm({"m": {"experts": {"text_image": 4}}}, TWO).wiring
    )
    assert parse_arm("moe_7x", TWO).wiring.experts == {"text_image": 7}
    assert parse_arm("mot_text_moe_2x", THREE).wiring.experts == {"text": 2}


def test_the_output_projection_goes_with_the_queries_unless_it_is_named() -> None:
    separate, shared = (("text",), ("image",)), (("text", "image"),)
    both = named_arms(TWO)
    assert both["untie_ffn_qkv"].wiring.output == both["mot"].wiring.output == separate
    assert both["dense"].wiring.output == both["untie_ffn"].wiring.output == shared
    lone = both["untie_ffn_qkv_shared_o"].wiring
    assert (lone.attention, lone.output, lone.norms) == (separate, shared, shared)
    towers = [["text"], ["image"]]
    spelt = {"attention": towers, "output": [["text", "image"]], "feed_forward": towers}
    assert parse_arm({"x": spelt}, TWO).wiring == lone
    del spelt["output"]
    assert parse_arm({"x": spelt}, TWO).wiring == both["untie_ffn_qkv"].wiring


def test_every_tower_is_a_run_of_cells() -> None:
    arms = [arm.wiring for arm in named_arms(THREE).values()]
    nested = {
        "attention": [["text", "speech"], ["image"]],
        "feed_forward": [["speech"], ["text"], ["image"]],
    }
    arms.append(parse_arm({"nested": nested}, THREE).wiring)
    for wiring in arms:
        assert sorted(name for cell in wiring.cells for name in cell) == sorted(THREE)
        for kind in WEIGHT_KINDS:
            flat = []
            for tower, cells in wiring.ordered(kind):
                assert sorted(n for c in cells for n in wiring.cells[c]) == sorted(tower)
                flat += cells
            assert flat == list(range(len(wiring.cells)))


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("mott", ["'mott'", "dense", "moe_4x"]),
        ([["text"]], ["[['text']]", "image"]),
        ([["text"], ["imge"]], ["imge", "image"]),
        ([["text", "image"], ["image"]], ["exactly once"]),
        ([], ["[]", "[[text], [image]]"]),
        (["text", "image"], ["'text'", "[text, image]"]),
        ({"a": {"attn": [["text", "image"]]}}, ["'a'", "attn", "attention"]),
        ({"a": {"experts": {"txt": 4}}}, ["'txt'", "text_image"]),
        ({"a": {"experts": {"text_image": 0}}}, ["text_image", "0"]),
        ("moe_0x", ["0"]),
        (3, ["3"]),
        ({"a": "mot", "b": "dense"}, ["'a'", "'b'"]),
    ],
)
def test_refusals_are_one_line_that_names_the_value(spec: object, names: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        parse_arm(spec, TWO)
    message = str(caught.value)
    assert "\n" not in message
    for name in names:
        assert name in message


def test_crossing_partitions_are_refused() -> None:
    four = ("a", "b", "c", "d")
    with pytest.raises(ValueError, match="contiguous"):
        Wiring(
            four,
            attention=(("a", "b"), ("c", "d")),
            feed_forward=(("a", "c"), ("b", "d")),
            norms=(("a", "d"), ("b", "c")),
        )


def test_tower_names() -> None:
    assert tower_name(("text", "image")) == "text_image"
