"""What a study leaves in ``study.json``: all that its report says and no run folder holds."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mot_lab.config import StudyConfig
from mot_lab.counting import ArmCost
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.environment import environment
from mot_lab.flops import Workload
from mot_lab.runtime.workers import threads_each
from mot_lab.step_time import StepTime

SCHEMA = 1


def study_record(
    config: StudyConfig,
    data: MultimodalDataModule,
    workload: Workload,
    costs: Mapping[str, ArmCost],
    times: Mapping[str, StepTime],
    evaluators: Mapping[str, Any],
    fairness: Mapping[str, Any],
) -> dict[str, Any]:
    """The record of a finished study.

    Args:
        config: of the study.
        data: prepared.
        workload: of a training step.
        costs, times: by arm.
        evaluators: what is said of them.
        fairness: `mot_lab.fairness.Fairness.record`.
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
        "tokens_per_step": workload.tokens,
        "images_per_step": workload.images,
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
        "notes": [],
    }


def _tokenizers(config: StudyConfig, data: MultimodalDataModule) -> dict[str, Any]:
    prepared = data.prepared
    reconstruction = prepared.images.reconstruction_error(
        prepared.pictures("test", 0, config.evaluation.images)
    )
    return {
        "text": {"kind": "BPE", "vocab_size": prepared.texts.vocab_size},
        "image": {
            "kind": config.data.image.kind,
            "tokens_per_image": data.interface.tokens_per_image,
            "latent_shape": list(data.interface.latent_shape),
            "reconstruction_mse": reconstruction["mse"],
            "reconstruction_psnr": reconstruction["psnr"],
            "reconstruction_n": reconstruction["n"],
        },
    }
