"""The checker reads real scenes without error, and shuffled prompts score at chance."""

from collections import Counter

import numpy as np
import pytest

from evaluation.metrics.scene_checker import check, compare, score
from mot_lab.data.scenes import SPLITS, PlacedObject, Scene, ScenesConfig, SceneSource


@pytest.fixture(scope="module")
def source():
    return SceneSource(ScenesConfig())


def drawn(source, split, count):
    scenes = [source.scene(split, 3, index) for index in range(count)]
    return scenes, np.stack([source.render(scene) for scene in scenes])


def slow_check(image, source, emojis):
    """Oracle: every tile of every ground in every cell, one at a time, in float64."""
    cell, best = source.cell, None
    for ground in range(source.config.grounds):
        bare = np.broadcast_to(source.ground_colours[ground], (cell, cell, 3))
        total, objects = 0.0, []
        for row in range(source.config.grid):
            for column in range(source.config.grid):
                patch = image[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
                tiles = [source.tile(emoji, ground) for emoji in emojis] + [bare]
                errors = [((patch.astype(float) - tile) ** 2).sum() for tile in tiles]
                found = int(np.argmin(errors))
                total += errors[found]
                if found < len(emojis):
                    objects.append(PlacedObject(emojis[found], row, column))
        if best is None or total < best[0]:
            best = total, Scene(ground, tuple(objects))
    return best[1]


@pytest.mark.parametrize("split", SPLITS)
def test_real_scenes_are_read_without_error(source, split):
    scenes, images = drawn(source, split, 600)
    result = score(images, scenes, source)
    assert result.scenes == 600 and result.objects > 800
    assert result.objects_right == result.objects
    assert result.ground_right == result.scenes_right == 600


def test_larger_scenes_are_read_without_error():
    source = SceneSource(ScenesConfig(emojis=200, canvas=48, grid=3, max_objects=4, grounds=8))
    scenes, images = drawn(source, "test", 200)
    assert score(images, scenes, source).scenes_right == 200


@pytest.mark.parametrize("split", ["val", "test"])
def test_mild_noise_and_blur_change_nothing(source, split):
    scenes, images = drawn(source, split, 400)
    noise = np.random.default_rng(0).normal(0, 20, images.shape)
    noisy = np.clip(images + noise, 0, 255).astype(np.uint8)
    blurred = images.astype(float)
    for axis in (1, 2):
        blurred = (2 * blurred + np.roll(blurred, 1, axis) + np.roll(blurred, -1, axis)) / 4
    for changed in (noisy, blurred.astype(np.uint8)):
        result = score(changed, scenes, source)
        assert result.objects_right >= 0.98 * result.objects
        assert result.scenes_right >= 0.98 * result.scenes


def test_shuffled_prompts_score_at_chance(source):
    """An object is right by chance as often as other scenes hold that emoji in that cell."""
    scenes, images = drawn(source, "test", 1000)
    shuffled = [scenes[i] for i in np.random.default_rng(0).permutation(1000)]
    result = score(images, shuffled, source)
    counts = np.array(list(Counter(each for scene in scenes for each in scene.objects).values()))
    chance = (counts * counts / 1000).sum() / counts.sum()
    assert chance < 0.06
    assert result.objects_right / result.objects == pytest.approx(chance, abs=0.012)
    assert result.ground_right / 1000 == pytest.approx(0.25, abs=0.05)
    assert result.scenes_right < 20


def test_the_fast_check_equals_the_slow_one_on_noise_and_on_scenes(source):
    rng = np.random.default_rng(1)
    _, images = drawn(source, "val", 6)
    mixed = np.clip(images + rng.normal(0, 90, images.shape), 0, 255).astype(np.uint8)
    noise = rng.integers(0, 256, images.shape, dtype=np.uint8)
    known = list(range(len(source.known)))
    for pictures in (images, mixed, noise):
        assert check(pictures, source) == [slow_check(image, source, known) for image in pictures]


def test_each_part_of_a_score():
    prompt = Scene(1, (PlacedObject(2, 0, 0), PlacedObject(5, 1, 1)))
    found = [
        prompt,
        Scene(0, prompt.objects),
        Scene(1, (*prompt.objects[:1], PlacedObject(6, 1, 1))),
        Scene(1, (PlacedObject(2, 0, 0), PlacedObject(3, 0, 1), PlacedObject(5, 1, 1))),
        Scene(1, (PlacedObject(2, 0, 1), PlacedObject(5, 1, 0))),
        Scene(1, ()),
    ]
    result = compare(found, [prompt] * 6)
    assert result.objects_right_N.tolist() == [2, 2, 1, 2, 0, 0]
    assert result.ground_right_N.tolist() == [True, False, True, True, True, True]
    assert result.scene_right_N.tolist() == [True, False, False, False, False, False]
    assert (result.objects_right, result.objects, result.ground_right) == (7, 12, 5)
    assert (result.scenes_right, result.scenes) == (1, 6)


def test_pictures_of_the_wrong_kind_are_refused(source):
    scenes, images = drawn(source, "val", 2)
    with pytest.raises(ValueError, match="float64"):
        check(images / 255.0, source)
    with pytest.raises(ValueError, match="32, 32, 3"):
        check(images[:, :16], source)
    with pytest.raises(ValueError, match="2 pictures, but 1 prompts"):
        score(images, scenes[:1], source)


@pytest.mark.parametrize(
    ("found", "right"),
    [
        ([(3, 0, 0), (5, 0, 1)], True),  # as asked for
        ([(3, 1, 0), (5, 0, 1)], True),  # elsewhere, but still left of it
        ([(3, 0, 1), (5, 0, 0)], False),  # changed places
        ([(3, 0, 0), (5, 1, 0)], False),  # above instead
        ([(3, 0, 0)], False),  # one is missing
        ([(3, 0, 0), (5, 0, 1), (5, 1, 1)], False),  # one is there twice
    ],
)
def test_relations_by_hand(found, right):
    """The prompt: emoji 3 top left, emoji 5 top right, so "3, left of 5"."""

    def scene(*objects):
        return Scene(0, tuple(PlacedObject(*each) for each in objects))

    prompts = [scene((3, 0, 0), (5, 0, 1)), scene((3, 1, 1))]
    result = compare([scene(*found), scene((3, 1, 1))], prompts)
    assert result.relation_right_N.tolist() == [right, False]
    assert result.related_N.tolist() == [True, False]


def test_relation_above_is_of_rows():
    def scene(*objects):
        return Scene(0, tuple(PlacedObject(*each) for each in objects))

    diagonal = scene((3, 0, 1), (5, 1, 0))  # captions call this "above"
    founds = [scene((3, 0, 0), (5, 1, 1)), scene((5, 0, 0), (3, 1, 1)), scene((3, 0, 0), (5, 0, 1))]
    result = compare(founds, [diagonal] * 3)
    assert result.relation_right_N.tolist() == [True, False, False]
