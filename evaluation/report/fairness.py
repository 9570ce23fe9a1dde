"""Were the arms trained alike? The first page's answer, and the section with every check."""

from evaluation.numbers.notes import by_value
from evaluation.report.blocks import Block, Table, Text
from evaluation.wording import Cell, Numbers

NOT_CHECKED = (
    "This study was made by a version that did not verify that the arms are trained alike; "
    "compare the tables by hand."
)
HOW = (
    "Before the first step the study verified for every arm what is listed here; had one rule been "
    "broken, it would have refused to start unless told to go on. Where all arms share a value it "
    "stands there once."
)
ROUTERS = (
    "The routers of the experts are outside the check of FLOPs per step and are listed here. They "
    "are a share of the baseline's FLOPs per step."
)


def equality(numbers: Numbers) -> str:
    """Whether the arms are equal, in a sentence for the first page."""
    fairness = numbers["fairness"]
    if fairness is None:
        return NOT_CHECKED
    if not fairness["equal"]:
        return "The arms are not equal in everything that was checked: see the warning above."
    return (
        "The arms are equal in everything that was checked before the study started; the next "
        "section lists every check."
    )


def fairness_blocks(numbers: Numbers) -> list[Block]:
    """The section: every check with the arms' values, and the routers' FLOPs apart."""
    fairness = numbers["fairness"]
    if fairness is None:
        return [Text(NOT_CHECKED)]
    columns = ["what", "value", "rule", "rule kept"]
    checks: list[list[Cell]] = [
        [check["what"], by_value(check["values"]), check["rule"], check["equal"]]
        for check in fairness["checks"]
    ]
    blocks: list[Block] = [
        Text(HOW),
        Table("fairness", "Checks of fairness", columns, checks),
    ]
    flops = fairness["router_flops_per_step"]
    if any(flops.values()):
        percent = fairness["router_percent_of_baseline_flops"]
        columns = ["arm", "router FLOPs per step", f"% of the FLOPs of {numbers['baseline']}"]
        rows: list[list[Cell]] = [[arm, float(flops[arm]), percent[arm]] for arm in flops]
        blocks += [Text(ROUTERS), Table("router_flops", "FLOPs of the routers", columns, rows)]
    return blocks
