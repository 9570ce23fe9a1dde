"""What a study leaves in ``study.json``: all that its report says and no run folder holds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mot_lab.config import StudyConfig
from mot_lab.counting import ArmCost
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.data.speech_pool import SpeechPool
from mot_lab.data.styles import RENDERINGS
from mot_lab.environment import environment
from mot_lab.flops import Workload
from mot_lab.runtime.finite_guard import SKIPPED
from mot_lab.runtime.metrics_file import read_curve
from mot_lab.runtime.plain_files import read_json
from mot_lab.runtime.workers import threads_each
from mot_lab.step_time import StepTime
from mot_lab.tokens.image import ImageTokenizer
from mot_lab.tokens.vq import VQTokenizer, codebook_usage
from mot_lab.training import Run
from mot_lab.upcycling.towers import is_dense
from mot_lab.utilisation import Peak

SCHEMA = 1


def study_record(
    config: StudyConfig,
    data: MultimodalDataModule,
    workload: Workload,
    costs: Mapping[str, ArmCost],
    times: Mapping[str, StepTime],
    peaks: Mapping[str, Peak],
    evaluators: Mapping[str, Any],
    fairness: Mapping[str, Any],
    runs: Sequence[Run],
) -> dict[str, Any]:
    """The record of a finished study.

    Args:
        config: of the study.
        data: prepared.
        workload: of a training step.
        costs, times, peaks: by arm.
        evaluators: what is said of them.
        fairness: `mot_lab.fairness.Fairness.record`.
        runs: all of the study, trained.
    """
    return {
        "schema": SCHEMA,
        "study": config.name,
        "setting": config.setting,
        "baseline": config.baseline,
        "seeds": config.seeds,
        "modalities": list(data.interface.modalities),
        "arms": {
            name: {**asdict(cost), "seconds_per_step": times[name].median}
            for name, cost in costs.items()
        },
        "step_times": {name: asdict(each) for name, each in times.items()},
        "peaks": {name: asdict(each) for name, each in peaks.items()},
        "tokens_per_step": workload.tokens,
        "steps": config.training.steps,
        "warmup_steps": config.model.optimizer.warmup_steps,
        "fairness": fairness,
        "tokenizers": _tokenizers(config, data),
        "evaluators": evaluators,
        "environment": {
            **environment(config.training.precision),
            "threads": threads_each(config.parallel_runs),
            "parallel_runs": config.parallel_runs,
        },
        "paper": config.paper,
        "step_time_ratios": config.step_time_ratios,
        "starts": starts(runs),
        "notes": [
            *data.prepared.notes(),
            *start_notes(runs),
            *process_notes(runs),
            *skipped_notes(runs),
        ],
    }


def starts(runs: Sequence[Run]) -> dict[str, Any]:
    """What each arm that does not begin with random weights began from (`Started`), and whether it
    was upcycled: copied from Dense into several towers or experts.
    """
    return {
        run.arm: {
            **read_json(run.folder.start_path),
            "upcycled": not is_dense(run.study_arm.wiring),
        }
        for run in runs
        if run.folder.start_path.exists()
    }


def start_notes(runs: Sequence[Run]) -> list[str]:
    """A sentence on every arm that did not begin with random weights."""
    notes = []
    experts = {run.arm: bool(run.study_arm.wiring.experts) for run in runs}
    for arm, start in starts(runs).items():
        how = "began as"
        if start["upcycled"]:
            how = "is upcycled: all its towers began as copies of"
        if experts[arm]:
            how = (
                "is upcycled: all its towers and experts began as copies of (experts near the "
                "function of, since their router gives a token to several of them or to none)"
            )
        entries = f"{start['copied']} of its {start['copied'] + start['new']} entries"
        by_id = ", taken by their id" if start["by_id"] else ""
        codec = {None: "", True: ", patch codec copied too", False: ", patch codec random"}
        notes.append(
            f"{arm} {how} the Dense model {start['path']} ({start['digest']}), with {entries} of "
            f"the vocabulary{by_id}; new entries are drawn like the others, as likely as their "
            f"average{codec[start['codec']]}. What that model cost to train is in no figure here."
        )
    return notes


def process_notes(runs: Sequence[Run]) -> list[str]:
    """A sentence on every arm that several processes trained together, or in several passes."""
    notes = []
    for run in {run.arm: run for run in runs}.values():
        training = run.study_arm.training
        if training.processes * training.accumulate == 1:
            continue
        sentence = (
            f"{run.arm} was trained by {_number(training.processes, 'process', 'es')} "
            f"({training.strategy}), every step in {_number(training.accumulate, 'pass', 'es')}"
        )
        if run.study_arm.wiring.experts:
            of = "all processes" if training.expert_group == "global" else "each process by itself"
            sentence += (
                f"; its experts chose among the tokens of {of} in each pass, in "
                f"{_number(training.expert_groups(), 'group', 's')} a step"
            )
        notes.append(f"{sentence}. Step times are of one process.")
    return notes


def _number(count: int, what: str, plural: str) -> str:
    return f"{count} {what}{plural if count > 1 else ''}"


def skipped_notes(runs: Sequence[Run]) -> list[str]:
    """A sentence on every run that left optimiser steps out (`TrainingConfig.bad_steps`)."""
    notes = []
    for run in runs:
        counts = read_curve(run.folder.metrics_path, SKIPPED)
        if counts and counts[-1][1]:
            notes.append(
                f"{run.name} left out {counts[-1][1]:.0f} of its {run.study_arm.training.steps} "
                "optimiser steps, in which loss or gradient were not finite or a spike: its "
                "weights were updated less often than those of a run without such steps, so that "
                "the arms were not trained quite alike."
            )
    return notes


def _tokenizers(config: StudyConfig, data: MultimodalDataModule) -> dict[str, Any]:
    """What is said of every modality's tokenizer, with what it loses of held-out data."""
    prepared, count = data.prepared, config.evaluation.images
    pictures_NHWC = prepared.pictures("test", 0, count)
    facts: dict[str, Any] = {
        "text": {"kind": prepared.texts.kind, "vocab_size": prepared.texts.vocab_size},
        "image": _picture_facts(config.data.image.kind, prepared.images, pictures_NHWC),
    }
    if config.data.speech is not None:
        size = config.data.speech.tokenizer.vocabulary()
        kind = f"k-means over {config.data.speech.tokenizer.features}"
        facts["speech"] = {
            "kind": kind if prepared.speech is not None else "units that were given",
            "codes": size,
            "deduplicated": config.data.speech.tokenizer.deduplicate,
            **_speech_facts(prepared.speech_pool("test"), size),
        }
    for name, tokenizer in prepared.styles.items():
        style = config.data.styles[name]
        restyled_NHWC = RENDERINGS[style.rendering](pictures_NHWC)
        facts[name] = _picture_facts(style.image.kind, tokenizer, restyled_NHWC)
    for name, part in data.interface.others.items():
        facts[name]["tokens_per_block"] = part.length or "as many as it takes"
    return facts


def _speech_facts(pool: SpeechPool | None, size: int) -> dict[str, Any]:
    """How long held-out recordings are, and how many of the units they use."""
    if pool is None:
        return {"held_out_recordings": 0}
    return {
        "held_out_recordings": len(pool),
        "units_per_recording": len(pool.unit_tokens) / len(pool),
        "codebook": codebook_usage(pool.unit_tokens, size),
    }


def _picture_facts(
    kind: str, tokenizer: ImageTokenizer | VQTokenizer, pictures_NHWC: np.ndarray
) -> dict[str, Any]:
    """Shape and reconstruction error of an image tokenizer."""
    if not len(pictures_NHWC):
        return {"kind": kind}
    error = tokenizer.reconstruction_error(pictures_NHWC)
    shape: dict[str, Any]
    if isinstance(tokenizer, VQTokenizer):
        shape = {"codes": tokenizer.size, "codebook": tokenizer.usage(pictures_NHWC)}
    else:
        shape = {"latent_shape": list(tokenizer.latent_shape)}
    return {
        "kind": kind,
        **shape,
        "reconstruction_mse": error["mse"],
        "reconstruction_psnr": error["psnr"],
        "reconstruction_n": error["n"],
    }
