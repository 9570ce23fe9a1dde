"""What a study at the paper's size takes: memory by part, FLOPs, time at a stated utilisation.

All from structure (`mot_lab.memory`, `mot_lab.counting`); nothing is allocated or measured.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from mot_lab.config import StudyConfig, load_study
from mot_lab.counting import ArmCost, arm_cost, nominal_workload
from mot_lab.memory import MemoryParts, arm_memory, nominal_pass
from mot_lab.study_arm import StudyArm

PAPER = Path(__file__).parents[2] / "experiments" / "paper"
LAYOUT = re.compile(r"^  rows: (\d+)  # (\d+) on each of (\d+) GPUs", re.MULTILINE)
USABLE = 0.9  # of a GPU's memory: the rest is the libraries' and lost between blocks
RECOMPUTED = 4 / 3  # passes with activations computed again: two of the forward, four in all
PER_SHARD = ("weights", "gradients", "optimizer", "average")
PER_ROW = ("activations", "logits", "logit_gradients")
DAY, HOUR = 86_400.0, 3_600.0


@dataclass(frozen=True)
class Card:
    """A kind of GPU.

    Attributes:
        memory: bytes.
        flops_per_second: dense bf16 peak.
    """

    name: str
    memory: float
    flops_per_second: float

    @property
    def usable(self) -> float:
        """Bytes that a plan may count on."""
        return USABLE * self.memory


@dataclass(frozen=True)
class Layout:
    """How a step's rows are spread.

    Attributes:
        gpus: of the run.
        rows: that a GPU has at once.
        passes: of a step, one after the other (gradient accumulation).
        sharded: weights, gradients, moments and averages over all GPUs (FSDP), else whole (DDP).
        recompute: activation checkpointing.
    """

    gpus: int
    rows: int
    passes: int
    sharded: bool
    recompute: bool

    @property
    def strategy(self) -> str:
        """In words."""
        one = "one GPU" if self.gpus == 1 else "FSDP" if self.sharded else "DDP"
        return f"{one}, recomputing" if self.recompute else one


class ArmMemory:
    """Memory of one arm, for any number of rows and shards."""

    def __init__(self, config: StudyConfig, arm: StudyArm) -> None:
        at, data = nominal_pass(config.data, arm, 1), config.data.interface()
        # Of one row and two shards, activations kept and computed again.
        self._counted = {again: arm_memory(arm, data, at, 2, again) for again in (False, True)}

    def at(self, rows: int, shards: int, recompute: bool) -> MemoryParts:
        """Of one of so many GPUs, each with so many rows at once.

        What is sharded falls with one over the shards, what is kept of a pass grows with the rows,
        nothing else depends on either, but that one shard gathers nothing: so one row on two shards
        is counted, and the others follow.
        """
        counted = self._counted[recompute]
        parts = {name: 2 * getattr(counted, name) / shards for name in PER_SHARD}
        parts |= {name: rows * getattr(counted, name) for name in PER_ROW}
        return replace(counted, **parts, gathered=counted.gathered if shards > 1 else 0.0)

    def of(self, layout: Layout) -> MemoryParts:
        """Of one GPU of a layout."""
        shards = layout.gpus if layout.sharded else 1
        return self.at(layout.rows, shards, layout.recompute)


@dataclass(frozen=True)
class Row:
    """One row of the paper's tables.

    Attributes:
        name: of its configuration.
        config: that file.
        rows_per_gpu, gpus: the paper's.
    """

    name: str
    config: StudyConfig
    rows_per_gpu: int
    gpus: int

    @classmethod
    def read(cls, name: str) -> "Row":
        """The row of ``experiments/paper/NAME.yaml``, whose comment says the paper's layout."""
        path = PAPER / f"{name}.yaml"
        found = LAYOUT.search(path.read_text())
        if found is None:
            raise ValueError(f"{path}: no 'rows: N  # R on each of G GPUs'")
        rows, per_gpu, gpus = map(int, found.groups())
        if rows != per_gpu * gpus:
            raise ValueError(f"{path}: rows {rows} are not {per_gpu} on each of {gpus} GPUs")
        return cls(name, load_study(path), per_gpu, gpus)

    @property
    def rows(self) -> int:
        """Of a step, on all GPUs together."""
        return self.config.data.rows

    @property
    def tokens(self) -> int:
        """Of a step."""
        return self.rows * self.config.data.row_length

    @cached_property
    def costs(self) -> Mapping[str, ArmCost]:
        """By arm."""
        data, workload = self.config.data.interface(), nominal_workload(self.config.data)
        return {arm.name: arm_cost(arm, data, workload) for arm in self.config.parsed_arms}

    @cached_property
    def memory(self) -> Mapping[str, ArmMemory]:
        """By arm."""
        return {arm.name: ArmMemory(self.config, arm) for arm in self.config.parsed_arms}

    @property
    def papers(self) -> Layout:
        """Full sharding, which the paper says, over its GPUs."""
        return Layout(self.gpus, self.rows_per_gpu, 1, True, False)

    def layout(self, gpus: int, card: Card) -> Layout | None:
        """The first way that all arms fit by: one way for all, or their seconds are not compared.

        Keeping activations before computing them again, many rows at once before few, up to the
        paper's, whole weights before sharded ones. None where none fits.
        """
        for recompute in (False, True):
            for rows in self._rows_at_once(gpus):
                passes = self.rows // (gpus * rows)
                for sharded in (False, True) if gpus > 1 else (False,):
                    layout = Layout(gpus, rows, passes, sharded, recompute)
                    if self.largest(layout) <= card.usable:
                        return layout
        return None

    def largest(self, layout: Layout) -> float:
        """Bytes of the largest arm on one GPU."""
        return max(arm.of(layout).total for arm in self.memory.values())

    def _rows_at_once(self, gpus: int) -> Sequence[int]:
        """From many to one; none where the GPUs do not divide the rows."""
        own, left = divmod(self.rows, gpus)
        if left:
            return []
        return [each for each in reversed(_divisors(own)) if each <= self.rows_per_gpu]

    def least_gpus(self, arm: str, card: Card) -> int:
        """The fewest, of those that divide the rows, that can train one arm at all: one row at
        once, activations computed again, everything sharded.
        """
        for gpus in _divisors(self.rows):
            if self.memory[arm].at(1, gpus, recompute=True).total <= card.usable:
                return gpus
        raise ValueError(f"{self.name}: {arm} fits on no number of {card.name}")

    def seconds(self, arm: str, layout: Layout, card: Card, utilisation: float) -> float:
        """Of the whole run: its FLOPs over what the GPUs do, a third more where a pass is made
        again.
        """
        flops = self.costs[arm].flops_per_step * self.config.training.steps
        if layout.recompute:
            flops *= RECOMPUTED
        return flops / (layout.gpus * card.flops_per_second * utilisation)


def _divisors(number: int) -> Sequence[int]:
    return [each for each in range(1, number + 1) if number % each == 0]
