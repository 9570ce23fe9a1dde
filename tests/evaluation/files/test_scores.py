"""Scores of files: against torch-fidelity and torchmetrics on the same files, and how they read."""

import json

import numpy as np
import pytest
import torch
import torch_fidelity
from picture_files import blobs, fixed_extractor, save_all
from PIL import Image
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchmetrics.image.fid import FrechetInceptionDistance

from benchmarks.fixed_network import FixedNetwork
from evaluation.files import scores as file_scores
from evaluation.files.scores import score_caption_results, score_pictures
from evaluation.metrics import caption_metrics
from evaluation.metrics.clip_score import ClipModel, clip_score
from evaluation.metrics.extractors import clip_features, inception
from evaluation.metrics.suite import Evaluators

FIXED = Evaluators((fixed_extractor(),))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """150 generated pictures and 130 real ones, of other colours."""
    root = tmp_path_factory.mktemp("pictures")
    return save_all(blobs(150, 0, tint=40), root / "made"), save_all(blobs(130, 1), root / "real")


@pytest.fixture(scope="module")
def fidelity(folders):
    """torch-fidelity's own figures of the same files with the same network."""
    torch_fidelity.register_feature_extractor("fixed", FixedNetwork)
    return torch_fidelity.calculate_metrics(
        input1=str(folders[0]),
        input2=str(folders[1]),
        cuda=False,
        fid=True,
        kid=True,
        kid_subset_size=130,
        feature_extractor="fixed",
        save_cpu_ram=True,
        verbose=False,
    )


def test_fid_and_kid_of_files_equal_torch_fidelity(folders, fidelity):
    frechet, kernel = score_pictures(*folders, None, FIXED).metrics
    assert frechet.value == pytest.approx(fidelity["frechet_inception_distance"], rel=1e-3)
    assert kernel.value == pytest.approx(fidelity["kernel_inception_distance_mean"], rel=1e-3)
    assert frechet.value > 1e-3 and kernel.value > 1e-5
    assert (frechet.name, kernel.name) == ("Frechet distance (fixed)", "kernel distance (fixed)")
    assert (frechet.n, kernel.n) == (150, 150)
    assert frechet.low < frechet.value < frechet.high and len(frechet.draws) == 1000


def test_fid_of_files_equals_torchmetrics(folders):
    class Network(torch.nn.Module):
        num_features = 24

        def __init__(self):
            super().__init__()
            self.fixed = FixedNetwork("fixed", ["fixed"])

        def forward(self, pictures_NCHW):
            return self.fixed(pictures_NCHW)[0].double()

    reference = FrechetInceptionDistance(Network(), input_img_size=(3, 16, 16))
    reference.set_dtype(torch.float64)
    for folder, real in zip(folders, (False, True), strict=True):
        pictures = np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])
        with torch.inference_mode():
            reference.update(torch.from_numpy(pictures).permute(0, 3, 1, 2), real)
    frechet, _ = score_pictures(*folders, None, FIXED).metrics
    assert frechet.value == pytest.approx(float(reference.compute()), rel=1e-3)


def test_inceptions_fid_of_files_equals_torch_fidelity(tmp_path, folders, monkeypatch):
    # Nobody's weights in the field's architecture, at its 2048 features.
    with monkeypatch.context() as patch:
        patch.setattr(
            "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url",
            lambda *_, **__: {},
        )
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_, **__: None)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    weights = tmp_path / "inception.pth"
    torch.save(network.state_dict(), weights)
    made = save_all(blobs(4, 0, tint=40), tmp_path / "made")
    real = save_all(blobs(3, 1), tmp_path / "real")
    expected = torch_fidelity.calculate_metrics(
        input1=str(made),
        input2=str(real),
        cuda=False,
        fid=True,
        feature_extractor_weights_path=str(weights),
        save_cpu_ram=True,
        verbose=False,
    )["frechet_inception_distance"]
    frechet, kernel = score_pictures(made, real, None, Evaluators((inception(weights),))).metrics
    assert frechet.value == pytest.approx(expected, rel=1e-3)
    assert (frechet.name, kernel.name) == ("FID", "KID")
    assert "biased upward: fewer pictures than the 2048 features" in frechet.note


def test_a_folder_is_at_distance_zero_from_itself(folders):
    frechet, kernel = score_pictures(folders[0], folders[0], None, FIXED).metrics
    assert frechet.value == pytest.approx(0.0, abs=1e-9)
    assert abs(kernel.value) < 1e-3


def counting_encoder(encode, calls):
    def counted(images):
        calls.append(images.shape)
        return encode(images)

    return counted


CLIP_ROOT = torch.randn(16 * 16 * 3, 8, generator=torch.Generator().manual_seed(0))


def toy_clip(calls):
    """Features of captions are those of the picture they number; pictures of any size."""

    def look(images):
        small = [np.asarray(Image.fromarray(image).resize((16, 16))) for image in images]
        pixels = torch.from_numpy(np.stack(small).reshape(len(small), -1)).float()
        return (pixels - 128) @ CLIP_ROOT

    made = blobs(150, 0, tint=40)
    return ClipModel(
        "toy CLIP", "toy", counting_encoder(look, calls), lambda c: look(made[[int(x) for x in c]])
    )


def test_clip_scores_of_files_are_those_of_arrays(folders, tmp_path):
    captions = {f"{place:04}": str((place + place % 3) % 150) for place in range(150)}
    (tmp_path / "c.json").write_text(json.dumps(captions))
    calls = []
    clip = toy_clip(calls)
    evaluators = Evaluators((clip_features(clip),), (clip,))
    scores = score_pictures(*folders, tmp_path / "c.json", evaluators)
    metric = scores.metrics[-1]
    assert sum(shape[0] for shape in calls) == 150 + 130  # each picture is looked at once
    of_arrays = clip_score(clip, blobs(150, 0, tint=40), list(captions.values()))
    assert metric.value == pytest.approx(of_arrays.value, rel=1e-6)
    assert metric.draws == pytest.approx(of_arrays.draws, rel=1e-4)
    assert metric.floor < 20 < metric.value < 100 and metric.n == 150
    assert metric.name == "CLIP score" and metric.extractor == "toy CLIP"


def test_several_captions_of_a_picture_give_the_mean_of_their_cosines(folders, tmp_path):
    captions = {f"{place:04}": [str(place), str((place + 1) % 150)] for place in range(150)}
    (tmp_path / "c.json").write_text(json.dumps(captions))
    clip = toy_clip([])
    metric = score_pictures(folders[0], None, tmp_path / "c.json", Evaluators((), (clip,)))
    own, next_one = (
        clip_score(clip, blobs(150, 0, tint=40), [str((p + shift) % 150) for p in range(150)])
        for shift in (0, 1)
    )
    assert metric.metrics[0].value == pytest.approx((own.value + next_one.value) / 2, abs=1e-6)
    assert "mean over the captions of a picture" in metric.metrics[0].note


def test_pictures_of_several_sizes_keep_their_places(tmp_path):
    pictures = [*blobs(20, 0, 16), *blobs(20, 1, 24), *blobs(20, 2, 16)]
    order = np.random.default_rng(0).permutation(60)
    for place, chosen in enumerate(order):
        save_all(pictures[chosen][None], tmp_path / "made", f"{place:04}.png")
    (file,) = file_scores.encode_folder(
        file_scores.PictureFolder(tmp_path / "made"), [FIXED.extractors[0].encode], ""
    ).values()
    alone = [FIXED.extractors[0].encode(pictures[chosen][None]).numpy()[0] for chosen in order]
    assert file[:] == pytest.approx(np.stack(alone), rel=1e-5, abs=1e-6)


def test_everything_odd_is_counted(folders, tmp_path):
    made = save_all(blobs(4, 0), tmp_path / "made")
    Image.fromarray(blobs(1, 5)[0]).convert("L").save(made / "grey.png")
    (made / "prompts.txt").write_text("")
    captions = {**{f"{place:04}": str(place) for place in range(4)}, "grey": "5", "more": "6"}
    (tmp_path / "c.json").write_text(json.dumps(captions))
    scores = score_pictures(made, folders[1], tmp_path / "c.json", FIXED)
    assert scores.counts == [
        "generated: 5 pictures scored (1 grey); left aside: 1 .txt",
        "reference: 130 pictures scored",
        "captions: 1 images have no picture here",
    ]
    assert scores.metrics[-1].name == "CLIP score" and scores.metrics[-1].value is None
    assert "no CLIP model was named" in scores.metrics[-1].note


def test_what_cannot_be_scored_is_refused_before_any_work(folders, tmp_path):
    def work(_):
        raise AssertionError("pictures were looked at")

    never = Evaluators((fixed_extractor(work),))
    with pytest.raises(ValueError, match="nothing to compare"):
        score_pictures(folders[0], None, None, never)
    one = save_all(blobs(1, 0), tmp_path / "one")
    with pytest.raises(ValueError, match="1 generated picture in"):
        score_pictures(one, folders[1], None, never)
    with pytest.raises(ValueError, match="1 reference picture in"):
        score_pictures(folders[0], one, None, never)
    (tmp_path / "c.json").write_text('{"0000": "a"}')
    with pytest.raises(ValueError, match="149 of 150 pictures have no caption"):
        score_pictures(*folders, tmp_path / "c.json", never)
    with pytest.raises(ValueError, match="nothing to score with"):
        score_pictures(folders[0], None, tmp_path / "c.json", never)
    broken = save_all(blobs(3, 0), tmp_path / "broken")
    (broken / "0001.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 of 3 pictures in .*: 0001.png \(empty file\)"):
        score_pictures(folders[0], broken, None, never)


def test_captions_from_files(tmp_path, monkeypatch):
    monkeypatch.setattr(caption_metrics, "java_runs", lambda: False)  # METEOR takes seconds
    annotations = [
        {"image_id": place, "caption": caption}
        for place in range(4)
        for caption in (f"a red thing number {place}", f"number {place} is a red thing")
    ]
    results = [{"image_id": place, "caption": f"a red thing number {place}"} for place in range(3)]
    (tmp_path / "a.json").write_text(json.dumps({"annotations": annotations}))
    (tmp_path / "r.json").write_text(json.dumps([*results, {"image_id": 3, "caption": ""}]))
    scores = score_caption_results(tmp_path / "r.json", tmp_path / "a.json", "python")
    metrics = {metric.name: metric for metric in scores.metrics}
    assert metrics["CIDEr"].value > 3 and metrics["BLEU-1"].value > 0.7
    assert scores.counts == [
        "4 captions scored against 8 real ones",
        "1 generated captions are empty and score as such",
    ]
