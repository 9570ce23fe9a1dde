"""``report.json`` of several studies side by side, from the ``report.json`` of each.

Arms are aligned by name, metrics by name and extractor. What is the same in all studies is not
repeated; what differs is listed, with what it makes incomparable.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from evaluation.wording import Numbers
from mot_lab.runtime.plain_files import parse_yaml

SCHEMA = 1  # of this report.json: raised when a field changes its meaning or goes
LETTERS = "ABCDE"

HARDWARE = ("cpu", "gpu", "cores", "threads", "precision", "parallel_runs")
SAME_DATA = ("setting", "tokens_per_step", "tokenizers", "config.data")
NEEDED = {  # what must be the same (or all below it) for the studies' figures to be comparable
    "slope": ("baseline", "steps", "warmup_steps", *SAME_DATA),
    "loss": ("steps", *SAME_DATA),
    "metric": ("steps", "setting", "config.data", "config.evaluation"),
    "seconds": tuple(f"environment.{part}" for part in HARDWARE),
}
NAMED = {
    "slope": "Slopes and end ratios",
    "loss": "Final losses",
    "metric": "Metrics",
    "seconds": "Seconds",
}
COSTS = ("parameters", "active_parameters", "flops_per_step", "seconds_per_step")
SLOPES = (
    *("slope", "slope_low", "slope_high", "points_low", "points_high"),
    *("end_ratio", "end_ratio_low", "end_ratio_high", "reached", "seeds_reached", "seeds"),
)
SETTINGS = (
    *("setting", "baseline", "seeds", "steps", "warmup_steps", "tokens_per_step"),
    *("tokenizers", "evaluators", "environment"),
)


def pair_numbers(reports: Sequence[Numbers]) -> dict[str, Any]:
    """The content of ``report.json`` of the studies side by side.

    Args:
        reports: the content of each study's ``report.json``, two to five of them; they are called
            A, B, C, .. in this order.

    Raises:
        ValueError: too few or too many studies, or they have no arm in common.
    """
    if not 2 <= len(reports) <= len(LETTERS):
        raise ValueError(f"{len(reports)} studies: from 2 to {len(LETTERS)} stand side by side")
    studies = dict(zip(LETTERS, reports, strict=False))
    arms = list(dict.fromkeys(arm for report in reports for arm in report["arms"]))
    modalities = list(dict.fromkeys(of for report in reports for of in report["modalities"]))
    shared = [arm for arm in arms if all(arm in report["arms"] for report in reports)]
    if not shared:
        having = "; ".join(f"{key}: {', '.join(of['arms'])}" for key, of in studies.items())
        raise ValueError(f"the studies have no arm in common ({having})")
    differences = _differences(studies)
    differing = {kind: _differing(differences, needed) for kind, needed in NEEDED.items()}
    return {
        "schema": SCHEMA,
        "studies": {key: _study(report) for key, report in studies.items()},
        "arms": shared,
        "arms_of_some": [arm for arm in arms if arm not in shared],
        "modalities": modalities,
        "not_comparable": _not_comparable(studies, differing, shared),
        "comparable": {kind: not paths for kind, paths in differing.items()},
        "slopes": _aligned(studies, "matching", ("arm", "modality", "curve", "axis"), SLOPES),
        "losses": _aligned(
            studies, "losses", ("arm", "modality", "curve"), ("value", "low", "high", "seeds")
        ),
        "metrics": _aligned(
            studies,
            "metrics",
            ("arm", "name", "extractor"),
            ("value", "low", "high", "interval_over", "n", "ceiling", "floor"),
        ),
        "costs": [
            {
                "arm": arm,
                "of": {
                    key: {cost: report["arms"][arm][cost] for cost in COSTS}
                    if arm in report["arms"]
                    else None
                    for key, report in studies.items()
                },
            }
            for arm in arms
        ],
        "differences": differences,
    }


def _study(report: Numbers) -> dict[str, Any]:
    keys = ("study", "setting", "baseline", "seeds", "steps", "alerts", "notes")
    leaking = [arm for arm, facts in report["arms"].items() if facts["loss_sees_other_tokens"]]
    return {
        **{key: report[key] for key in keys},
        "arms": list(report["arms"]),
        "loss_sees_other_tokens": leaking,
    }


def _aligned(
    studies: Mapping[str, Numbers], table: str, by: Sequence[str], kept: Sequence[str]
) -> list[dict[str, Any]]:
    """Rows that agree in ``by``, once, with what each study says; None where it has no such row."""
    rows: dict[tuple[Hashable, ...], dict[str, dict[str, Any] | None]] = {}
    for key, report in studies.items():
        for row in report[table]:
            place = tuple(row[name] for name in by)
            mine = {name: row[name] for name in kept}
            rows.setdefault(place, dict.fromkeys(studies, None))[key] = mine
    return [{**dict(zip(by, place, strict=True)), "of": of} for place, of in rows.items()]


def _differences(studies: Mapping[str, Numbers]) -> list[dict[str, Any]]:
    """Every setting that is not the same in all studies; None where a study does not have it."""
    facts = {key: dict(_flat(_settings(report))) for key, report in studies.items()}
    names = dict.fromkeys(name for of in facts.values() for name in of)
    rows: list[dict[str, Any]] = [
        {"what": name, "of": {key: facts[key].get(name) for key in studies}} for name in names
    ]
    return [row for row in rows if len({repr(value) for value in row["of"].values()}) > 1]


def _settings(report: Numbers) -> dict[str, Any]:
    settings = {key: report[key] for key in SETTINGS}
    return {**settings, "config": parse_yaml(report["config"], "config of the report")}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names of what lies inside, and its values; lists are written out."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        yield path, ", ".join(map(str, value))
    else:
        yield path, value


def _differing(differences: Sequence[Mapping[str, Any]], needed: Sequence[str]) -> list[str]:
    """The names of the differences that are among ``needed``, or lie below one of them."""
    return [
        row["what"]
        for row in differences
        if any(row["what"] == name or row["what"].startswith(f"{name}.") for name in needed)
    ]


def _not_comparable(
    studies: Mapping[str, Numbers], differing: Mapping[str, Sequence[str]], shared: Sequence[str]
) -> list[str]:
    """One sentence for everything that stands side by side and yet must not be compared."""
    said = [
        f"{NAMED[kind]} are not comparable: the studies differ in {', '.join(paths)} (see the list "
        "of differences)."
        for kind, paths in differing.items()
        if paths
    ]
    for arm in shared:
        told: dict[str, str] = {
            key: report["arms"][arm]["description"] for key, report in studies.items()
        }
        if len(set(told.values())) > 1:
            each = "; ".join(f"{key}: {what}" for key, what in told.items())
            said.append(f"{arm} is not the same arm in all studies ({each}).")
    return said + _only_in_some(studies)


def _only_in_some(studies: Mapping[str, Numbers]) -> list[str]:
    said = []
    for key, report in studies.items():
        others = [of for other, of in studies.items() if other != key]
        arms = [arm for arm in report["arms"] if not any(arm in of["arms"] for of in others)]
        if arms:
            said.append(f"Only {key} has {', '.join(arms)}.")
        theirs = {(row["name"], row["extractor"]) for of in others for row in of["metrics"]}
        mine = dict.fromkeys((row["name"], row["extractor"]) for row in report["metrics"])
        if alone := [f"{name} ({by})" for name, by in mine if (name, by) not in theirs]:
            said.append(f"Only {key} measured {', '.join(alone)}.")
    return said
