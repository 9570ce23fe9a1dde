"""Which documents a step trains on is a function of (seed, step): 1, 2 and 4 processes, each with
its own view of the shards, pack the same global batches, with and without workers.
"""

import multiprocessing
from pathlib import Path

import pytest
from fake_sources import config_of

from mot_lab.data.datamodule import TRAIN, MultimodalDataModule, PackedRows
from mot_lab.data.own_data import prepare_own
from mot_lab.data.packing import Row, collate

STEPS, ROWS, SEED = 4, 4, 5


def packed(folder: Path, indices: list[int]) -> list[tuple[int, Row]]:
    """Rows of training, in a process that opens the shards by itself."""
    data = prepare_own(config_of(folder))
    rows = PackedRows(data.stream("train"), data.layout, (SEED, TRAIN))
    return [rows[index] for index in indices]


def shares(processes: int, blocks: bool) -> list[list[int]]:
    """Rows of every process: each step's in turn, or a block of each step's."""
    size = ROWS // processes
    return [
        [
            step * ROWS + row
            for step in range(STEPS)
            for row in range(ROWS)
            if (row // size if blocks else row % processes) == rank
        ]
        for rank in range(processes)
    ]


@pytest.fixture(scope="module")
def alone(prepared: Path) -> list[str]:
    """Hashes of the batches of one process, as it trains on them."""
    data = MultimodalDataModule(config_of(prepared), SEED)
    found = [batch.sha256() for batch in data.train_loader(STEPS)]
    assert len(set(found)) == STEPS
    return found


@pytest.mark.parametrize("blocks", [False, True], ids=["in turn", "in blocks"])
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_any_number_of_processes_packs_the_same_batches(
    prepared: Path, alone: list[str], processes: int, blocks: bool
) -> None:
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        arguments = [(prepared, indices) for indices in shares(processes, blocks)]
        found = dict(row for rows in pool.starmap(packed, arguments) for row in rows)
    layout = prepare_own(config_of(prepared)).layout
    batches = [
        collate([found[step * ROWS + row] for row in range(ROWS)], step, layout)
        for step in range(STEPS)
    ]
    assert [batch.sha256() for batch in batches] == alone


def test_workers_pack_the_same_batches(prepared: Path, alone: list[str]) -> None:
    data = MultimodalDataModule(config_of(prepared), SEED, num_workers=2)
    assert [batch.sha256() for batch in data.train_loader(STEPS)] == alone


def test_any_step_may_be_the_first(prepared: Path, alone: list[str]) -> None:
    data = MultimodalDataModule(config_of(prepared), SEED)
    assert [batch.sha256() for batch in data.train_loader(STEPS, start=2)] == alone[2:]
    other = MultimodalDataModule(config_of(prepared), SEED + 1)
    assert not {batch.sha256() for batch in other.train_loader(STEPS)} & set(alone)


def test_held_out_batches_are_the_same_for_every_seed(prepared: Path) -> None:
    seen = [
        [b.sha256() for b in MultimodalDataModule(config_of(prepared), s).held_out_loader(split)]
        for split in ("val", "test")
        for s in (0, 1)
    ]
    assert seen[0] == seen[1] and seen[2] == seen[3] and not set(seen[0]) & set(seen[2])
