"""All figures of a set of generated pictures, and of a set of generated captions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.bootstrap import ratio_draws
from evaluation.metric import Metric
from evaluation.metrics.caption_tokens import TokenizerName
from evaluation.metrics.cider import cider
from evaluation.metrics.clip_score import ClipModel, clip_score
from evaluation.metrics.extractors import FeatureExtractor
from evaluation.metrics.fid import frechet_metric
from evaluation.metrics.scene_checker import score
from evaluation.metrics.shuffle import derangement
from mot_lab.data.scenes import Scene, SceneSource


@dataclass(frozen=True)
class Evaluators:
    """The networks that pictures are judged with.

    Attributes:
        extractors: one Frechet distance is measured on the features of each.
        clips: one CLIP score is measured with each.
    """

    extractors: tuple[FeatureExtractor, ...] = ()
    clips: tuple[ClipModel, ...] = ()


def score_images(
    generated_NHWC: np.ndarray,
    prompts: Sequence[str],
    real_NHWC: np.ndarray,
    reference_MHWC: np.ndarray,
    evaluators: Evaluators,
    scenes: Sequence[Scene] | None = None,
    source: SceneSource | None = None,
    seed: int = 0,
) -> list[Metric]:
    """Frechet distances, CLIP scores and, for scenes, the exact checker's figures.

    Args:
        generated_NHWC: uint8, one picture generated for each prompt.
        prompts: the N captions they were generated from.
        real_NHWC: uint8, the real picture of each prompt: ceilings and floors are measured on them.
        reference_MHWC: uint8, other real pictures, which Frechet distances are taken to.
        evaluators: the networks to use.
        scenes, source: what each prompt asks for, where the pictures are scenes; both or neither.
        seed: of shuffles and intervals.

    Raises:
        ValueError: there is not one picture, real picture and scene per prompt, or one of
            ``scenes`` and ``source`` is missing.
    """
    counts = {"generated pictures": len(generated_NHWC), "real pictures": len(real_NHWC)}
    if scenes is not None:
        counts["scenes"] = len(scenes)
    for what, count in counts.items():
        if count != len(prompts):
            raise ValueError(f"{count} {what} for {len(prompts)} prompts; give one each")
    if (scenes is None) != (source is None):
        raise ValueError("the scene checker needs the scenes of the prompts and their source")
    metrics = [
        frechet_metric(extractor, generated_NHWC, reference_MHWC, real_NHWC, seed)
        for extractor in evaluators.extractors
    ]
    metrics += [
        clip_score(clip, generated_NHWC, prompts, real_NHWC, seed) for clip in evaluators.clips
    ]
    if scenes is not None and source is not None:
        metrics += check_scenes(generated_NHWC, scenes, real_NHWC, source, seed)
    return metrics


def check_scenes(
    generated_NHWC: np.ndarray,
    scenes: Sequence[Scene],
    real_NHWC: np.ndarray,
    source: SceneSource,
    seed: int = 0,
) -> list[Metric]:
    """Shares of objects, relations of two objects, grounds and whole scenes that are as the prompt
    says, in percent; without a prompt of two objects, no relations.

    The ceiling is what real pictures of the prompts score, the floor what they score against
    shuffled prompts.
    """
    shuffled = [scenes[place] for place in derangement(len(scenes), seed)]
    made, ceiling, floor = (
        score(generated_NHWC, scenes, source),
        score(real_NHWC, scenes, source),
        score(real_NHWC, shuffled, source),
    )
    one_each = np.ones(len(scenes))
    figures = {
        "objects right": [(s.objects_right_N, s.objects_N) for s in (made, ceiling, floor)],
        "relations right": [(s.relation_right_N, s.related_N) for s in (made, ceiling, floor)],
        "ground right": [(s.ground_right_N, one_each) for s in (made, ceiling, floor)],
        "scenes right": [(s.scene_right_N, one_each) for s in (made, ceiling, floor)],
    }
    metrics = []
    for name, counts in figures.items():
        if not all(of.any() for _, of in counts):
            continue
        value, real, chance = (100 * float(right.sum() / of.sum()) for right, of in counts)
        metrics.append(
            Metric.sampled(
                name=name,
                value=value,
                draws=100 * ratio_draws(*counts[0], seed=seed),
                n=int(counts[0][1].sum()),
                extractor="exact scene checker",
                ceiling=real,
                floor=chance,
                note=f"percent; interval over {len(scenes)} pictures",
            )
        )
    return metrics


def score_captions(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenizer: TokenizerName | None = None,
    seed: int = 0,
) -> list[Metric]:
    """CIDEr of captions generated for held-out pictures; arguments as ``cider``."""
    return [cider(candidates, references, tokenizer, seed)]
