"""Causal routing of experts against a loop over tokens, and the switch between the two routings.

Shapes: T tokens, D width, E experts, B rows, S positions.
"""

import oracles
import pytest
import torch
from factories import (
    assert_close,
    give_routers,
    random_layout,
    randomize,
    run_backbone,
    tiny_transformer,
)

from mot_lab.backbones.auxiliary_router import AuxiliaryRouter
from mot_lab.backbones.expert_choice import ExpertChoice

ARMS = ["moe_4x", "moe_2x", "moe_1x", "mot_text_moe_4x"]


def make(experts: int, gate: str, threshold: float = 0.5) -> ExpertChoice:
    module = ExpertChoice(8, 12, experts, gate).double()
    randomize(module, experts)
    generator = torch.Generator().manual_seed(experts)
    module.auxiliary = AuxiliaryRouter.random(8, experts, threshold, generator)
    module.causal = True
    return module


def tokens(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 8, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("gate", ["sigmoid", "softmax"])
@pytest.mark.parametrize("experts", [1, 2, 4])
@pytest.mark.parametrize("count", [0, 1, 3, 17])
def test_is_the_loop_over_tokens(gate: str, experts: int, count: int) -> None:
    module, x_TD = make(experts, gate), tokens(count)
    y_TD = module(x_TD)
    assert_close(y_TD, oracles.causal_routing(module, x_TD), 1e-12)
    assert module.taken_TE is not None
    assert module.taken_TE.shape == (count, experts)
    assert torch.equal(module.taken_TE.any(dim=1), y_TD.abs().sum(dim=1) > 0)


def test_tokens_go_to_none_one_and_several_experts() -> None:
    module = make(4, "softmax")
    y_TD = module(tokens(64))
    assert module.taken_TE is not None
    taken_T = module.taken_TE.sum(dim=1)
    assert set(taken_T.tolist()) >= {0, 1, 2}
    assert not y_TD[taken_T == 0].any()


def test_a_token_is_routed_the_same_whatever_stands_beside_it() -> None:
    module, x_TD = make(4, "softmax"), tokens(20)
    alone_TD = torch.cat([module(x_D[None]) for x_D in x_TD])
    assert_close(module(x_TD), alone_TD, 1e-12)
    assert_close(module(torch.cat([x_TD[:5], tokens(9, seed=1)]))[:5], alone_TD[:5], 1e-12)


def test_a_higher_threshold_takes_less() -> None:
    low, high = make(4, "softmax", 0.3), make(4, "softmax", 0.7)
    x_TD = tokens(50)
    low(x_TD), high(x_TD)
    assert low.taken_TE is not None and high.taken_TE is not None
    assert not (high.taken_TE & ~low.taken_TE).any()
    assert 0 < int(high.taken_TE.sum()) < int(low.taken_TE.sum()) < 200
    score_TE = low.auxiliary.logits(x_TD).sigmoid()
    assert torch.equal(low.taken_TE, score_TE > 0.3)


def test_decisions_are_in_fp32_under_bf16() -> None:
    module, x_TD = make(4, "softmax"), tokens(16).float()
    expected_TE = module.auxiliary.logits(x_TD)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module.auxiliary.logits(x_TD), expected_TE)
    assert module.auxiliary.logits(x_TD.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("ids", [[0, 1], [0], [1]], ids=["both", "text only", "image only"])
def test_backbone_is_the_oracle(arm: str, norm: str, ids: list[int]) -> None:
    transformer = tiny_transformer(arm, norm=norm)
    give_routers(transformer)
    layout = random_layout(5, rows=2, length=8, ids=ids)
    generator = torch.Generator().manual_seed(0)
    x_BSD = torch.randn(2, 8, 16, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        training_BSD = run_backbone(transformer, layout, x_BSD)
        with transformer.routing("causal"):
            y_BSD = run_backbone(transformer, layout, x_BSD)
            assert_close(y_BSD, oracles.BackboneOracle(transformer, layout)(x_BSD), 1e-12)
    text_tower_is_empty = arm == "mot_text_moe_4x" and ids == [1]
    assert torch.equal(y_BSD, training_BSD) == text_tower_is_empty


def test_routers_leave_training_and_its_weights_as_they_were() -> None:
    plain, other = tiny_transformer("moe_4x"), tiny_transformer("moe_4x")
    give_routers(other)
    assert list(other.state_dict()) == list(plain.state_dict())
    assert len(list(other.parameters())) == len(list(plain.parameters()))
    other.load_state_dict(plain.state_dict())
    layout = random_layout(6, rows=2, length=8)
    x_BSD = torch.randn(2, 8, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected_BSD = run_backbone(plain, layout, x_BSD)
    with other.routing("causal"):
        assert not torch.equal(run_backbone(other, layout, x_BSD), expected_BSD)
    assert torch.equal(run_backbone(other, layout, x_BSD), expected_BSD)


def test_the_switch_goes_back_to_where_it_was() -> None:
    transformer = tiny_transformer("moe_4x")
    give_routers(transformer)

    def causal() -> list[bool]:
        return [module.causal for _, _, module in transformer.expert_choice()]

    with pytest.raises(KeyError), transformer.routing("causal"):
        with transformer.routing("training"):
            assert causal() == [False, False]
        assert causal() == [True, True]
        raise KeyError
    assert causal() == [False, False]


def test_causal_routing_without_routers_is_refused() -> None:
    transformer = tiny_transformer("mot_text_moe_4x")
    assert not transformer.can_route_causally()
    with pytest.raises(ValueError, match="run `mot-lab fit-router`"), transformer.routing("causal"):
        pass
    with pytest.raises(ValueError, match=r"routers for .*0/text.* experts in .*1/text"):
        transformer.set_auxiliary_routers({"0/text": make(4, "softmax").auxiliary})
    with transformer.routing("training"):
        pass


def test_without_experts_every_routing_is_the_same() -> None:
    transformer = tiny_transformer("mot")
    layout = random_layout(7, rows=2, length=8)
    x_BSD = torch.randn(2, 8, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected_BSD = run_backbone(transformer, layout, x_BSD)
    assert transformer.can_route_causally()
    with transformer.routing("causal"):
        assert torch.equal(run_backbone(transformer, layout, x_BSD), expected_BSD)
