"""The section of a report that sets the paper's slopes beside the study's own."""

from evaluation.figures.intervals import main_interval
from evaluation.paper.numbers import PLACE, figure_name, own_slope, series
from evaluation.report.blocks import Block, Picture, Points, Section, Table, Text
from evaluation.wording import Cell, Numbers, marked

TITLE = "Beside the paper"
HOW = (
    "Slopes that the paper prints (arXiv 2411.04996), of its models, its data and its training, "
    "beside those of this study. They answer the same question at another size: equal numbers are "
    "not to be expected, the same order of the arms may be. The paper has no seeds and no "
    "intervals, and does not say how it computes a slope."
)
FIGURE = Picture(
    "paper_slopes",
    "Slopes of this study beside the paper's",
    "Filled markers are this study, hollow ones the paper at the size that stands beside them; "
    "left of the dashed line an arm needs less than dense.",
    "Slopes of this study are means over seeds with intervals, those of the paper as printed.",
)
NOTHING_PRINTED = "None of the paper's printed slopes is of an arm and a modality of this study."


def paper_sections(numbers: Numbers) -> list[Section]:
    """One section where the study names figures of the paper, else none."""
    paper = numbers["paper"]
    if not paper["figures"]:
        return []
    said = [
        " ".join([f"{figure_name(each['figure']).capitalize()}: {each['shows']}.", *each["facts"]])
        for each in paper["figures"]
    ]
    blocks: list[Block] = [Text(HOW), Points(said)]
    if paper["left_out"]:
        blocks.append(Text(f"In the paper but not in this study: {', '.join(paper['left_out'])}."))
    drawn: list[Block] = [FIGURE, paper_table(numbers)]
    blocks += drawn if paper["slopes"] else [Text(NOTHING_PRINTED)]
    return [Section("paper", TITLE, blocks)]


def paper_table(numbers: Numbers) -> Table:
    """A line per slope of the paper, with the study's own."""
    columns = ["arm", "modality", "curve", "axis", "this study", "interval", "interval over"]
    columns += ["the paper", "its model", "figure"]
    rows: list[list[Cell]] = []
    for row in numbers["paper"]["slopes"]:
        ours = own_slope(numbers, row)
        cells: list[Cell] = [marked(numbers, row["arm"]), *(row[key] for key in PLACE[1:])]
        cells += ["never reached" if ours["slope"] is None else ours["slope"]]
        low, high, over = main_interval(ours)
        cells += [(low, high), over]  # type: ignore[list-item]  # both or neither
        cells += [row["slope"], series(row), figure_name(row["figure"])]
        rows.append(cells)
    return Table("paper_slopes", "The paper's slopes beside this study's", columns, rows)
