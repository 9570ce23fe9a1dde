"""The networks that pictures are judged with, by the names a configuration gives them."""

import numpy as np

from evaluation.metrics.clip_score import ClipModel, load_open_clip
from evaluation.metrics.extractors import clip_features, efficientnet_lite, inception
from evaluation.metrics.scene_clip import SceneClipConfig, load_scene_clip
from evaluation.metrics.suite import Evaluators
from mot_lab.config import EvaluationConfig
from mot_lab.data.prepare import PreparedData
from mot_lab.data.scene_data import SceneData
from mot_lab.extractor_names import NOT_OF_SCENES, parse_extractor
from mot_lab.tokens.vq import VQTokenizer


def load_evaluators(
    config: EvaluationConfig, data: PreparedData | None, device: str = "cpu"
) -> Evaluators:
    """The networks that a configuration names.

    Args:
        data: what ``scene_clip`` is fitted to; None for pictures that are no scenes of a study.

    Raises:
        ValueError: a name that is none, weights that are not at hand, or codes of which no picture
            can be made to be judged.
    """
    if data is not None and isinstance(data.images, VQTokenizer):
        data.images.require_decoder()
    extractors, clips = [], []
    for name in config.extractors:
        named = parse_extractor(name)
        if named.kind == "inception":
            extractors.append(inception(named.weights, device))
        elif named.kind == "efficientnet_lite0":
            extractors.append(efficientnet_lite(device))
        else:
            if named.kind == "scene_clip":
                clip = _scene_clip(data)
            else:
                clip = load_open_clip(named.model, named.weights, device)
            clips.append(clip)
            extractors.append(clip_features(clip))
    return Evaluators(tuple(extractors), tuple(clips))


def _scene_clip(data: PreparedData | None) -> ClipModel:
    if not isinstance(data, SceneData):
        raise ValueError(NOT_OF_SCENES)

    def pairs(split: str, first: int, count: int) -> tuple[np.ndarray, list[str]]:
        of_split = data.pairs(split)
        captions = [of_split.prompt(first + i) for i in range(count)]
        return of_split.pictures(first, count), captions

    scenes = data.config.scenes
    return load_scene_clip(
        SceneClipConfig(),
        scenes.canvas,
        data.texts.vocab_size,
        data.texts.encode,
        lambda first, count: pairs("train", first, count),
        lambda first, count: pairs("test", first, count),
        key=[scenes, data.texts.key(), data.config.seed],
    )
