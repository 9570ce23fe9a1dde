"""Scenes: pure in (seed, index), held out by combination, drawn exactly, told by each caption."""

from itertools import combinations

import numpy as np
import pytest

from mot_lab.data.openmoji import render
from mot_lab.data.scenes import SPLITS, PlacedObject, Scene, ScenesConfig, SceneSource

LARGER = ScenesConfig(emojis=48, canvas=48, grid=4, max_objects=4, grounds=8)


@pytest.fixture(scope="module")
def source():
    return SceneSource(ScenesConfig())


@pytest.fixture(scope="module", params=[ScenesConfig(), LARGER], ids=["demo", "larger"])
def any_source(request):
    return SceneSource(request.param)


def scenes(source, split, count, seed=0):
    return [source.scene(split, seed, index) for index in range(count)]


def combination_keys(source, scene):
    """Oracle: what a scene combines, spelled out: its pairs, or its one emoji, cell and ground."""
    if len(scene.objects) == 1:
        return {(scene.objects[0], scene.ground)}
    return {frozenset(pair) for pair in combinations([o.emoji for o in scene.objects], 2)}


def test_a_scene_is_a_function_of_seed_and_index(any_source):
    again = SceneSource(any_source.config)
    for split in SPLITS:
        first = scenes(any_source, split, 50)
        # In another order, from another source.
        assert first == [again.scene(split, 0, index) for index in reversed(range(50))][::-1]
        assert first != scenes(any_source, split, 50, seed=1)
    assert scenes(any_source, "val", 50) != scenes(any_source, "test", 50)


def test_the_demo_scenes_stay_as_they_are(source):
    """Golden: a change here changes every result measured on the demo's data."""
    names = [drawing.name for drawing in source.known]
    assert names[:4] == ["red apple", "soccer ball", "droplet", "rabbit face"]
    assert source.captions(source.scene("train", 0, 0))[0] == (
        "a butterfly at the bottom left and a panda at the bottom right on pink"
    )
    assert source.captions(source.scene("test", 0, 1))[0] == (
        "a rabbit face at the top right and a cow face at the bottom right on yellow"
    )


def test_scenes_are_well_formed_and_use_everything(any_source):
    config = any_source.config
    for split in SPLITS:
        drawn = scenes(any_source, split, 1500)
        for scene in drawn:
            cells = [(each.row, each.column) for each in scene.objects]
            emojis = [each.emoji for each in scene.objects]
            assert cells == sorted(set(cells)) and len(set(emojis)) == len(emojis)
            assert all(0 <= value < config.grid for cell in cells for value in cell)
            in_unseen = [emoji >= len(any_source.known) for emoji in emojis]
            assert all(in_unseen) if split == "unseen" else not any(in_unseen)
        assert {len(scene.objects) for scene in drawn} == set(range(1, config.max_objects + 1))
        assert {scene.ground for scene in drawn} == set(range(config.grounds))
        if split == "train":
            assert {o.emoji for scene in drawn for o in scene.objects} == set(range(config.emojis))


def test_no_combination_is_in_two_splits(any_source):
    """Structure: train holds no held-out combination, every held-out scene holds one."""
    seen = {split: scenes(any_source, split, 4000) for split in ("train", "val", "test")}
    keys = {
        split: [combination_keys(any_source, scene) for scene in drawn]
        for split, drawn in seen.items()
    }
    trained = set().union(*keys["train"])
    validated = {key for scene in keys["val"] for key in scene if key not in trained}
    assert all(scene - trained for scene in keys["val"])
    assert all(scene - trained - validated for scene in keys["test"])
    for split, drawn in seen.items():
        assert all(any_source.split_of(scene) == split for scene in drawn)


def test_a_tenth_of_the_combinations_is_val_and_a_tenth_test(any_source):
    holdout = any_source._holdout
    for parts in (holdout.pairs, holdout.singles):
        shares = np.array([len(part) for part in parts]) / sum(len(part) for part in parts)
        np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.01)
    assert np.array_equal(holdout.pair_EE, holdout.pair_EE.T)


@pytest.fixture(scope="module")
def train_NP(source):
    """Every distinct picture among 16,000 draws of train, colours around 0."""
    pictures = np.stack([source.render(scene) for scene in set(scenes(source, "train", 16000))])
    assert len(pictures) > 3500
    return pictures.reshape(len(pictures), -1).astype(np.float32) / 255 - 0.5


@pytest.mark.parametrize("split", ["val", "test", "unseen"])
def test_no_held_out_picture_is_near_a_training_picture(source, train_NP, split):
    """Pixels: 300 held-out scenes against most of the 4,812 training scenes that there are.

    An error of 0.004 is one of 16 grey levels in every number of the picture, or of 32 in one of
    its four cells.
    """
    held = np.stack([source.render(scene) for scene in scenes(source, split, 300)])
    held_MP = held.reshape(len(held), -1).astype(np.float32) / 255 - 0.5
    squares = (held_MP**2).sum(1)[:, None] + (train_NP**2).sum(1)[None]
    nearest = ((squares - 2 * held_MP @ train_NP.T) / held_MP.shape[1]).min()
    assert nearest > 0.004, nearest


def test_any_two_known_scenes_differ_by_more_than_a_bound(source):
    """Exact, without sampling: two scenes differ in the ground, or in what some cell holds.

    So the least difference of two tiles on one ground (bare included), over the cells, bounds
    the difference of all scenes on one ground; the bare parts bound it on different grounds.
    """
    least = []
    for ground, colour in enumerate(source.ground_colours):
        bare = np.broadcast_to(colour, (1, source.cell, source.cell, 3))
        tiles = np.concatenate([source.tile(slice(0, len(source.known)), ground), bare]) / 255
        errors = ((tiles[:, None] - tiles[None]) ** 2).mean(axis=(2, 3, 4))
        least.append(errors[~np.eye(len(tiles), dtype=bool)].min() / source.config.grid**2)
    assert min(least) > 0.006, least
    colours = source.ground_colours / 255
    apart = ((colours[:, None] - colours[None]) ** 2).mean(axis=2)
    bare_cells = 1 - source.config.max_objects / source.config.grid**2
    assert apart[~np.eye(len(colours), dtype=bool)].min() * bare_cells > 0.006


def test_rendering_is_alpha_composition(any_source):
    config = any_source.config
    rgba = render(any_source.drawings, any_source.cell) / 255.0
    for split in ("train", "unseen"):
        for scene in scenes(any_source, split, 20):
            expected = np.tile(
                any_source.ground_colours[scene.ground] / 255.0, (*[config.canvas] * 2, 1)
            )
            for each in scene.objects:
                for y in range(any_source.cell):
                    for x in range(any_source.cell):
                        *colour, opacity = rgba[each.emoji, y, x]
                        at = each.row * any_source.cell + y, each.column * any_source.cell + x
                        expected[at] = np.array(colour) * opacity + expected[at] * (1 - opacity)
            picture = any_source.render(scene)
            assert picture.shape == (config.canvas, config.canvas, 3) and picture.dtype == np.uint8
            assert np.abs(picture - expected * 255).max() <= 0.5 + 1e-9


def test_captions_of_one_scene_in_words(source):
    broccoli = next(i for i, drawing in enumerate(source.known) if drawing.name == "broccoli")
    umbrella = next(i for i, drawing in enumerate(source.known) if drawing.name == "umbrella")
    ground = source.ground_names.index("yellow")
    two = Scene(ground, (PlacedObject(broccoli, 0, 0), PlacedObject(umbrella, 1, 1)))
    assert source.captions(two) == [
        "a broccoli at the top left and an umbrella at the bottom right on yellow",
        "on yellow, a broccoli at the top left and an umbrella at the bottom right",
        "a broccoli top left, an umbrella bottom right, yellow ground",
        "at the top left a broccoli and bottom right an umbrella on yellow",
        "a yellow picture with a broccoli at the top left and an umbrella at the bottom right",
        "top left: broccoli, bottom right: umbrella, ground: yellow",
        "a broccoli at the top left, above an umbrella at the bottom right on yellow",
    ]
    one = Scene(ground, (PlacedObject(broccoli, 1, 0),))
    assert source.captions(one)[0] == "a broccoli at the bottom left on yellow"


def test_every_caption_determines_its_scene(any_source):
    told = {}
    for split in SPLITS:
        for scene in scenes(any_source, split, 1000):
            captions = any_source.captions(scene)
            assert len(captions) >= 5 and len(set(captions)) == len(captions)
            for caption in captions:
                assert told.setdefault(caption, scene) == scene, caption
                assert any_source.ground_names[scene.ground] in caption
                for each in scene.objects:
                    assert any_source.drawings[each.emoji].name in caption


def test_captions_are_short(source):
    lengths = [
        len(caption.split())
        for scene in scenes(source, "train", 1000)
        for caption in source.captions(scene)
    ]
    assert max(lengths) <= 20 and np.mean(lengths) < 13


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"canvas": 33}, r"canvas=33.*grid=2"),
        ({"grid": 0}, "grid 0 must be at least 1"),
        ({"max_objects": 5, "emojis": 64}, r"max_objects=5 .*between 1 and 4"),
        ({"max_objects": 0}, "max_objects=0"),
        ({"grounds": 9}, r"grounds=9 .*between 1 and 8"),
        ({"emojis": 4}, r"emojis=4 .*at least 8"),
        ({"unseen_concepts": 1}, "unseen_concepts=1"),
    ],
)
def test_impossible_configurations_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        ScenesConfig(**wrong)


def test_unknown_split_and_too_many_emojis_are_refused(source):
    with pytest.raises(ValueError, match=r"'training'.*train, val, test, unseen"):
        source.scene("training", 0, 0)
    with pytest.raises(ValueError, match="emojis 3000 must be at least 1 and at most 1,061"):
        ScenesConfig(emojis=3000)
    # so many are there, but not beside as many unseen ones
    with pytest.raises(ValueError, match="emojis=1061"):
        SceneSource(ScenesConfig(emojis=1061, unseen_concepts=313))
