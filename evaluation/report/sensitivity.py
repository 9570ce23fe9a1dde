"""The appendix on how settled the slopes are: every slope under other ways of making it."""

from evaluation.report.blocks import Block, Picture, Table, Text
from evaluation.wording import Cell, Numbers, marked

HOW = (
    "The slope of step matching depends on how noisy curves are made monotone, on where the "
    "warm-up is cut off, and on whether it is fitted to all points or read at the end. Here every "
    "slope is made in other ways too, and the least and the greatest of them stand beside it. A "
    "slope whose range is narrow beside its interval is settled; one whose range is wide is not."
)
NOTHING = "No slope was varied."
FIGURE = Picture(
    "sensitivity",
    "How settled are the slopes",
    "An arm whose points stand below one another has a slope that does not depend on how it was "
    "made; the first row is the way of the rest of the report.",
    "Slopes of step matching on the validation loss, means over seeds with intervals over seeds.",
)


def sensitivity_blocks(numbers: Numbers) -> list[Block]:
    """The appendix: a table of ranges, the figure, and every way in a long table."""
    if not numbers["sensitivity"]:
        return [Text(NOTHING)]
    return [Text(HOW), FIGURE, _ranges(numbers), _variants(numbers)]


def _ranges(numbers: Numbers) -> Table:
    columns = ["arm", "modality", "curve", "slope", "slope over seeds"]
    columns += ["least", "least made by", "greatest", "greatest made by"]
    columns += ["ways", "ways without a slope"]
    rows: list[list[Cell]] = [
        [
            marked(numbers, row["arm"]),
            row["modality"],
            row["curve"],
            row["value"],
            (row["low"], row["high"]),
            *(row[key] for key in ("least", "least_way", "greatest", "greatest_way")),
            row["ways"],
            row["ways_without_slope"],
        ]
        for row in numbers["slope_ranges"]
    ]
    return Table("slope_ranges", "Slopes of step matching, made in other ways", columns, rows)


def _variants(numbers: Numbers) -> Table:
    columns = ["arm", "modality", "curve", "smoothing", "warm-up steps", "estimate"]
    columns += ["slope", "over seeds", "the report's own"]
    keys = ("modality", "curve", "smoothing", "warmup_steps", "estimate", "value")
    rows: list[list[Cell]] = [
        [
            marked(numbers, row["arm"]),
            *(row[key] for key in keys),
            (row["low"], row["high"]),
            row["is_default"],
        ]
        for row in numbers["sensitivity"]
    ]
    return Table("sensitivity", "Every way of making a slope", columns, rows, folded=True)
