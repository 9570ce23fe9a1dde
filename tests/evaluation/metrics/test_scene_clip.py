"""The embedded CLIP model on stand-in scenes: quarters of a picture in named colours."""

import json

import numpy as np
import pytest
import torch

from evaluation.metrics.clip_score import clip_score
from evaluation.metrics.scene_clip import load_scene_clip
from evaluation.metrics.scene_clip_fit import (
    SceneClipConfig,
    contrastive_loss,
    same_scene,
    to_tokens,
)
from mot_lab.runtime import cache

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "white": (250,) * 3}
PLACES = ("top left", "top right", "bottom left", "bottom right")
WORDS = [*COLOURS, *" ".join(PLACES).split(), "a", "at"]
QUICK = SceneClipConfig(
    width=32, heads=2, vision_layers=1, text_layers=1, features=16, batch=32, steps=120
)


def encode(caption):
    return [WORDS.index(word) for word in caption.split()]


def pairs(first, count):
    """Each quarter in one of four colours: 256 pictures, every caption tells all of one."""
    chosen = np.random.default_rng(first).integers(4, size=(count, 2, 2))
    images = np.array(list(COLOURS.values()), np.uint8)[chosen].repeat(8, axis=1).repeat(8, axis=2)
    names = np.array(list(COLOURS))[chosen.reshape(count, 4)]
    return images, [
        " ".join(f"{name} at {place}" for name, place in zip(row, PLACES, strict=True))
        for row in names
    ]


def held_out(first, count):
    return pairs(1_000_000 + first, count)


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOT_LAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield cache.cache_root()


def load(**changes):
    arguments = {
        "config": QUICK,
        "canvas": 16,
        "vocab_size": len(WORDS),
        "encode": encode,
        "training": pairs,
        "held_out": held_out,
        "key": "quarters",
    }
    return load_scene_clip(**{**arguments, **changes})


def test_it_learns_what_captions_say_and_its_name_tells_how_well(caches):
    clip = load()
    (card,) = [json.loads(path.read_text()) for path in caches.glob("scene-clip-*/card.json")]
    assert card["retrieval_top1"] > 0.5  # one in 64 by chance
    assert f"{100 * card['retrieval_top1']:.1f}% of held-out scenes among 64" in clip.name
    images, captions = held_out(0, 64)
    metric = clip_score(clip, images, captions, images)
    assert metric.value == metric.ceiling > 60
    assert metric.floor < 30


def test_a_second_call_reads_the_cache_and_gives_the_same_features(caches):
    first = load()

    def never(*_):
        raise AssertionError("the pairs were asked for again")

    again = load(training=never, held_out=never)
    images, captions = held_out(0, 8)
    assert torch.equal(first.encode_images(images), again.encode_images(images))
    assert torch.equal(first.encode_texts(captions), again.encode_texts(captions))
    assert len(list(caches.glob("scene-clip-*"))) == 1
    with pytest.raises(AssertionError, match="asked for again"):
        load(training=never, key="other scenes")


def test_training_leaves_the_global_random_state_alone(caches):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    load(config=SceneClipConfig(**{**vars(QUICK), "steps": 2}))
    assert torch.equal(torch.rand(3), expected)


def test_pairs_that_show_or_say_the_same_are_no_negatives():
    images = np.arange(4, dtype=np.uint8).repeat(12).reshape(4, 2, 2, 3)
    images[2] = images[0]
    same = same_scene(images, ["a", "b", "c", "b"])
    assert same.nonzero().tolist() == [[0, 2], [1, 3], [2, 0], [3, 1]]
    # The loss is then that of the pair's own logits without those columns.
    generator = torch.Generator().manual_seed(0)
    image, text = torch.randn(2, 4, 5, generator=generator)
    out = {"image_features": image, "text_features": text, "logit_scale": torch.tensor(2.0)}
    logits = 2 * image @ text.T
    expected = 0.0
    for own in range(4):
        kept = [other for other in range(4) if not same[own, other]]
        expected -= (logits[own, own] - torch.logsumexp(logits[own, kept], 0)) / 8
        expected -= (logits[own, own] - torch.logsumexp(logits[kept, own], 0)) / 8
    assert float(contrastive_loss(out, same)) == pytest.approx(float(expected), rel=1e-5)


def test_tokens_end_with_the_end_token_and_filling_and_long_ones_are_refused(caches):
    class Sizes:
        context_length, vocab_size = 5, 12

    rows = to_tokens(["top left", "red"], encode, Sizes).tolist()
    assert rows == [[4, 5, 10, 11, 11], [0, 10, 11, 11, 11]]
    with pytest.raises(ValueError, match=r"5 tokens is too long .* reads up to 4"):
        to_tokens(["a a a a a"], encode, Sizes)
    with pytest.raises(ValueError, match="30 tokens is too long"):
        load().encode_texts(["a " * 30])


def test_pictures_of_another_size_are_refused(caches):
    with pytest.raises(ValueError, match="trained on 16 x 16 pictures, these are 32 x 32"):
        load().encode_images(np.zeros((1, 32, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="no multiple of the patch"):
        load(canvas=20)


def test_few_held_out_pictures_make_an_easier_question_and_one_makes_none(caches):
    quick = SceneClipConfig(**{**vars(QUICK), "steps": 1})

    def five(first, count):
        images, captions = pairs(0, 5)
        chosen = np.arange(first, first + count) % 5
        return images[chosen], [captions[place] for place in chosen]

    assert "of held-out scenes among 5)" in load(config=quick, held_out=five, key="five").name

    def one(first, count):
        return pairs(0, 1)[0].repeat(count, axis=0), ["red at top left"] * count

    with pytest.raises(ValueError, match="pictures are all the same"):
        load(config=quick, held_out=one, key="one")
