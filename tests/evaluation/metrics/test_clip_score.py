"""CLIP score against open_clip's own cosine."""

import json

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from evaluation.metrics.clip_score import ClipModel, clip_score, cosines, load_open_clip
from evaluation.metrics.extractors import clip_features

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
CAPTIONS = ["a fish", "a red heart on yellow", "two cats", "nothing at all", "a tram", "a moon"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small open_clip model that exists nowhere else, and its weights in a file."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny-test.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / "tiny-test.json")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(open_clip.create_model("tiny-test").state_dict(), folder / "tiny.pt")
    return folder / "tiny.pt"


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 40, 48, 3), dtype=np.uint8)


def test_it_is_open_clips_own_cosine(checkpoint, images):
    model, _, preprocess = open_clip.create_model_and_transforms("tiny-test", str(checkpoint))
    model.eval()
    with torch.no_grad():
        pixels = torch.stack([preprocess(Image.fromarray(image)) for image in images])
        image, text = (
            model.encode_image(pixels, normalize=True),
            model.encode_text(open_clip.get_tokenizer("tiny-test")(CAPTIONS), normalize=True),
        )
    expected = (image * text).sum(1).numpy()
    clip = load_open_clip("tiny-test", str(checkpoint))
    assert cosines(clip, images, CAPTIONS) == pytest.approx(expected, abs=1e-5)
    metric = clip_score(clip, images, CAPTIONS)
    assert metric.value == pytest.approx(max(100 * expected.mean(), 0), abs=1e-3)
    assert (metric.n, metric.extractor) == (6, "open_clip tiny-test (tiny.pt)")
    assert metric.ceiling is None and metric.floor is None


def test_ceiling_and_floor_are_real_pictures_with_own_and_others_captions(checkpoint, images):
    clip = load_open_clip("tiny-test", str(checkpoint))
    metric = clip_score(clip, images[::-1].copy(), CAPTIONS, real_NHWC=images, seed=3)
    assert metric.ceiling == pytest.approx(max(100 * cosines(clip, images, CAPTIONS).mean(), 0))
    every_pair = np.array([cosines(clip, images, [caption] * 6) for caption in CAPTIONS])
    off_diagonal = every_pair[~np.eye(6, dtype=bool)]
    assert 100 * off_diagonal.min() <= metric.floor <= max(100 * off_diagonal.max(), 0)


def test_a_perfect_and_an_opposite_model_score_one_hundred_and_zero():
    vectors = torch.eye(4)
    images = np.arange(4, dtype=np.uint8).repeat(3).reshape(4, 1, 1, 3)

    def look(sign):
        return ClipModel(
            "toy",
            "toy",
            lambda pictures: vectors[pictures[:, 0, 0, 0].tolist()],
            lambda captions: sign * vectors[[int(caption) for caption in captions]],
        )

    metric = clip_score(look(1), images, list("0123"), images)
    assert (metric.value, metric.ceiling, metric.floor) == (100.0, 100.0, 0.0)
    assert clip_score(look(1), images, list("0321"), images).value == 50.0
    assert clip_score(look(-1), images, list("0123")).value == 0.0


def test_its_features_serve_a_frechet_distance_under_another_name(checkpoint, images):
    extractor = clip_features(load_open_clip("tiny-test", str(checkpoint)))
    assert extractor.features(images).shape == (6, 16)
    assert extractor.distance == "Frechet distance (tiny-test (tiny.pt))"


def test_one_caption_per_picture(checkpoint, images):
    clip = load_open_clip("tiny-test", str(checkpoint))
    with pytest.raises(ValueError, match="6 pictures and 5 captions"):
        clip_score(clip, images, CAPTIONS[:5])


def test_what_cannot_be_loaded_is_explained(tmp_path, checkpoint):
    with pytest.raises(ValueError, match="knows no model 'ViT-Z'"):
        load_open_clip("ViT-Z", "openai")
    with pytest.raises(
        ValueError, match=r"needs weights: give a pretrained tag .*laion2b_s34b_b79k"
    ):
        load_open_clip("ViT-B-32", None)
    with pytest.raises(ValueError, match=r"could not load tiny-test with weights 'nowhere.pt'"):
        load_open_clip("tiny-test", "nowhere.pt")
