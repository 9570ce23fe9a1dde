"""What makes a comparison defensible: fairness, the leak, causality, and how settled slopes are."""

import csv
import math
from dataclasses import replace
from typing import Any

import pytest
from synthetic_evaluation import EXPERTS, LAYERS, POSITIONS, routing

from evaluation.bootstrap import seed_interval
from evaluation.numbers.sensitivity import slope_ranges
from evaluation.numbers.study import report_numbers
from evaluation.report.blocks import Alert, Points, Table
from evaluation.report.content import report_sections
from evaluation.report.fairness import NOT_CHECKED
from evaluation.report.tables import to_csv
from evaluation.store.study_record import StudyRecord


@pytest.fixture(scope="module")
def numbers(study: StudyRecord) -> dict[str, Any]:
    return report_numbers(study)


def tables(numbers: dict[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Every table of the report as its CSV file has it."""
    sections = report_sections(numbers, {})
    found = [block for one in sections for block in one.blocks if isinstance(block, Table)]
    return {one.name: list(csv.DictReader(to_csv(one).splitlines())) for one in found}


def first_page(numbers: dict[str, Any]) -> tuple[list[str], str]:
    """The warnings of the summary, and all of its text."""
    blocks = report_sections(numbers, {})[0].blocks
    warnings = [block.body for block in blocks if isinstance(block, Alert)]
    return warnings, " ".join(getattr(block, "body", "") for block in blocks)


def test_equal_arms_are_said_to_be_equal(numbers) -> None:
    warnings, text = first_page(numbers)
    assert warnings == []
    assert "The arms are equal in everything that was checked" in text
    rows = tables(numbers)["fairness"]
    assert [(row["what"], row["value"]) for row in rows] == [
        ("order of the batches", "5f2c9ad1"),
        ("text tokens per step", "1500"),
        ("image tokens per step", "1024"),
        ("FLOPs per step", "250000000000.0"),
        ("total parameters", "dense: 1,000,000; moe_4x: 2,000,000; mot: 3,000,000"),
    ]
    assert all(row["rule kept"] == "True" for row in rows)


def test_routers_are_listed_apart(numbers) -> None:
    rows = tables(numbers)["router_flops"]
    assert {row["arm"]: float(row["router FLOPs per step"]) for row in rows} == {
        "dense": 0, "moe_4x": 1.25e8, "mot": 0,
    }  # fmt: skip
    assert float(rows[1]["% of the FLOPs of dense"]) == pytest.approx(0.05)


def test_unequal_arms_are_warned_of_first(study: StudyRecord) -> None:
    values = {"dense": 2.5e11, "moe_4x": 2.5e11, "mot": 5e11}
    check = {"what": "FLOPs per step", "values": values, "equal": False, "rule": "within 1%"}
    fairness = {**study.fairness, "equal": False, "allowed_unequal": True}
    fairness["checks"] = [*fairness["checks"][:3], check]
    warnings, text = first_page(report_numbers(replace(study, fairness=fairness)))
    assert len(warnings) == 1 and "--allow-unequal" in warnings[0]
    told = "FLOPs per step (dense, moe_4x: 2.5e+11; mot: 5e+11; wanted: within 1%)"
    assert told in warnings[0] and "order of the batches" not in warnings[0]
    assert "not equal in everything" in text


def test_upcycled_arms_are_marked_on_the_first_page(study: StudyRecord) -> None:
    starts = {arm: {"path": "a/llama", "upcycled": arm == "mot"} for arm in ("dense", "mot")}
    numbers = report_numbers(replace(study, starts=starts))
    _, text = first_page(numbers)
    assert "dense, moe_4x, mot (upcycled), each trained for" in text
    assert [arm["started_from"] for arm in numbers["arms"].values()] == ["a/llama", None, "a/llama"]


def test_a_study_that_was_not_checked_says_so(study: StudyRecord) -> None:
    old = report_numbers(replace(study, fairness=None))
    assert old["fairness"] is None and NOT_CHECKED in first_page(old)[1]
    assert "fairness" not in tables(old)


def test_the_leak_is_causal_less_training_routing(numbers) -> None:
    rows = numbers["expert_choice"]["losses"]
    keys = {(row["arm"], row["split"], row["modality"], row["measure"]) for row in rows}
    assert len(keys) == len(rows) == 2 * 3  # perplexity beside the loss of text
    by = {(row["split"], row["measure"]): row for row in rows}
    loss = by["test", "loss (nats per token)"]
    assert loss["training"] == pytest.approx((2.0 + 2.01) / 2)
    assert loss["causal"] == pytest.approx((2.25 + 2.285) / 2)
    assert loss["leak"] == pytest.approx((0.25 + 0.275) / 2)
    assert (loss["leak_low"], loss["leak_high"]) == pytest.approx(seed_interval([0.25, 0.275]))
    perplexity = by["test", "perplexity"]
    assert perplexity["training"] == pytest.approx((math.exp(2.0) + math.exp(2.01)) / 2)
    assert perplexity["leak"] == pytest.approx(
        (math.exp(2.25) - math.exp(2.0) + math.exp(2.285) - math.exp(2.01)) / 2
    )
    assert by["unseen", "diffusion loss"]["leak"] == pytest.approx((0.04 + 0.044) / 2)
    written = tables(numbers)["leak"]
    assert [float(row["leak"]) for row in written] == [row["leak"] for row in rows]
    assert all(row["arm"] == "moe_4x" and row["seeds"] == "2" for row in written)


def test_images_that_are_codes_have_a_perplexity_and_no_diffusion_loss(study: StudyRecord) -> None:
    rows = report_numbers(replace(study, setting="chameleon"))["expert_choice"]["losses"]
    by = {(row["split"], row["modality"], row["measure"]): row for row in rows}
    assert len(by) == len(rows) == 2 * 2 * 2
    loss = by["unseen", "image", "loss (nats per token)"]
    assert loss["leak"] == pytest.approx((0.04 + 0.044) / 2)
    assert by["unseen", "image", "perplexity"]["training"] > math.exp(loss["training"]) - 1e-9


def test_router_and_experts_are_means_over_seeds(numbers) -> None:
    (router,) = tables(numbers)["routers"]
    assert float(router["accuracy"]) == pytest.approx(0.91) and router["parameters"] == "4242"
    unrouted = tables(numbers)["unrouted"]
    assert len(unrouted) == LAYERS * 2
    last = unrouted[-1]
    assert (last["modality"], last["layer"]) == ("image", "1")
    assert float(last["unrouted, training routing"]) == pytest.approx(0.35)
    assert float(last["unrouted, causal routing"]) == pytest.approx(0.36)
    load = tables(numbers)["load"]
    assert len(load) == LAYERS * 2 * EXPERTS
    assert float(load[3]["training routing"]) == pytest.approx(0.4)
    assert float(load[3]["causal routing"]) == pytest.approx(0.4)  # of the first seed


def test_causality_has_a_row_for_every_arm_and_routing(numbers) -> None:
    rows = tables(numbers)["causality"]
    column = "changes in the past when the future changes"
    assert [(row["arm"], row["routing"], row[column], row["leaks"]) for row in rows] == [
        ("dense", "none", f"none of {2 * POSITIONS} positions", "False"),
        ("moe_4x", "training", f"81 of {2 * POSITIONS} positions", "True"),
        ("moe_4x", "causal", f"none of {2 * POSITIONS} positions", "False"),
        ("mot", "none", f"none of {2 * POSITIONS} positions", "False"),
    ]
    assert [float(row["largest change"]) for row in rows] == [0, 1.5, 2e-6, 0]


def test_an_arm_that_should_be_causal_and_is_not_is_warned_of(study: StudyRecord) -> None:
    leak = {"routing": "none", "positions": 64, "changed": 3, "largest": 0.25, "leaks": True}
    runs = [replace(one, causality=(leak,)) if one.arm == "mot" else one for one in study.runs]
    warnings, _ = first_page(report_numbers(replace(study, runs=tuple(runs))))
    assert len(warnings) == 1
    assert warnings[0].startswith("mot is not causal (no experts)")
    assert "at 6 of 128 earlier positions, by up to 0.25" in warnings[0]


def test_a_study_without_experts_or_probe_says_so(study: StudyRecord) -> None:
    def told(**changes: Any) -> str:
        runs = [replace(one, routing=None, causality=(), **changes) for one in study.runs]
        old = report_numbers(replace(study, runs=tuple(runs)))
        section = next(one for one in report_sections(old, {}) if one.anchor == "experts")
        return " ".join(block.body for block in section.blocks)

    without = told(sees_other_tokens=False)
    assert "No arm of this study has experts" in without and "did not probe" in without
    assert "did not route them causally" in told()  # its runs say that moe_4x has experts


def test_experts_that_one_seed_lacks_are_means_of_the_others(study: StudyRecord) -> None:
    runs = list(study.runs)
    place = next(i for i, run in enumerate(runs) if (run.arm, run.seed) == ("moe_4x", 1))
    runs[place] = replace(runs[place], routing=None)
    rows = report_numbers(replace(study, runs=tuple(runs)))["expert_choice"]["losses"]
    assert rows[0]["seeds"] == 1 and rows[0]["leak_low"] is None
    assert rows[0]["causal"] == routing(0)["losses"][0]["causal"]


def test_experts_without_a_router_have_no_causal_figures(study: StudyRecord) -> None:
    def without_router(found: dict[str, Any]) -> dict[str, Any]:
        causal = {"causal": None, "unrouted_causal": None, "load_causal": None}
        return {
            "router": None,
            "losses": [{**row, "causal": None} for row in found["losses"]],
            "experts": [row | causal for row in found["experts"]],
        }

    runs = [
        replace(one, routing=without_router(one.routing)) if one.routing else one
        for one in study.runs
    ]
    numbers = report_numbers(replace(study, runs=tuple(runs)))
    found = numbers["expert_choice"]
    assert found["routers"] == []
    assert found["losses"][0]["training"] == pytest.approx(2.005)
    assert all(row["causal"] is None and row["leak"] is None for row in found["losses"])
    assert all(row["causal"] is None for row in found["unrouted"] + found["load"])
    assert found["load"][3]["training"] == pytest.approx(0.4)
    assert (
        "the leak is" not in " ".join(first_page(numbers)[0]) and tables(numbers)["routers"] == []
    )


def test_the_first_page_names_the_leak(numbers) -> None:
    (points, _) = (
        block.items for block in report_sections(numbers, {})[0].blocks if isinstance(block, Points)
    )
    assert points[-2] == (
        "moe_4x, text: its perplexity on the split 'test' is 7.426 under training routing and "
        "9.657 under causal routing; the leak is 2.231."
    )
    assert sum("the leak is" in line for line in points) == 3
    assert points[1].endswith("it never reaches the final loss of dense.")


def test_ranges_are_those_of_the_variants(numbers) -> None:
    assert len(numbers["slope_ranges"]) == 2 * 2 * 2  # arms x modalities x curves
    for row in numbers["slope_ranges"]:
        of = [
            one
            for one in numbers["sensitivity"]
            if all(one[key] == row[key] for key in ("arm", "modality", "curve"))
        ]
        values = [one["value"] for one in of if one["value"] is not None]
        assert (row["least"], row["greatest"]) == (min(values), max(values))
        assert row["ways"] == len(of) and row["ways_without_slope"] == len(of) - len(values)
        (default,) = (one for one in of if one["is_default"])
        assert row["value"] == default["value"]
        (matching,) = (
            one
            for one in numbers["matching"]
            if one["axis"] == "steps"
            and all(one[key] == row[key] for key in ("arm", "modality", "curve"))
        )
        assert matching["slope"] == pytest.approx(row["value"], rel=1e-12)
    assert len(tables(numbers)["sensitivity"]) == len(numbers["sensitivity"])


def test_a_slope_that_no_way_gives_has_no_range() -> None:
    way = {"arm": "mot", "modality": "text", "curve": "val", "smoothing": "isotonic"}
    way |= {"warmup_steps": 40.0, "estimate": "fit", "value": None, "low": None, "high": None}
    (row,) = slope_ranges([{**way, "is_default": True}])
    assert row["least"] is None and row["greatest_way"] is None
    assert (row["ways"], row["ways_without_slope"]) == (1, 1)
