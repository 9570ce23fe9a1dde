"""What the runs cost as they trained: a table, and how to read it."""

from evaluation.report.blocks import Block, Table, Text
from evaluation.wording import Cell, Numbers

COLUMNS = {
    "seconds_per_step": ("seconds per step", 1.0),
    "tokens_per_second": ("tokens per second", 1.0),
    "model_flop_utilisation": ("model-FLOP utilisation, %", 100.0),
    "peak_memory_gb": ("peak memory, GB", 1.0),
    "waiting_share": ("waiting for data, %", 100.0),
    "compile_seconds": ("compilation, s", 1.0),
}
RUNS_TEXT = (
    "What the runs cost as they trained, means over seeds. Unlike the seconds of the table above, "
    "which are of a step alone with the arms taking turns, these are of whole runs, data included, "
    "beside whatever else the machine was doing, other runs among it: compare arms by the table "
    "above. Utilisation is the FLOPs that a step needs (masked attention) over the seconds of the "
    "median step and the peak of the hardware. Peak memory is that of tensors on a GPU, on the CPU "
    "the whole process with its libraries. Compilation is what a run's first steps took more than "
    "as many median ones, allocation and other beginnings included."
)
NONE_LOGGED = "The runs were trained by an earlier version, which did not log what they cost."


def run_cost_blocks(numbers: Numbers) -> list[Block]:
    """The table with its explanation; a sentence where the runs logged nothing."""
    runs = numbers["run_costs"]
    if not any(facts["costs"] for facts in runs.values()):
        return [Text(NONE_LOGGED)]
    peaks = dict.fromkeys(facts["peak"] for facts in runs.values() if facts["peak"])
    said = f" The peak: {'; '.join(peaks)}." if peaks else ""
    return [Text(RUNS_TEXT + said), run_costs_table(numbers)]


def run_costs_table(numbers: Numbers) -> Table:
    """A row per arm."""
    columns = ["arm", *(column for column, _ in COLUMNS.values()), "seeds"]
    rows: list[list[Cell]] = []
    for arm, facts in numbers["run_costs"].items():
        costs = facts["costs"]
        cells: list[Cell] = [
            costs[name]["value"] * factor if name in costs else None
            for name, (_, factor) in COLUMNS.items()
        ]
        seeds = max((each["seeds"] for each in costs.values()), default=0)
        rows.append([arm, *cells, seeds])
    return Table("run_costs", "What the runs cost as they trained", columns, rows)
