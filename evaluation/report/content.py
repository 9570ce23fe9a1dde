"""The report in order: which text, table and figure stands where, and how each figure is read."""

from collections.abc import Mapping
from typing import Any

from evaluation.paper.report import paper_sections
from evaluation.report.blocks import Block, Code, Picture, Points, Section, Text
from evaluation.report.experts import expert_blocks
from evaluation.report.fairness import fairness_blocks
from evaluation.report.run_costs import run_cost_blocks
from evaluation.report.sensitivity import sensitivity_blocks
from evaluation.report.slopes import slope_blocks, wall_clock_blocks
from evaluation.report.summary import summary_blocks
from evaluation.report.tables import (
    arms_table,
    captions_table,
    differences_table,
    extractors_table,
    facts_table,
    losses_table,
    matching_table,
    metrics_table,
)
from evaluation.wording import Numbers


def report_sections(numbers: Numbers, pictures: Mapping[str, bytes | None]) -> list[Section]:
    """The whole report.

    Args:
        numbers: the content of ``report.json``; every number in text and tables is one of it.
        pictures: the real pictures of the samples as PNG, by prompt.
    """
    return [
        Section("summary", "Summary", summary_blocks(numbers)),
        Section("fairness", "Were the arms trained alike?", fairness_blocks(numbers)),
        Section("arms", "What the arms cost", _arms(numbers)),
        Section("losses", "Losses", _losses(numbers)),
        Section("matching", "Steps, FLOPs and seconds to the same loss", _matching(numbers)),
        *paper_sections(numbers),
        Section("experts", "Expert choice and causality", expert_blocks(numbers)),
        Section("metrics", "Metrics", _metrics(numbers)),
        Section("pictures", "Generated pictures", _pictures(numbers)),
        Section("captions", "Generated captions", _captions(numbers, pictures)),
        Section("setup", "How it was made", _setup(numbers)),
        Section("settled", "Appendix: how settled are the slopes?", sensitivity_blocks(numbers)),
    ]


ARMS_TEXT = (
    "Active parameters are those that one token passes through. FLOPs are counted from the "
    "structure for one optimiser step, forward and backward, with attention counted as the mask "
    "leaves it and, beside that, as the full square. Seconds per step are medians, timed with the "
    "arms taking turns on the machine named below."
)
MATCHING_TEXT = (
    "Both curves are made monotone by isotonic regression; n_a(n) is the step at which the arm "
    "first reaches the baseline's loss at step n. The slope is fitted by least squares through "
    "the origin to n_a over n, past the warm-up; the end ratio is n_a(N)/N at the baseline's last "
    "step N. Below one the arm needs less than the baseline. Where the arm falls short, the slope "
    "covers only losses that its run is long enough for: near its end noise decides which it "
    "touches, always in its favour. FLOP matching multiplies by the ratio of FLOPs per step, time "
    "matching by the ratio of measured seconds per step."
)
NO_SAMPLES = "No samples were generated in this study."
GENERATED = Picture(
    "generated",
    "Generated pictures beside real ones",
    "Each row is a prompt of the held-out set with its real picture and the picture "
    "that each arm made from the prompt, so look along a row for the right things in the right "
    "places.",
    "The prompts are the first of the test set, not chosen by hand, the pictures are those of the "
    "first seed, and the real picture has not been through the image tokenizer.",
)


def _arms(numbers: Numbers) -> list[Block]:
    return [Text(ARMS_TEXT), arms_table(numbers), *run_cost_blocks(numbers)]


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
    method = numbers["method"]
    how = Text(
        "The final validation loss is that of the last evaluation; the final training loss is the "
        f"mean of the last {method['train_tail_percent']}% of the logged points. Intervals are "
        f"{method['confidence_percent']}% over seeds."
    )
    return [*figures, how, losses_table(numbers)]


def _matching(numbers: Numbers) -> list[Block]:
    figures = [
        Picture(
            f"step_matching_{modality}",
            f"Step matching, {modality}",
            "The losses are on the left. On the right a point at (n, m) says that the arm reached "
            f"at step m the loss that {numbers['baseline']} had at step n, so points under the "
            "diagonal are an arm that learns faster.",
            "Points of every seed past the warm-up are evenly thinned out, and the line has the "
            "mean slope over seeds with its interval as a band. The slope does not cover hollow "
            "points; steps whose loss the arm never reached have none; the table counts them.",
        )
        for modality in numbers["modalities"]
    ]
    how = Text(
        f"Intervals are {numbers['method']['confidence_percent']}%: over seeds, of the mean slope "
        "had other seeds been trained (paired by seed, none with one seed); over points, of the "
        "mean slope had the curves of these seeds had other noise (their residuals, redrawn as an "
        "autoregressive process)."
    )
    return [
        Text(MATCHING_TEXT),
        how,
        *slope_blocks(numbers),
        *figures,
        *wall_clock_blocks(numbers),
        matching_table(numbers),
    ]


def _metrics(numbers: Numbers) -> list[Block]:
    if not numbers["metrics"]:
        return [Text("No metrics were measured in this study.")]
    figure = Picture(
        "metrics",
        "Metrics per arm, with ceiling and floor",
        "Read each marker by where it lies between the dashed line, what real held-out samples "
        "get, and the dotted one, what captions that belong to other pictures get.",
        "Markers are means over seeds with intervals (over seeds, or over samples where there is "
        "one seed); the network or checker that measured and its n stand below.",
    )
    how = Text(
        f"Values are means over seeds. Intervals are {numbers['method']['confidence_percent']}%: "
        "over seeds, mean ± Student's t times the standard error, with the number of seeds beside "
        "it; over samples, percentiles of bootstrap draws, with the number of samples n beside it. "
        "Every seed is scored on the same samples, so draws are averaged over seeds draw by draw. "
        "Differences from the baseline are paired by seed; with one seed their interval is over "
        "samples, from draws at the same samples."
    )
    reconstruction = facts_table(
        "tokenizers",
        "Tokenizers: the image tokenizer's own reconstruction error bounds every picture metric",
        numbers["tokenizers"],
    )
    evaluators = facts_table(
        "evaluators", "Evaluators and how good they are themselves", numbers["evaluators"]
    )
    tables = [metrics_table(numbers), differences_table(numbers), extractors_table(numbers)]
    return [figure, how, *tables, reconstruction, evaluators]


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
