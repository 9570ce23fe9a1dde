"""The slopes of a study at a glance, and time matching at stated step-time ratios."""

from evaluation.figures.intervals import main_interval
from evaluation.figures.losses import CURVE_TITLES
from evaluation.figures.slopes import other_arms, slope_rows
from evaluation.report.blocks import Block, Picture, Table, Text
from evaluation.wording import LEAK_NOTE, Cell, Numbers, marked, show

SLOPES = Picture(
    "slopes",
    "Which arm needs how much of the baseline's steps, per modality",
    "Left of the dashed line an arm needs fewer steps than the baseline for the same loss; the "
    "slope stands at the right of its line.",
    "Bars are the intervals of the table, and an arrowhead marks one that goes on; a cross is a "
    "slope that there is not, for the arm reached no loss of the baseline.",
)
WALL_CLOCK = Picture(
    "wall_clock",
    "Losses over seconds, and time to the same loss",
    "Left of the dashed line an arm needs less time than the baseline for the same loss.",
    "Filled markers use the seconds per step measured on the machine named below, hollow ones the "
    "step-time ratio written beside them.",
)


def slope_blocks(numbers: Numbers) -> list[Block]:
    """The slopes in one picture and one table; nothing for a baseline alone."""
    return [SLOPES, slopes_table(numbers)] if other_arms(numbers) else []


def slopes_table(numbers: Numbers) -> Table:
    """A row per modality and loss, the slope of every arm in a column."""
    arms = other_arms(numbers)
    columns = ["loss"]
    for arm in arms:
        columns += [marked(numbers, arm), f"{arm}: interval"]
    rows: list[list[Cell]] = []
    for curve in ("val", "train"):
        for modality in numbers["modalities"]:
            found = slope_rows(numbers["matching"], modality, curve, "steps")
            cells: list[Cell] = [f"{modality}, {CURVE_TITLES[curve]}"]
            for arm in arms:
                low, high, _ = main_interval(found[arm])
                slope = found[arm]["slope"]
                cells += ["never reached" if slope is None else slope]
                cells += [(low, high)]  # type: ignore[list-item]  # both or neither
            rows.append(cells)
    leaks = any(numbers["arms"][arm]["loss_sees_other_tokens"] for arm in arms)
    over = "seeds" if len(numbers["seeds"]) > 1 else "the points of the curves"
    title = f"Slopes in steps, modality by arm (intervals over {over})"
    return Table("slopes", title + (f" ({LEAK_NOTE})" if leaks else ""), columns, rows)


def wall_clock_blocks(numbers: Numbers) -> list[Block]:
    """Time matching in one picture, with what it would be at the study's stated ratios."""
    if not other_arms(numbers):
        return []
    stated = [
        f"{arm} {show(ratio)}x (measured here: {show(numbers['arms'][arm]['seconds_ratio'])}x)"
        for arm, ratio in numbers["step_time_ratios"].items()
    ]
    if not stated:
        return [WALL_CLOCK]
    said = (
        "Step-time ratios stated in the study, in steps of the baseline: "
        f"{', '.join(stated)}. Rows and markers that bear a ratio say what time matching would be "
        "if a step took so long; nothing in them was timed."
    )
    return [WALL_CLOCK, Text(said)]
