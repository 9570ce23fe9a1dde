"""The plan for the paper's sizes as Markdown: the tables, set into ``template.md``."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from string import Template

from benchmarks.scaling.plan import DAY, HOUR, RECOMPUTED, USABLE, Card, Layout, Row
from mot_lab.utilisation import listed_peak

TEMPLATE = Path(__file__).parent / "template.md"
ROWS = {
    "chameleon": [f"chameleon_{size}" for size in ("37m", "94m", "443m", "1.5b", "7b")],
    "speech": [f"chameleon_speech_{size}" for size in ("443m", "880m", "1.5b", "7b")],
    "transfusion": [f"transfusion_{size}" for size in ("163m", "760m", "1.4b", "7b")],
}
# Of the 7B of Table 1: time slopes of figure 19 over step slopes of figure 6.
PAPERS_RATIOS = {"mot": 1.36, "moe_4x": 1.69}
FEW = 8  # GPUs of one machine
SHARDS = (8, 32, 128)
PARTS = ("weights", "gradients", "optimiser", "averages", "bf16 copies", "gathered")
STATE = 16  # bytes a parameter: weights, two moments, averages, in fp32


def _card(name: str, device: str, memory: float) -> Card:
    peak = listed_peak(device, "bf16")
    assert peak is not None
    return Card(name, memory, peak.flops_per_second)


A100 = _card("A100 80 GB", "NVIDIA A100-SXM4-80GB", 80e9)
H100 = _card("H100 80 GB", "NVIDIA H100 80GB HBM3", 80e9)
H200 = _card("H200 141 GB", "NVIDIA H200", 141e9)


def document(utilisation: float) -> str:
    """The whole of ``docs/scaling.md``.

    Args:
        utilisation: model-FLOP utilisation that times are computed with, above 0, at most 1.
    """
    tables = {setting: [Row.read(name) for name in names] for setting, names in ROWS.items()}
    largest = tables["chameleon"][-1]
    seconds = largest.seconds("dense", largest.papers, A100, utilisation)
    values = {
        "usable": f"{USABLE:.0%}",
        "utilisation": f"{utilisation:.0%}",
        "slowed": f"{1 / RECOMPUTED:.0%}",
        "shards": ", ".join(map(str, SHARDS)),
        "papers_gpus": str(largest.gpus),
        "dense_days": _days(seconds),
        "mot_days": _days(seconds * PAPERS_RATIOS["mot"]),
        "moe_days": _days(seconds * PAPERS_RATIOS["moe_4x"]),
        "mot_ratio": f"{PAPERS_RATIOS['mot']}",
        "moe_ratio": f"{PAPERS_RATIOS['moe_4x']}",
    }
    for setting, rows in tables.items():
        values[f"costs_{setting}"] = _costs(rows, utilisation)
        values[f"layouts_{setting}"] = _layouts(rows, utilisation)
        values[f"memory_{setting}"] = "\n\n".join(map(_memory, rows))
    return Template(TEMPLATE.read_text()).substitute(values)


def _costs(rows: Sequence[Row], utilisation: float) -> str:
    head = (
        *("row", "arm", "parameters", "PFLOPs a step", "tokens a step", "steps", "paper's GPUs"),
        *("least of 80 GB", "least of 141 GB", "A100 hours", "days, A100", "days, H100"),
        "checkpoint",
    )
    lines = []
    for row in rows:
        for arm, cost in row.costs.items():
            a100, h100 = (row.seconds(arm, row.papers, card, utilisation) for card in (A100, H100))
            lines.append(
                (
                    _size(row),
                    f"`{arm}`",
                    _short(cost.parameters),
                    f"{cost.flops_per_step / 1e15:,.3g}",
                    f"{row.tokens / 1e6:.2f}M",
                    f"{row.config.training.steps // 1000}k",
                    str(row.gpus),
                    str(row.least_gpus(arm, A100)),
                    str(row.least_gpus(arm, H200)),
                    f"{row.gpus * a100 / HOUR:,.0f}",
                    _days(a100),
                    _days(h100),
                    f"{STATE * cost.parameters / 1e9:,.1f} GB",
                )
            )
    return _table(head, lines)


def _layouts(rows: Sequence[Row], utilisation: float) -> str:
    head = (
        *("row", "GPUs", "strategy", "rows at once", "passes", "tokens at once", "largest"),
        *("tokens/s a GPU", "days"),
    )
    lines = []
    for row in rows:
        for gpus, card in ((row.gpus, A100), (FEW, A100), (FEW, H100), (FEW, H200)):
            layout = row.layout(gpus, card)
            cells = ("does not fit", *["–"] * 6)
            if layout is not None:
                cells = _layout(row, layout, row.seconds("dense", layout, card, utilisation))
            lines.append((_size(row), f"{gpus} × {card.name}", *cells))
    return _table(head, lines)


def _layout(row: Row, layout: Layout, seconds: float) -> tuple[str, ...]:
    return (
        layout.strategy,
        str(layout.rows),
        str(layout.passes),
        f"{layout.rows * row.config.data.row_length:,}",
        f"{row.largest(layout) / 1e9:.1f} GB",
        f"{row.tokens * row.config.training.steps / seconds / layout.gpus:,.0f}",
        _days(seconds),
    )


def _memory(row: Row) -> str:
    head = (
        *(_size(row), *PARTS, "kept", "again", "logits", "sum, kept", "sum, again"),
        *(f"{shards} shards" for shards in SHARDS),
        "DDP",
    )
    lines = []
    for arm, memory in row.memory.items():
        kept, again = (
            memory.at(row.rows_per_gpu, row.gpus, recompute) for recompute in (False, True)
        )
        spread = [memory.at(row.rows_per_gpu, shards, True).total for shards in (*SHARDS, 1)]
        numbers = [
            *list(asdict(kept).values())[: len(PARTS)],
            kept.activations,
            again.activations,
            kept.logits + kept.logit_gradients,
            kept.total,
            again.total,
            *spread,
        ]
        lines.append((f"`{arm}`", *map(_gigabytes, numbers)))
    what = f"{row.rows_per_gpu} rows of {row.config.data.row_length:,} on each of {row.gpus} GPUs"
    return f"{_size(row)}, {what}:\n\n{_table(head, lines)}"


def _size(row: Row) -> str:
    return row.name.rpartition("_")[2].upper()


def _short(number: float) -> str:
    return f"{number / 1e9:.2f}B" if number >= 1e9 else f"{number / 1e6:.1f}M"


def _days(seconds: float) -> str:
    days = seconds / DAY
    return f"{days:.2f}" if days < 1 else f"{days:.1f}" if days < 10 else f"{days:.0f}"


def _gigabytes(number: float) -> str:
    digits = 3 if number < 1e8 else 2 if number < 1e10 else 1
    return f"{number / 1e9:.{digits}f}"


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(each)} |" for each in (head, rule, *lines))
