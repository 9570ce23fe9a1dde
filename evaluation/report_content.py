"""The report in order: which text, table and figure stands where, and how each figure is read."""

from collections.abc import Mapping
from typing import Any

from evaluation.report_blocks import Block, Code, Picture, Points, Section, Text, show
from evaluation.report_tables import (
    Numbers,
    arms_table,
    captions_table,
    facts_table,
    losses_table,
    matching_table,
    metrics_table,
)


def report_sections(numbers: Numbers, pictures: Mapping[str, bytes | None]) -> list[Section]:
    """The whole report.

    Args:
        numbers: the content of ``report.json``; every number in text and tables is one of it.
        pictures: the real pictures of the samples as PNG, by prompt.
    """
    return [
        Section("summary", "Summary", _summary(numbers)),
        Section("arms", "What the arms cost", [Text(ARMS_TEXT), arms_table(numbers)]),
        Section("losses", "Losses", _losses(numbers)),
        Section("matching", "Steps, FLOPs and seconds to the same loss", _matching(numbers)),
        Section("metrics", "Metrics", _metrics(numbers)),
        Section("pictures", "Generated pictures", _pictures(numbers)),
        Section("captions", "Generated captions", _captions(numbers, pictures)),
        Section("setup", "How it was made", _setup(numbers)),
    ]


ARMS_TEXT = (
    "Active parameters are those that one token passes through. FLOPs are counted from the "
    "structure for one optimiser step, forward and backward, with attention counted as the mask "
    "leaves it and, beside that, as the full square. Seconds per step were measured in the "
    "training runs on the machine named below."
)
MATCHING_TEXT = (
    "Both curves are made monotone by isotonic regression; n_a(n) is the step at which the arm "
    "first reaches the baseline's loss at step n. The slope is fitted by least squares through "
    "the origin to n_a over n, past the warm-up; the end ratio is n_a(N)/N at the baseline's last "
    "step N. Below 1 the arm needs less than the baseline. FLOP matching multiplies by the ratio "
    "of FLOPs per step, time matching by the ratio of measured seconds per step."
)
NO_SAMPLES = "No samples were generated in this study."
GENERATED = Picture(
    "generated",
    "Generated pictures beside real ones",
    "Each row is a prompt of the held-out set with the real picture of that scene and the picture "
    "that each arm made from the prompt, so look along a row for the right things in the right "
    "places.",
    "The prompts are the first of the test set, not chosen by hand, the pictures are those of the "
    "first seed, and the real picture has not been through the image tokenizer.",
)


def _summary(numbers: Numbers) -> list[Block]:
    arms = ", ".join(numbers["arms"])
    seeds = numbers["seeds"]
    opening = (
        f"Study {numbers['study']}, setting {numbers['setting']}: {arms}, each trained for "
        f"{numbers['steps']:,} steps on the same batches with {len(seeds)} "
        f"seed{'s' if len(seeds) > 1 else ''} ({', '.join(map(str, seeds))}). "
        f"The baseline is {numbers['baseline']}."
    )
    lines = [
        _headline(numbers, arm, modality)
        for arm in numbers["arms"]
        if arm != numbers["baseline"]
        for modality in numbers["modalities"]
    ]
    return [Text(opening), Points(lines), Text("Notes:"), Points(numbers["notes"])]


def _headline(numbers: Numbers, arm: str, modality: str) -> str:
    """One arm and modality in a sentence: the slopes of its validation loss on the three axes."""
    rows = {
        row["axis"]: row
        for row in numbers["matching"]
        if (row["arm"], row["modality"], row["curve"]) == (arm, modality, "val")
    }
    steps, base = rows["steps"], numbers["baseline"]
    mark = ""
    if numbers["arms"][arm]["loss_sees_other_tokens"]:
        mark = " (its loss is under training routing, which sees other tokens: see the note)"
    if steps["slope"] is None:
        return f"{arm}, {modality}{mark}: never reaches a validation loss of the baseline."
    interval = ""
    if steps["slope_low"] is not None:
        interval = f" [{show(steps['slope_low'])}, {show(steps['slope_high'])}]"
    end = (
        f"it reaches the final loss of {base} at {show(steps['end_ratio'])} of {base}'s steps"
        if steps["reached"]
        else f"it reaches the final loss of {base} with {steps['seeds_reached']} of "
        f"{steps['seeds']} seeds only"
    )
    return (
        f"{arm}, {modality}{mark}: for the same validation loss it needs {show(steps['slope'])}"
        f"{interval} of the steps of {base}, {show(rows['flops']['slope'])} of the FLOPs and "
        f"{show(rows['seconds']['slope'])} of the seconds (fitted slopes); {end}."
    )


def _losses(numbers: Numbers) -> list[Block]:
    figures = [
        Picture(
            f"loss_{modality}",
            f"{modality.capitalize()} loss over steps, FLOPs and seconds",
            "Lower is better: at one place on the horizontal axis the lowest line has learned most "
            "for the same steps, FLOPs or seconds.",
            "Lines are means over the seeds and bands run from the least to the greatest of them; "
            "training losses are averaged over a hundredth of the steps, and the axis leaves out "
            "what lies above the losses at the end of the warm-up.",
        )
        for modality in numbers["modalities"]
    ]
    how = Text(
        "The final validation loss is that of the last evaluation; the final training loss is the "
        "mean of the last tenth of the logged points. Low and high: 95% bootstrap over seeds."
    )
    return [*figures, how, losses_table(numbers)]


def _matching(numbers: Numbers) -> list[Block]:
    figures = [
        Picture(
            f"step_matching_{modality}",
            f"Step matching, {modality}",
            f"A point at (n, m) says that the arm reached at step m the loss that "
            f"{numbers['baseline']} had at step n, so points under the diagonal are an arm that "
            "learns faster.",
            "There are up to 40 points of every seed past the warm-up, and the line has the mean "
            "slope over seeds with its 95% bootstrap interval as a band; steps whose loss the arm "
            "never reached have no point and are counted in the table.",
        )
        for modality in numbers["modalities"]
    ]
    return [Text(MATCHING_TEXT), *figures, matching_table(numbers)]


def _metrics(numbers: Numbers) -> list[Block]:
    if not numbers["metrics"]:
        return [Text("No metrics were measured in this study.")]
    figure = Picture(
        "metrics",
        "Metrics per arm, with ceiling and floor",
        "Read each marker by where it lies between the dashed line, what real held-out samples "
        "get, and the dotted one, what captions that belong to other pictures get.",
        "Markers are means over seeds with 95% bootstrap intervals (over seeds, or over samples "
        "where there is one seed); the network or checker that measured and its n stand under "
        "each title.",
    )
    reconstruction = facts_table(
        "tokenizers",
        "Tokenizers: the image tokenizer's own reconstruction error bounds every picture metric",
        numbers["tokenizers"],
    )
    evaluators = facts_table(
        "evaluators", "Evaluators and how good they are themselves", numbers["evaluators"]
    )
    return [figure, metrics_table(numbers), reconstruction, evaluators]


def _pictures(numbers: Numbers) -> list[Block]:
    return [GENERATED] if numbers["samples"] else [Text(NO_SAMPLES)]


def _captions(numbers: Numbers, pictures: Mapping[str, bytes | None]) -> list[Block]:
    if not numbers["samples"]:
        return [Text(NO_SAMPLES)]
    reasons = dict.fromkeys(
        f"{row['arm']}, {row['name']}: not available. {row['note']}"
        for row in numbers["metrics"]
        if row["value"] is None
    )
    made = Text(
        f"Captions of the first seed ({numbers['seeds'][0]}) for the first pictures of the test "
        "set, beside the references."
    )
    return [made, *([Points(list(reasons))] if reasons else []), captions_table(numbers, pictures)]


def _setup(numbers: Numbers) -> list[Block]:
    facts: dict[str, Any] = {
        "seeds": numbers["seeds"],
        "steps": numbers["steps"],
        "warm-up steps": numbers["warmup_steps"],
        "tokens per step": numbers["tokens_per_step"],
    }
    return [
        facts_table("training", "Training", facts),
        facts_table("environment", "Versions and hardware", numbers["environment"]),
        Code("Configuration", numbers["config"]),
    ]
