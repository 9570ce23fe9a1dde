"""All figures together, on real scenes."""

import numpy as np
import pytest
import torch

from evaluation.metrics.clip_score import ClipModel
from evaluation.metrics.extractors import clip_features
from evaluation.metrics.scene_checker import score
from evaluation.metrics.shuffle import derangement
from evaluation.metrics.suite import Evaluators, score_captions, score_images
from mot_lab.data.scenes import ScenesConfig, SceneSource

COUNT = 60


@pytest.fixture(scope="module")
def source():
    return SceneSource(ScenesConfig())


@pytest.fixture(scope="module")
def scenes(source):
    return [source.scene("test", 0, index) for index in range(COUNT)]


@pytest.fixture(scope="module")
def real(source, scenes):
    return np.stack([source.render(scene) for scene in scenes])


@pytest.fixture(scope="module")
def reference(source):
    return np.stack([source.render(source.scene("val", 0, index)) for index in range(COUNT)])


@pytest.fixture(scope="module")
def clip(source, scenes):
    """A model that knows every caption's picture: features are random projections of it."""
    projection = torch.randn(32 * 32 * 3, 16, generator=torch.Generator().manual_seed(0))
    pictures = {source.captions(scene)[0]: source.render(scene) for scene in scenes}

    def look(images):
        pixels = torch.from_numpy(images.reshape(len(images), -1).astype(np.float32))
        return (pixels - 128) @ projection

    return ClipModel("oracle", "oracle", look, lambda c: look(np.stack([pictures[x] for x in c])))


def measured(generated, source, scenes, real, reference, clip):
    prompts = [source.captions(scene)[0] for scene in scenes]
    evaluators = Evaluators(extractors=(clip_features(clip),), clips=(clip,))
    metrics = score_images(generated, prompts, real, reference, evaluators, scenes, source, seed=1)
    return {metric.name: metric for metric in metrics}


def test_real_pictures_score_their_own_ceiling(source, scenes, real, reference, clip):
    metrics = measured(real, source, scenes, real, reference, clip)
    assert list(metrics) == [
        "Frechet distance (oracle)",
        "CLIP score",
        "objects right",
        "relations right",
        "ground right",
        "scenes right",
    ]
    for metric in metrics.values():
        assert metric.value == pytest.approx(metric.ceiling, rel=1e-12)
        assert metric.low <= metric.value <= metric.high
    assert metrics["CLIP score"].value == pytest.approx(100.0)
    assert metrics["scenes right"].value == 100.0
    assert metrics["objects right"].n == sum(len(scene.objects) for scene in scenes)
    assert metrics["scenes right"].n == COUNT


def test_floors_are_at_chance(source, scenes, real, reference, clip):
    metrics = measured(real, source, scenes, real, reference, clip)
    assert metrics["objects right"].floor < 15  # 16 emojis in 4 cells
    assert metrics["ground right"].floor == pytest.approx(25, abs=20)  # 4 grounds
    shuffled = [scenes[place] for place in derangement(COUNT, 1)]
    by_hand = score(real, shuffled, source)
    assert metrics["objects right"].floor == 100 * by_hand.objects_right / by_hand.objects
    assert metrics["Frechet distance (oracle)"].floor > metrics["Frechet distance (oracle)"].ceiling


def test_a_generator_right_half_of_the_time_scores_half(source, scenes, real, reference, clip):
    generated = real.copy()
    for picture, scene in zip(generated[::2], scenes[::2], strict=True):
        picture[:] = source.ground_colours[(scene.ground + 1) % 4]
    metrics = measured(generated, source, scenes, real, reference, clip)
    assert metrics["scenes right"].value == metrics["ground right"].value == 50.0
    assert metrics["scenes right"].ceiling == 100.0
    right = sum(len(scene.objects) for scene in scenes[1::2])
    assert metrics["objects right"].value == pytest.approx(
        100 * right / sum(len(scene.objects) for scene in scenes)
    )


def test_pictures_and_prompts_that_do_not_pair_are_refused(source, scenes, real, reference):
    prompts = [source.captions(scene)[0] for scene in scenes]
    with pytest.raises(ValueError, match="59 generated pictures for 60 prompts"):
        score_images(real[1:], prompts, real, reference, Evaluators())
    with pytest.raises(ValueError, match="59 scenes for 60 prompts"):
        score_images(real, prompts, real, reference, Evaluators(), scenes[1:], source)
    with pytest.raises(ValueError, match="scenes of the prompts and their source"):
        score_images(real, prompts, real, reference, Evaluators(), scenes)


def test_captions_that_are_a_wording_of_the_scene_beat_those_of_others(source, scenes):
    references = [source.captions(scene) for scene in scenes]
    (right,) = score_captions([r[3] for r in references], references, "python")
    (wrong,) = score_captions([r[3] for r in references[1:] + references[:1]], references, "python")
    assert right.value > right.floor and right.value > 2 * wrong.value
    assert right.value == pytest.approx(right.ceiling, rel=0.5)
    assert right.n == COUNT
