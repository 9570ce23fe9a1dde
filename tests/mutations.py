"""Do the tests notice? Deliberate errors, each made in a copy of the repository, and the tests that
must fail because of it. ``make mutations`` runs them all; ``tests/README.md`` lists them.

A figure that is wrong looks like one that is right. These are the errors that would have made a
comparison of arms wrong without anything crashing.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
COPIED = ("mot_lab", "evaluation", "benchmarks", "experiments", "tests", "pyproject.toml")
FAILED = 1  # pytest: tests ran, and some failed


@dataclass(frozen=True)
class Mutation:
    """One error: in ``file`` the snippet ``right``, which is there once, becomes ``wrong``;
    ``test`` (a pytest node) must fail then."""

    name: str
    file: str
    right: str
    wrong: str
    test: str


MUTATIONS = [
    Mutation(
        "arms swapped when costs are compared",
        "evaluation/matching/steps.py",
        "ratio = arm_per_step / baseline_per_step",
        "ratio = baseline_per_step / arm_per_step",
        "tests/evaluation/matching/test_steps.py::test_other_axes_multiply_by_what_a_step_costs",
    ),
    Mutation(
        "arms swapped when curves are matched",
        "evaluation/matching/steps.py",
        "fit_slopes(baseline.steps, levels_B[None], arm.steps, levels_A[None], warmup)",
        "fit_slopes(baseline.steps, levels_A[None], arm.steps, levels_B[None], warmup)",
        "tests/evaluation/matching/test_steps.py::test_an_arm_twice_as_fast_gives_a_half",
    ),
    Mutation(
        "steps logged off by one",
        "mot_lab/runtime/tracking.py",
        'if name != "epoch"}, step + 1)',
        'if name != "epoch"}, step)',
        "tests/runtime/test_mlflow_content.py"
        "::test_the_load_is_logged_with_the_losses_under_mlflows_names",
    ),
    Mutation(
        "FLOPs without attention",
        "mot_lab/backbones/attention.py",
        "return per_token * tokens + 4 * heads * head_width * pairs",
        "return per_token * tokens",
        "tests/test_flops.py",
    ),
    Mutation(
        "experts copied without their gate",
        "mot_lab/upcycling/towers.py",
        "down_FD = feed_forward.down.weight.t() / gate_of_zeros(experts)",
        "down_FD = feed_forward.down.weight.t()",
        "tests/upcycling/test_towers.py"
        "::test_experts_that_take_each_token_once_with_a_router_of_zeros_are_dense",
    ),
    Mutation(
        "one of two curves smoothed",
        "evaluation/matching/steps.py",
        "levels_B, levels_A = smooth(baseline), smooth(arm)",
        "levels_B, levels_A = smooth(baseline), arm.values",
        "tests/evaluation/matching/test_steps.py::test_both_curves_are_made_monotone_alike",
    ),
    Mutation(
        "base 2 where nats are given",
        "evaluation/metrics/perplexity.py",
        "value=float(np.exp(mean)),",
        "value=float(np.exp2(mean)),",
        "tests/evaluation/metrics/test_perplexity.py::test_it_equals_torchmetrics_on_the_same_logits",
    ),
    Mutation(
        "captions shuffled by one",
        "evaluation/metrics/clip_score.py",
        "_image_features(clip, images_NHWC), _text_features(clip, captions))",
        "_image_features(clip, images_NHWC), _text_features(clip, [*captions[1:], captions[0]]))",
        "tests/evaluation/metrics/test_clip_score.py::test_it_is_open_clips_own_cosine",
    ),
    Mutation(
        "a picture repeated in a distance",
        "evaluation/metrics/fid.py",
        "self.count = total\n",
        "self.count = total\n        if total == len(batch):\n            self.update(batch[:1])\n",
        "tests/evaluation/metrics/test_fid.py::test_moments_gathered_in_batches_equal_those_of_all_at_once",
    ),
    Mutation(
        "a picture repeated by the generator",
        "mot_lab/generation/generate.py",
        "Writer(prompt, layout, sampling, start + i)",
        "Writer(prompt, layout, sampling, start)",
        "tests/generation/test_generate.py"
        "::test_an_answer_depends_on_its_number_and_the_seed_alone",
    ),
    Mutation(
        "top-k over padding",
        "mot_lab/backbones/grouping.py",
        "cell_N = torch.full_like(flat_N, len(sizes))",
        "cell_N = torch.full_like(flat_N, 0)",
        "tests/backbones/test_expert_choice.py::test_padding_is_never_routed_and_takes_no_capacity",
    ),
    Mutation(
        "held-out documents trained on",
        "mot_lab/data/sources/split_source.py",
        'return self._split == ("train" if found in self._own else found)',
        'return self._split in ("train", found)',
        "tests/data/sources/test_source_config.py"
        "::test_splits_share_out_the_documents_by_what_they_say",
    ),
    Mutation(
        "validation noise not fixed",
        "mot_lab/data/packing.py",
        "row.noise.append(rng.standard_normal(",
        "row.noise.append(np.random.default_rng().standard_normal(",
        "tests/data/test_datamodule.py::test_validation_is_fixed_noise_included",
    ),
    Mutation(
        "validation drawn by the run's seed",
        "mot_lab/data/datamodule.py",
        "seed = (self.config.seed, HELD_OUT)",
        "seed = (self.seed, HELD_OUT)",
        "tests/data/test_datamodule.py::test_validation_is_fixed_noise_included",
    ),
    Mutation(
        "sources drawn alike, whatever their weights",
        "mot_lab/data/shards/stream.py",
        "self._until = _until(weights)",
        "self._until = _until([1.0 for _ in weights])",
        "tests/data/shards/test_stream.py::test_sources_are_drawn_by_their_weights",
    ),
    Mutation(
        "active counted as total parameters",
        "mot_lab/flops.py",
        "return count_parameters(model) - min(idle.values())",
        "return count_parameters(model)",
        "tests/test_flops.py",
    ),
    Mutation(
        "covariance divided by N, not N - 1",
        "evaluation/metrics/fid.py",
        "return self._scatter_FF / (self.count - 1)",
        "return self._scatter_FF / self.count",
        "tests/evaluation/metrics/test_fid.py::test_moments_gathered_in_batches_equal_those_of_all_at_once",
    ),
    Mutation(
        "leak: a token sees the next one",
        "mot_lab/backbones/attending.py",
        "device=document_BS.device).tril()",
        "device=document_BS.device).tril(1)",
        "tests/backbones/test_causality.py::test_later_token_changes_nothing_before_it",
    ),
    Mutation(
        "leak: documents see each other",
        "mot_lab/backbones/attending.py",
        "return ((causal_SS | same_image_BSS) & same_document_BSS)[:, None]",
        "return (causal_SS | (same_image_BSS & same_document_BSS))[:, None]",
        "tests/backbones/test_causality.py::test_other_documents_and_rows_change_nothing",
    ),
    Mutation(
        "leak: documents of two rows are one",
        "mot_lab/backbones/document_rows.py",
        " + row_B1 * (document_BS.max() - lowest + 1)",
        "",
        "tests/backbones/test_causality.py::test_other_documents_and_rows_change_nothing",
    ),
    Mutation(
        "leak: causal routing that is the training routing",
        "mot_lab/backbones/expert_choice.py",
        "        if self.causal:\n            return self._causal(x_TD)\n",
        "        if self.causal:\n            return self._training(x_TD)\n",
        "tests/backbones/test_causal_routing.py"
        "::test_a_token_is_routed_the_same_whatever_stands_beside_it",
    ),
    Mutation(
        "leak: generation under training routing",
        "mot_lab/generation/generate.py",
        'with model.transformer.routing("causal"):',
        'with model.transformer.routing("training"):',
        "tests/generation/test_generate.py::test_is_the_slow_twin",
    ),
    Mutation(
        "leak: the unconditional branch reads the prompt's text",
        "mot_lab/generation/writer.py",
        "without_text([*self.prompt.segments, *self.answer])",
        "[*self.prompt.segments, *self.answer]",
        "tests/generation/test_generate.py::test_guidance_is_the_slow_twins",
    ),
    Mutation(
        "a finished picture read as pure noise",
        "mot_lab/generation/decoder.py",
        "clean_N = torch.zeros(",
        "clean_N = torch.ones(",
        "tests/generation/test_decoder.py::test_logits_are_those_of_the_whole_row",
    ),
    Mutation(
        "a finished picture whose patches see no later patch",
        "mot_lab/generation/prompts.py",
        "last_S[place_P] = place_P[-1]",
        "last_S[place_P] = place_P",
        "tests/generation/test_decoder.py::test_logits_are_those_of_the_whole_row",
    ),
    Mutation(
        "router's threshold taken of the logit",
        "mot_lab/backbones/auxiliary_router.py",
        "return self.logits(x_TD).sigmoid() > self.threshold",
        "return self.logits(x_TD) > self.threshold",
        "tests/backbones/test_causal_routing.py::test_is_the_loop_over_tokens",
    ),
    Mutation(
        "written tokens without QK-norm",
        "mot_lab/backbones/cell_stack.py",
        "qk_TGE = self._qk_norm(qk_TGE)",
        "qk_TGE = 1 * qk_TGE",
        "tests/backbones/test_cache.py::test_token_by_token_is_at_once",
    ),
    Mutation(
        "losses divided by one process's counts",
        "mot_lab/distributed/ranks.py",
        "return sum_K.tolist()",
        "return list(numbers_K)",
        "tests/distributed/test_gradients.py::test_loss_and_gradients_are_those_of_one_process",
    ),
    Mutation(
        "every process on the first one's rows",
        "mot_lab/data/sampler.py",
        "self.first = rank * self.share",
        "self.first = 0",
        "tests/data/test_datamodule.py::test_processes_and_parts_share_out_the_same_batches",
    ),
]


def main() -> None:
    """Makes every error in turn; exits with 1 when a test does not notice one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only errors whose name contains one of these")
    names = parser.parse_args().names
    chosen = [one for one in MUTATIONS if not names or any(name in one.name for name in names)]
    table = Table("error", "file", "test", "result", title="Deliberate errors")
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        _copy(copy)
        healthy = _run(copy, sorted({one.test for one in chosen}))
        if healthy.returncode:
            sys.exit(f"{healthy.stdout}\nthe tests fail without any error made: mend that first")
        for mutation in chosen:
            started = time.monotonic()
            killed = _killed(copy, mutation)
            seconds = f"{time.monotonic() - started:.0f} s"
            print(f"{'killed' if killed else 'SURVIVED'} ({seconds}): {mutation.name}", flush=True)
            result = "killed" if killed else "SURVIVED"
            table.add_row(mutation.name, mutation.file, mutation.test, result)
            survivors += [] if killed else [mutation.name]
    Console().print(table)
    if survivors:
        sys.exit(f"{len(survivors)} of {len(chosen)} errors were noticed by no test: {survivors}")
    print(f"All {len(chosen)} errors were noticed")


def _copy(target: Path) -> None:
    target.mkdir()
    leave = shutil.ignore_patterns("__pycache__", ".*")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=leave)
        elif source.exists():
            shutil.copy(source, target / name)


def _killed(copy: Path, mutation: Mutation) -> bool:
    """Whether the test fails with the error in the copy; the copy is mended after it."""
    path = copy / mutation.file
    text = path.read_text()
    if text.count(mutation.right) != 1:
        sys.exit(f"{mutation.file} holds {mutation.right!r} {text.count(mutation.right)} times")
    path.write_text(text.replace(mutation.right, mutation.wrong))
    try:
        result = _run(copy, [mutation.test])
    finally:
        path.write_text(text)
    if result.returncode not in (0, FAILED):  # a test that cannot be run notices nothing
        sys.exit(f"{result.stdout}\n{result.stderr}\n{mutation.test} could not be run")
    return result.returncode == FAILED


def _run(copy: Path, tests: list[str]) -> subprocess.CompletedProcess[str]:
    cache = Path(os.environ.get("MOT_LAB_CACHE", ROOT / ".cache" / "mot-lab")).absolute()
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy), "MOT_LAB_CACHE": str(cache)},
        capture_output=True,
        text=True,
    )


if __name__ == "__main__":
    main()
