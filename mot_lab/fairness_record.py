"""The checks of a comparison: what they found, printed, refused or put on record."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

EQUAL = "equal"


@dataclass(frozen=True)
class Check:
    """One thing that a fair comparison holds equal.

    Attributes:
        what: is compared.
        values: by arm.
        rule: when they count as equal.
        faults: what breaks the rule, each naming the arm and both values.
    """

    what: str
    values: Mapping[str, str | float]
    rule: str
    faults: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether the rule is kept."""
        return not self.faults


def same(what: str, values: Mapping[str, str | float], baseline: str, rule: str = EQUAL) -> Check:
    """A check that every arm has exactly the baseline's value."""
    faults = tuple(
        f"{arm} has {value}, {baseline} has {values[baseline]}"
        for arm, value in values.items()
        if value != values[baseline]
    )
    return Check(what, values, rule, faults)


def listed(what: str, values: Mapping[str, str | float]) -> Check:
    """Values that a reader must know and that need not be equal."""
    return Check(what, values, "listed, need not be equal")


@dataclass(frozen=True)
class Fairness:
    """All checks of a study.

    Attributes:
        checks: in the order in which they are shown.
        router_flops_per_step: by arm; left aside where FLOPs are compared.
    """

    checks: tuple[Check, ...]
    router_flops_per_step: Mapping[str, float]

    @property
    def equal(self) -> bool:
        """Whether the arms are compared on equal terms."""
        return all(check.equal for check in self.checks)

    def require_equal(self) -> None:
        """Raises ValueError that names everything that differs, the arms and their values."""
        faults = [f"{check.what}: {fault}" for check in self.checks for fault in check.faults]
        if faults:
            raise ValueError(
                f"the arms are not compared on equal terms ({'; '.join(faults)}): make them equal, "
                "or say --allow-unequal, and the report says it on its first page"
            )

    def record(self, allowed_unequal: bool) -> dict[str, Any]:
        """For ``study.json``."""
        return {
            "equal": self.equal,
            "allowed_unequal": allowed_unequal,
            "checks": [
                {
                    "what": check.what,
                    "values": dict(check.values),
                    "equal": check.equal,
                    "rule": check.rule,
                }
                for check in self.checks
            ],
            "router_flops_per_step": dict(self.router_flops_per_step),
        }

    def table(self) -> Table:
        """For the terminal; one value stands for all arms that share it."""
        table = Table("", "compared", "values", "rule", title="Fairness of the comparison")
        for check in self.checks:
            mark = "[green]=[/]" if check.equal else "[bold red]differs[/]"
            table.add_row(mark, check.what, _values(check.values), check.rule)
        if any(self.router_flops_per_step.values()):
            routers = _values(self.router_flops_per_step)
            table.add_row("", "FLOPs of experts' routers per step", routers, "listed")
        return table


def _values(values: Mapping[str, str | float]) -> str:
    arms: dict[str | float, list[str]] = {}
    for arm, value in values.items():
        arms.setdefault(value, []).append(arm)
    if len(arms) == 1:
        return _number(next(iter(arms)))
    return "\n".join(f"{', '.join(names)}: {_number(value)}" for value, names in arms.items())


def _number(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
