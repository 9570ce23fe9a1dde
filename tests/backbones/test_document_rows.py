"""Documents in rows of their own for attention, against loops and against whole rows.

Shapes: B rows, S positions, T tokens in grouped order, P places of attention, D width.
"""

import oracles
import pytest
import torch
from factories import (
    TWO,
    RandomLayout,
    always_documents,
    assert_close,
    assert_same_gradients,
    random_layout,
    run_backbone,
    tiny_transformer,
)
from torch import Tensor

from mot_lab.backbones.attending import attended, chosen_kernel
from mot_lab.backbones.document_rows import DocumentRows, cost, of_tables, table_columns
from mot_lab.backbones.grouping import TokenGroups
from mot_lab.backbones.wiring import named_arms

LAYOUTS = {
    "some tables": random_layout(0, rows=3, length=90, longest=60),
    "one table": random_layout(1, rows=2, length=20),
    "a document a row": random_layout(2, rows=3, length=40, longest=200),
    "one modality": random_layout(3, rows=2, length=70, ids=[0], longest=50),
}


@pytest.mark.parametrize("arm", ["dense", "mot"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_every_document_is_a_row_in_its_order(layout: RandomLayout, arm: str) -> None:
    groups = layout.groups(named_arms(TWO)[arm].wiring)
    made = DocumentRows.build(groups, layout.document_BS, layout.image_BS)
    flat_N = torch.arange(layout.document_BS.numel())
    assert made.groups.tokens == groups.tokens
    found_P = made.groups.restore(groups.group(flat_N + 1)) - 1  # -1 at padding
    rows = [
        [int(flat) for flat in row if flat >= 0]
        for table in of_tables(found_P, made.tables)
        for row in table
    ]
    expected = []
    for row in range(len(layout.document_BS)):
        places: dict[int, list[int]] = {}
        for place, document in enumerate(layout.document_BS[row].tolist()):
            if layout.modality_BS[row, place] >= 0:
                at = row * layout.document_BS.shape[1] + place
                places.setdefault(document, []).append(at)
        expected += places.values()
    assert sorted(rows) == sorted(expected)
    for table, shape in zip(of_tables(found_P, made.tables), made.tables, strict=True):
        assert tuple(table.shape) == shape
        assert ((table[:, 1:] >= 0) <= (table[:, :-1] >= 0)).all()  # padding behind
    image_N = layout.image_BS.flatten()
    assert torch.equal(made.image_P, torch.where(found_P >= 0, image_N[found_P], -1))
    assert torch.equal(made.document_P >= 0, found_P >= 0)


def test_documents_of_a_row_may_be_mixed_and_have_any_ids() -> None:
    document = torch.tensor([[7, -900, 7, 7, -900], [7, 7, 10**12, 7, 7]])
    image = torch.full_like(document, -1)
    made = DocumentRows.build(TokenGroups(None, None, (10,), (2, 5)), document, image)
    assert made.tables == ((4, 16),)
    flat_P = made.groups.restore(torch.arange(10) + 1)
    rows = [[int(flat) - 1 for flat in row if flat] for row in flat_P.view(4, 16)]
    assert sorted(rows) == [[0, 2, 3], [1, 4], [5, 6, 8, 9], [7]]


def test_nothing_is_moved_that_stands_there_already() -> None:
    document = torch.arange(4).repeat_interleave(16).expand(3, -1)
    groups = TokenGroups(None, None, (192,), (3, 64))
    made = DocumentRows.build(groups, document, torch.full_like(document, -1))
    assert made.tables == ((12, 16),)
    assert made.groups.order_N is None


@pytest.mark.parametrize("seed", range(8))
def test_tables_are_the_cheapest(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    longest = (40, 130, 300)[seed % 3]
    lengths = torch.randint(1, longest, (9,), generator=generator).tolist()
    least, columns = oracles.cheapest_tables(lengths)
    found = table_columns(lengths)
    assert [found[length] for length in sorted(lengths)] == columns
    assert cost([(columns.count(each), each) for each in set(columns)]) == least


def test_many_lengths_need_few_tables() -> None:
    assert table_columns(range(25, 39)) == {
        length: 32 if length <= 32 else 48 for length in range(25, 39)
    }
    assert set(table_columns([30] * 20 + [5]).values()) == {32}
    assert table_columns([30] * 20 + [130]) == {30: 32, 130: 144}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize(("arm", "kv_heads"), [("dense", None), ("mot", None), ("mot", 1)])
def test_whole_rows_give_the_same_and_the_same_gradients(
    layout: RandomLayout, arm: str, kv_heads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    always_documents(monkeypatch)
    transformer = tiny_transformer(arm, TWO, kv_heads=kv_heads, heads=2)
    results: list[dict[str, Tensor]] = []
    for kernel in ("documents", "sdpa"):
        transformer.kernel = kernel
        transformer.zero_grad()
        generator = torch.Generator().manual_seed(1)
        shape = (2, *layout.modality_BS.shape, 16)
        x_BSD, weight_BSD = torch.randn(shape, generator=generator, dtype=torch.float64)
        x_BSD.requires_grad_()
        y_BSD = run_backbone(transformer, layout, x_BSD)
        (y_BSD * weight_BSD).sum().backward()
        with torch.no_grad():
            assert_close(run_backbone(transformer, layout, x_BSD), y_BSD, 1e-12)
        gradients = {name: each.grad for name, each in transformer.named_parameters()}
        results.append({"output": y_BSD.detach(), "input": x_BSD.grad, **gradients})
    assert_close(results[0].pop("output"), results[1].pop("output"), 1e-12)
    assert_same_gradients(results[0], results[1], 1e-11)


def test_documents_so_short_that_tables_are_larger_stay_in_their_rows() -> None:
    wiring = named_arms(TWO)["mot"].wiring
    for longest, tables in ((2, ((4, 128),)), (60, None)):
        layout = random_layout(0, rows=4, length=128, padding=0, longest=longest)
        groups, ids = layout.groups(wiring), (layout.document_BS, layout.image_BS)
        found = attended("documents", groups, *ids, torch.float32)
        made = DocumentRows.build(groups, *ids)
        assert found.tables == (tables or made.tables)
        assert (cost(made.tables) < cost([(4, 128)])) == (tables is None)
        assert (found.groups is groups) == (tables is not None)


def test_the_cpu_takes_it_unless_blocks_are_compiled() -> None:
    assert chosen_kernel("auto", 4096, on_gpu=False) == "documents"
    assert chosen_kernel("auto", 4096, on_gpu=False, compiled=True) == "sdpa"
    assert chosen_kernel("auto", 4096, on_gpu=True) == "flex"
    assert chosen_kernel("auto", 512, on_gpu=True) == "sdpa"
    assert chosen_kernel("sdpa", 4096, on_gpu=False) == "sdpa"
