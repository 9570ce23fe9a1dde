"""Scores anyone's files: folders of pictures, and captions in JSON.

Pictures are streamed: they are read once for all networks, and features go to a file, so memory
does not grow with the number of pictures.

Tensor legend: N pictures, B a batch of them, F features, H W C a picture.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from evaluation.files.caption_files import read_captions
from evaluation.files.caption_pairs import captions_of_pictures, results_with_references
from evaluation.files.picture_folder import BATCH, PictureFolder
from evaluation.metric import Metric, not_available
from evaluation.metrics.caption_metrics import caption_metrics
from evaluation.metrics.caption_tokens import TokenizerName, caption_words
from evaluation.metrics.clip_score import ClipModel, clip_metric, score_of
from evaluation.metrics.extractors import FeatureExtractor
from evaluation.metrics.feature_file import BLOCK, FeatureFile
from evaluation.metrics.fid import frechet_distance_and_draws, gaussian_of_features
from evaluation.metrics.kid import kid_metric
from evaluation.metrics.shuffle import derangement
from evaluation.metrics.suite import Evaluators
from evaluation.progress import counting

NAME_CLIP = "no CLIP model was named; name one, like --extractor ViT-B-32/laion2b_s34b_b79k"
Encode = Callable[[np.ndarray], Tensor]


@dataclass(frozen=True)
class FileScores:
    """Metrics of files, and in words what was counted, converted or left out on the way."""

    metrics: list[Metric]
    counts: list[str]


def score_pictures(
    generated: Path,
    reference: Path | None,
    captions: Path | None,
    evaluators: Evaluators,
    seed: int = 0,
) -> FileScores:
    """Frechet and kernel distances to reference pictures, and CLIP scores with captions.

    Args:
        generated: folder of the pictures to judge.
        reference: folder of real pictures; none leaves the distances out.
        captions: file of the captions they were made from (see ``caption_files``); none leaves the
            CLIP scores out. A picture with several captions has the mean of their cosines.
        seed: of intervals and of the shuffle behind the floor of the CLIP score.

    Raises:
        ValueError: nothing to compare with, fewer than two pictures, broken pictures, a caption
            file of another structure, or pictures without a caption.
    """
    if reference is None and captions is None:
        raise ValueError(
            f"nothing to compare {generated} with: give real pictures (--reference FOLDER), "
            "captions (--captions FILE.json), or both"
        )
    if reference is None and not evaluators.clips:
        raise ValueError(f"nothing to score with: {NAME_CLIP}")
    folders = {"generated": PictureFolder(generated)}
    if reference is not None:
        folders["reference"] = PictureFolder(reference)
    for name, folder in folders.items():
        if len(folder) < 2:
            raise ValueError(f"{len(folder)} {name} picture in {folder.folder}: give at least two")
    notes: list[str] = []
    if captions is not None:
        pairs, notes = captions_of_pictures(folders["generated"].names, read_captions(captions))
    for name, folder in folders.items():
        with counting(f"checking {name} pictures", len(folder)) as advance:
            folder.check(advance)

    distances = evaluators.extractors if reference is not None else ()
    clips = evaluators.clips if captions is not None else ()
    needed = [each.encode for each in distances] + [each.encode_images for each in clips]
    features = {"generated": encode_folder(folders["generated"], needed, "generated pictures")}
    metrics = []
    if reference is not None:
        features["reference"] = encode_folder(
            folders["reference"], [each.encode for each in distances], "reference pictures"
        )
        for extractor in distances:
            metrics += distances_of_features(
                extractor,
                features["generated"][extractor.encode],
                features["reference"][extractor.encode],
                seed,
            )
    if captions is not None:
        metrics += [
            clip_score_of_features(clip, features["generated"][clip.encode_images], pairs, seed)
            for clip in clips
        ]
        if not clips:
            metrics.append(not_available("CLIP score", "none", NAME_CLIP))
    counts = [f"{name}: {folder.summary()}" for name, folder in folders.items()]
    return FileScores(metrics, [*counts, *(f"captions: {note}" for note in notes)])


def score_caption_results(
    results: Path, captions: Path, tokenizer: TokenizerName | None = None, seed: int = 0
) -> FileScores:
    """CIDEr, BLEU, METEOR and SPICE of COCO results against the real captions of their images.

    Raises:
        ValueError: see ``results_with_references`` and ``caption_words``.
    """
    candidates, references, notes = results_with_references(results, read_captions(captions))
    metrics = caption_metrics(caption_words(candidates, references, tokenizer), seed)
    real = sum(map(len, references))
    count = f"{len(candidates):,} captions scored against {real:,} real ones"
    return FileScores(metrics, [count, *notes])


def encode_folder(
    folder: PictureFolder, encoders: Sequence[Encode], label: str
) -> dict[Encode, FeatureFile]:
    """Features of every picture by each encoder, in the order of the folder's names.

    A batch with pictures of several sizes is encoded size by size.
    """
    files = {encode: FeatureFile() for encode in encoders}
    with counting(label, len(folder)) as advance:
        for pictures in folder.batches(advance):
            for encode, file in files.items():
                file.append(_encode_by_size(encode, pictures))
    return files


def distances_of_features(
    extractor: FeatureExtractor, features: FeatureFile, reference: FeatureFile, seed: int = 0
) -> list[Metric]:
    """The Frechet and the kernel distance; of Inception's features, FID and KID."""
    value, draws = frechet_distance_and_draws(features, gaussian_of_features(reference), seed)
    count, width = features.shape
    note = f"against {len(reference)} real pictures; lower is better"
    if min(count, len(reference)) <= width:
        note += f"; biased upward: fewer pictures than the {width} features"
    frechet = Metric.sampled(
        extractor.distance, value, draws, count, extractor.name, None, None, note
    )
    kernel = "KID" if frechet.name == "FID" else frechet.name.replace("Frechet", "kernel")
    return [frechet, kid_metric(features, reference, kernel, extractor.name, seed)]


def clip_score_of_features(
    clip: ClipModel, images: FeatureFile, captions: Sequence[Sequence[str]], seed: int = 0
) -> Metric:
    """The CLIP score of pictures whose features are known; floor: with others' captions."""
    texts = _caption_features(clip, captions)
    order = np.arange(len(captions))
    own_N, others_N = (
        np.concatenate(
            [
                (_unit(images[start : start + BLOCK]) * texts[rows[start : start + BLOCK]]).sum(1)
                for start in range(0, len(rows), BLOCK)
            ]
        )
        for rows in (order, derangement(len(captions), seed))
    )
    note = "; floor: with the captions of other pictures"
    if any(len(each) > 1 for each in captions):
        note += "; mean over the captions of a picture"
    return clip_metric(clip, own_N, None, score_of(others_N), note, seed)


def _caption_features(clip: ClipModel, captions: Sequence[Sequence[str]]) -> FeatureFile:
    """Of each picture the mean of its captions' features of unit length, float64 [N, F].

    Its product with a picture's unit features is the mean of their cosines.
    """
    file = FeatureFile()
    for start in range(0, len(captions), BATCH):
        some = captions[start : start + BATCH]
        text_TF = _unit(clip.encode_texts([text for each in some for text in each]).cpu().numpy())
        ends = np.cumsum([len(each) for each in some])
        parts = np.split(text_TF, ends[:-1])
        file.append(np.stack([part.mean(axis=0) for part in parts]))
    return file


def _encode_by_size(encode: Encode, pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Features [B, F] of pictures [H, W, C], each size in one call."""
    places: dict[tuple[int, ...], list[int]] = {}
    for place, pixels_HWC in enumerate(pictures):
        places.setdefault(pixels_HWC.shape, []).append(place)
    parts = [
        encode(np.stack([pictures[place] for place in same])).cpu().numpy()
        for same in places.values()
    ]
    features_BF = np.empty((len(pictures), parts[0].shape[1]), parts[0].dtype)
    for same, part in zip(places.values(), parts, strict=True):
        features_BF[same] = part
    return features_BF


def _unit(features_BF: np.ndarray) -> np.ndarray:
    """Float64, unit length."""
    features = np.asarray(features_BF, dtype=np.float64)
    return features / np.linalg.norm(features, axis=1, keepdims=True)
