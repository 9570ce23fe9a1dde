"""However many processes share a batch, loss and gradients are those of one process."""

from dataclasses import replace
from typing import Any

import pytest
from distributed.gradients import (
    CASES,
    OF_RANK,
    ROWS,
    SHARDED,
    Case,
    alone,
    batch_of,
    everything,
    rows_of,
)
from distributed.groups import in_groups
from factories import assert_close, assert_same_gradients

SIZES = (4, 2)
ALL = [*CASES, *OF_RANK]
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Any]]:
    """Loss and gradients of every case, of whole weights and of sharded ones, by number of
    processes and rank.
    """
    return in_groups(tmp_path_factory.mktemp("groups"), SIZES, everything, ALL, SHARDED)


def said(case: Case) -> str:
    rows = "mixed" if case.mixed else "text_first"
    return f"{case.arm}-{case.setting}-{rows}-{case.group}{'-recompute' * case.recompute}"


@pytest.mark.parametrize("case", ALL, ids=said)
def test_loss_and_gradients_are_those_of_one_process(
    case: Case, found: dict[int, list[Any]]
) -> None:
    for size in SIZES:
        simple = replace(case, recompute=False)
        loss, expected = alone(simple, groups=size if case.group == "rank" else 1)
        for of_whole, _ in found[size]:
            own_loss, own = of_whole[ALL.index(case)]
            assert_close(own_loss, loss, TOLERANCE)
            assert_same_gradients(own, expected, TOLERANCE)


@pytest.mark.parametrize("case", SHARDED, ids=said)
def test_sharded_weights_have_the_loss_and_gradients_of_whole_ones(
    case: Case, found: dict[int, list[Any]]
) -> None:
    loss, expected = alone(replace(case, recompute=False))
    for size in SIZES:
        for _, of_shards in found[size]:
            own_loss, own = of_shards[SHARDED.index(case)]
            assert_close(own_loss, loss, TOLERANCE)
            assert_same_gradients(own, expected, TOLERANCE)


@pytest.mark.parametrize("case", OF_RANK, ids=said)
def test_experts_that_choose_among_a_ranks_tokens_choose_others(case: Case) -> None:
    """Else the comparisons of ``rank`` would prove nothing."""
    loss, _ = alone(case)
    split, _ = alone(case, groups=4)
    assert abs(loss - split) > 1e-4 * loss


def test_some_processes_hold_no_image_and_no_speech() -> None:
    case = Case("mot", "chameleon_speech", mixed=False)
    own = ROWS // 4
    counts = [batch_of(case, rows_of(case)[i * own : (i + 1) * own]).counts for i in range(4)]
    assert [each["image"] > 0 for each in counts] == [False, False, True, True]
    assert [each["speech"] for each in counts[:2]] == [0, 0]
    assert sum(each["speech"] for each in counts) > 0
