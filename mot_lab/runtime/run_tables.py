"""A run's ``evaluation.json`` as MLflow shows it best: numbers to plot across arms, tables with
pictures in them. Pure functions; ``evaluation_sending`` sends what they return.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mot_lab.runtime.mlflow_names import LONGEST, from_words

METRIC_COLUMNS = ("name", "value", "low", "high", "n", "extractor", "ceiling", "floor", "note")


def evaluation_metrics(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """``eval/CIDEr`` and so on: one number per metric that has a value.

    Metrics of one name, measured by several networks, bear the network's name as well. Losses
    under training and under causal routing, and the leak between them, are ``routing/*``.
    """
    metrics = evaluation.get("metrics") or ()
    times = Counter(metric["name"] for metric in metrics)
    values: dict[str, float] = {}
    for metric in metrics:
        name = metric["name"]
        words = name if times[name] == 1 else f"{name} {metric['extractor']}"
        if metric["value"] is not None:
            values[f"eval/{from_words(words)}"[:LONGEST]] = metric["value"]
    for loss in (evaluation.get("routing") or {}).get("losses", ()):
        start = f"routing/{from_words(loss['modality'])} {from_words(loss['split'])}"
        values[f"{start} training"] = loss["training"]
        values[f"{start} causal"] = loss["causal"]
        values[f"{start} leak"] = loss["causal"] - loss["training"]
    return values


def evaluation_tables(evaluation: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Tables by name, in the layout of ``mlflow.log_table``: columns and rows.

    ``samples`` has its pictures in it: cells that name an artifact of the run.
    """
    routing = evaluation.get("routing") or {}
    rows = {
        "evaluation": [
            {column: metric.get(column) for column in METRIC_COLUMNS}
            for metric in evaluation.get("metrics") or ()
        ],
        "samples": [_sample_row(sample) for sample in evaluation.get("samples") or ()],
        "routing_losses": routing.get("losses", ()),
        "experts": routing.get("experts", ()),
        "causality": evaluation.get("causality") or (),
    }
    return {name: _table(each) for name, each in rows.items() if each}


def _sample_row(sample: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"prompt": sample["prompt"]}
    for kind in ("generated", "reference"):
        path = sample.get(kind)
        picture = {"type": "image", "filepath": path, "compressed_filepath": path}
        row[kind] = picture if path else None
    row["caption"] = sample.get("caption")
    return row


def _table(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return {"columns": columns, "data": [[row.get(column) for column in columns] for row in rows]}
