"""Writes a finished study with a known answer into an MLflow store, as `mot-lab study` would.

The baseline's loss is a power law; an arm with slope s has at step n the baseline's loss of step
n / s, so step matching must find s. With several seeds an arm's slopes run evenly from
s * (1 - SPREAD) to s * (1 + SPREAD); the baseline is the same with every seed.
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric
from PIL import Image
from synthetic_evaluation import evaluation, fairness, has_experts

STEPS, WARMUP = 400, 40
TRAIN_EVERY, VAL_EVERY = 4, 10
SPREAD = 0.04
LogCurves = Callable[[MlflowClient, str, str, int, Mapping[str, float]], None]
SLOPES: dict[str, dict[str, float]] = {
    "dense": {"text": 1.0, "image": 1.0},
    "moe_4x": {"text": 0.5, "image": 1.25},
    "mot": {"text": 0.8, "image": 0.6},
}
ISOLATIONS: dict[str, dict[str, float]] = {  # of three modalities, as in the paper's figure 15
    "dense": {"text": 1.0, "image": 1.0, "speech": 1.0},
    "loo_text": {"text": 0.5, "image": 0.35, "speech": 0.4},
    "loo_image": {"text": 0.7, "image": 0.3, "speech": 0.65},
    "loo_speech": {"text": 0.9, "image": 0.85, "speech": 0.25},
    "mot": {"text": 0.55, "image": 0.32, "speech": 0.2},
}
RATIOS = {"mot": 1.36}  # stated, beside the measured ones
SECONDS = {"dense": 0.5, "moe_4x": 0.65, "mot": 0.55}
FLOPS = 2.5e11
PROMPTS = [f"a {what} on {ground}" for ground in ("yellow", "blue") for what in ("fish", "star")]


def loss(steps: np.ndarray, slope: float, modality: str) -> np.ndarray:
    """The loss at each step of an arm that needs ``slope`` of the baseline's steps."""
    low, height = {"text": (2.0, 6.0), "image": (0.1, 1.5), "speech": (1.0, 4.0)}[modality]
    return low + height * np.maximum(steps / slope, 1.0) ** -0.5


def write_synthetic_study(
    tracking_uri: str,
    artifacts: Path,
    name: str = "synthetic",
    slopes: Mapping[str, Mapping[str, float]] = SLOPES,
    seeds: Sequence[int] = (0, 1),
    unfinished: Sequence[tuple[str, int]] = (),
    prompts: Sequence[str] = PROMPTS,
    steps: int = STEPS,
    log_curves: LogCurves | None = None,
) -> str:
    """Writes the study; returns the id of its parent run.

    Args:
        tracking_uri: an MLflow store, made if it is not there.
        artifacts: folder for the artifacts.
        name: of the study and its experiment.
        slopes: for every arm its slope per modality; the first arm is the baseline.
        seeds: the seeds of every arm.
        unfinished: arms and seeds whose run is still running, without its evaluation.
        prompts: of the held-out samples, the same for every arm and seed.
        steps: that every arm was trained for; the warm-up is a tenth of them.
        log_curves: writes the losses of a run (client, run id, arm, seed, slopes); the default
            logs the power laws without noise.
    """
    log_curves = log_curves or _log_curves
    client = MlflowClient(tracking_uri)
    experiment = client.create_experiment(name, artifact_location=artifacts.resolve().as_uri())
    tags = {"mot_lab.kind": "study", "mot_lab.study": name}
    parent = client.create_run(experiment, run_name=name, tags=tags).info.run_id
    client.log_dict(parent, study_facts(name, slopes, seeds, steps), "study.json")
    client.log_text(parent, f"study: {name}\nsteps: {steps}\n", "config.yaml")
    for arm in slopes:
        for place, seed in enumerate(seeds):
            offset = 0.0 if len(seeds) == 1 else 2 * place / (len(seeds) - 1) - 1
            run_id = _start_run(client, experiment, parent, arm, seed)
            spread = 1.0 if arm == next(iter(slopes)) else 1 + SPREAD * offset
            of_seed = {key: slope * spread for key, slope in slopes[arm].items()}
            log_curves(client, run_id, arm, seed, of_seed)
            if (arm, seed) not in unfinished:
                _log_evaluation(client, run_id, arm, seed, prompts)
                client.set_terminated(run_id)
    client.set_terminated(parent)
    return parent


def study_facts(
    name: str, slopes: Mapping[str, Mapping[str, float]], seeds: Sequence[int], steps: int = STEPS
) -> dict[str, Any]:
    """The content of study.json; the modalities are those of the baseline's slopes."""
    baseline = next(iter(slopes))
    modalities = list(slopes[baseline])
    speech = "speech" in modalities
    return {
        "schema": 1,
        "study": name,
        "setting": "chameleon_speech" if speech else "transfusion",
        "baseline": baseline,
        "seeds": list(seeds),
        "modalities": modalities,
        "arms": {
            arm: {
                "description": f"the arm {arm}",
                "parameters": 1_000_000 * (1 + place),
                "active_parameters": 1_000_000,
                "flops_per_step": FLOPS,
                "flops_per_step_full_attention": 1.1 * FLOPS,
                "flops_per_modality": {
                    "text": 0.4 * FLOPS,
                    "image": (0.5 if speech else 0.6) * FLOPS,
                    **({"speech": 0.1 * FLOPS} if speech else {}),
                },
                "seconds_per_step": SECONDS.get(arm, 0.6),
            }
            for place, arm in enumerate(slopes)
        },
        "tokens_per_step": {"text": 1500, "image": 1024, **({"speech": 300} if speech else {})},
        "steps": steps,
        "warmup_steps": steps * WARMUP // STEPS,
        "tokenizers": {
            "image": {
                "kind": "vae",
                "reconstruction_mse": 0.0021,
                "reconstruction_psnr": 26.8,
            },
            "text": {"vocab_size": 2048},
        },
        "evaluators": {"clip": {"name": "scenes-clip", "retrieval_top1": 0.91}},
        "environment": {"python": "3.11.9", "torch": "2.14.1", "cpu": "a CPU", "cores": 2},
        "notes": ["The losses of this study are power laws."],
        "fairness": fairness(list(slopes)),
        "step_time_ratios": {arm: ratio for arm, ratio in RATIOS.items() if arm in slopes},
    }


def _start_run(client: MlflowClient, experiment: str, parent: str, arm: str, seed: int) -> str:
    tags = {"mlflow.parentRunId": parent, "mot_lab.kind": "run"}
    tags |= {"mot_lab.arm": arm, "mot_lab.seed": str(seed), "mot_lab.status": "running"}
    return client.create_run(experiment, run_name=f"{arm}-seed{seed}", tags=tags).info.run_id


def _log_curves(
    client: MlflowClient, run_id: str, arm: str, seed: int, slopes: Mapping[str, float]
) -> None:
    points: list[tuple[str, float, int]] = []
    for curve, every in (("train", TRAIN_EVERY), ("val", VAL_EVERY)):
        steps = np.arange(every, STEPS + 1, every)
        for modality, slope in slopes.items():
            values = loss(steps, slope, modality)
            points += [
                (f"{curve}/{modality}/loss", float(value), int(step))
                for step, value in zip(steps, values, strict=True)
            ]
    if has_experts(arm):
        points.append(("train/unrouted/text", 0.1, STEPS))
    metrics = [Metric(key, value, 0, step) for key, value, step in points]
    for start in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[start : start + 1000])


def _log_evaluation(
    client: MlflowClient, run_id: str, arm: str, seed: int, prompts: Sequence[str]
) -> None:
    captions = not has_experts(arm)
    with TemporaryDirectory() as folder:
        (Path(folder) / "samples").mkdir()
        samples = []
        for place, prompt in enumerate(prompts):
            for suffix, shade in (("", 60 * seed), ("_real", 200)):
                path = Path(folder) / "samples" / f"{place}{suffix}.png"
                path.write_bytes(_png(place, shade))
            samples.append(
                {
                    "prompt": prompt,
                    "generated": f"samples/{place}.png",
                    "reference": f"samples/{place}_real.png",
                    "caption": f"caption of {prompt}" if captions else None,
                    "references": [prompt, f"there is {prompt}"],
                }
            )
        content = {**evaluation(arm, seed), "samples": samples}
        (Path(folder) / "evaluation.json").write_text(json.dumps(content))
        client.log_artifacts(run_id, folder)


def _png(place: int, shade: int) -> bytes:
    pixels = np.full((32, 32, 3), 255, dtype=np.uint8)
    pixels[:16, 16 * (place % 2) :][:, :16] = (shade, 80, 255 - shade)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format="PNG")
    return data.getvalue()
