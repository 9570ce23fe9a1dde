"""Documents packed into rows: by hand, against loops, and what holds of every row.

Shapes: B rows, S positions, L text targets, N images, P patches per image, C x H x W latents.
"""

from collections import Counter
from itertools import chain

import numpy as np
import oracles
import pytest
import torch
from factories import (
    BOI,
    BOS,
    BOS_SPEECH,
    CHAMELEON_SPEECH,
    EOI,
    EOS,
    EOS_SPEECH,
    FIRST_WORD,
    INTERFACE,
    TRANSFUSION_SPEECH,
    TWO,
    random_batch,
    random_batches,
    tiny_layout,
    tiny_stream,
)

from mot_lab.batch import MultimodalBatch
from mot_lab.data.documents import (
    CodeSegment,
    Document,
    DocumentStream,
    ImageSegment,
    TextSegment,
)
from mot_lab.data.interface import DataInterface
from mot_lab.data.packing import NO_TARGET, Row, collate, pack_row

LAYOUT = tiny_layout(40)
SHAPE = (3, 4, 4)
X = NO_TARGET


def text(*ids: int) -> TextSegment:
    return TextSegment(np.array(ids))


def picture(value: float = 0.0) -> ImageSegment:
    return ImageSegment(np.full(SHAPE, value, np.float32))


def test_a_row_by_hand() -> None:
    """Caption first, then picture first, then prose that is cut, then one place of padding."""
    row = Row.empty(24)
    for document in (
        Document((text(10, 11), picture(1.0))),
        Document((picture(2.0), text(12))),
    ):
        row.add(document, LAYOUT)
    row.add(Document((text(13, 14),), cut=True), LAYOUT)
    assert row.used == 10 + 9 + 3
    i = 0  # the token id at a patch
    tokens = (
        [BOS, 10, 11, BOI, i, i, i, i, EOI, EOS],
        [BOS, BOI, i, i, i, i, EOI, 12, EOS],
        [BOS, 13, 14],
        [0, 0],
    )
    modalities = (
        [0, 0, 0, 0, 1, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1, 0, 0, 0],
        [0, 0, 0],
        [-1, -1],
    )
    # Nothing is predicted at <boi>, at a patch, at a document's last token and at padding;
    # <boi> itself is predicted, and so is what follows <eoi>.
    targets = (
        [10, 11, BOI, X, X, X, X, X, EOS, X],
        [BOI, X, X, X, X, X, 12, EOS, X],
        [13, 14, X],
        [X, X],
    )
    expected = {
        "token_S": [*chain(*tokens)],
        "modality_S": [*chain(*modalities)],
        "document_S": [0] * 10 + [1] * 9 + [2] * 3 + [-1] * 2,
        "position_S": [*range(10), *range(9), *range(3), 0, 0],
        "image_S": [-1] * 4 + [0] * 4 + [-1] * 4 + [1] * 4 + [-1] * 8,
        "target_S": [*chain(*targets)],
    }
    for name, values in expected.items():
        assert getattr(row, name).tolist() == values, name
    assert [float(latents[0, 0, 0]) for latents in row.latents] == [1.0, 2.0]


def codes(modality: str, *values: int) -> CodeSegment:
    return CodeSegment(modality, np.array(values))


def test_a_row_of_codes_by_hand() -> None:
    """A caption with its picture, of fixed length, and a recording, which ends where it says."""
    layout, row = tiny_layout(20, CHAMELEON_SPEECH), Row.empty(20)
    row.add(Document((text(10), codes("image", 3, 1, 0, 2))), layout)
    row.add(Document((codes("speech", 6, 6), text(11))), layout)
    images, units = [43, 41, 40, 42], [58, 58]  # 40 text tokens, then 12 codes, then 7 units
    assert row.token_S.tolist() == (
        [BOS, 10, BOI, *images, EOI, EOS, BOS, BOS_SPEECH, *units, EOS_SPEECH, 11, EOS, *[0] * 4]
    )
    assert row.modality_S.tolist() == [0] * 3 + [1] * 4 + [0] * 4 + [2] * 2 + [0] * 3 + [-1] * 4
    assert row.image_S.tolist() == [-1] * 20  # nothing is seen both ways
    assert row.target_S.tolist() == (
        [10, BOI, *images, X, EOS, X, BOS_SPEECH, *units, EOS_SPEECH, 11, EOS, X, *[X] * 4]
    )
    batch = collate([row], 0, layout)
    assert batch.counts == {"text": 10, "image": 4, "speech": 2}
    assert batch.target_counts == {"text": 7, "image": 4, "speech": 2}
    of_codes = batch.target_L >= 40
    assert batch.target_modality_L[of_codes].tolist() == [1] * 4 + [2] * 2
    assert not batch.target_modality_L[~of_codes].any()


def test_segments_that_do_not_fit_the_layout_are_refused() -> None:
    layout = tiny_layout(20, CHAMELEON_SPEECH)
    with pytest.raises(ValueError, match="image block of 3 codes, not 4"):
        layout.size(Document((codes("image", 1, 2, 3),)))
    with pytest.raises(ValueError, match="denoised pictures, the layout has text, image, speech"):
        layout.size(Document((picture(),)))
    with pytest.raises(ValueError, match="a segment is of ink"):
        layout.size(Document((codes("ink", 1),)))


def test_sizes() -> None:
    assert LAYOUT.size(Document((text(5, 6, 7),))) == 5
    assert LAYOUT.size(Document((text(5, 6, 7),), cut=True)) == 4
    assert LAYOUT.size(Document((text(5), picture(), text(6), picture()))) == 2 + 1 + 6 + 1 + 6


@pytest.mark.parametrize("length", [12, 24, 61])
@pytest.mark.parametrize("interface", [INTERFACE, CHAMELEON_SPEECH, TRANSFUSION_SPEECH])
def test_packing_is_the_loop_oracle(length: int, interface: DataInterface) -> None:
    layout, padded, cut = tiny_layout(length, interface), 0, 0
    stream = tiny_stream(prose_share=0.3, interface=interface)
    for index in range(60):
        row = pack_row(stream, layout, (3, index))
        expected = oracles.pack_row(stream, layout, (3, index))
        for name in ("token", "modality", "document", "position", "image", "target"):
            assert getattr(row, f"{name}_S").tolist() == expected[name], name
        assert len(row.latents) == len(expected["latents"]) == len(row.noise) == len(row.time)
        for latents, other in zip(row.latents, expected["latents"], strict=True):
            assert np.array_equal(latents, other)
        padded += (row.modality_S < 0).any()
        cut += row.token_S[row.used - 1] != EOS
    assert cut > 10  # and all that was left over is cut prose
    assert padded > 0


@pytest.mark.parametrize("length", [12, 25, 64])
def test_rows_are_full_but_for_three_places(length: int) -> None:
    stream, layout = tiny_stream(), tiny_layout(length)
    for index in range(100):
        row = pack_row(stream, layout, (0, index))
        padding = int((row.modality_S < 0).sum())
        assert padding == length - row.used < 4
        assert (row.modality_S[row.used :] < 0).all()


def test_a_row_is_a_function_of_seed_and_index() -> None:
    stream, layout = tiny_stream(), tiny_layout(30)

    def packed(seed: int, index: int) -> str:
        row = pack_row(stream, layout, (seed, index))
        return collate([row], 0, layout).sha256()

    forwards = [packed(0, index) for index in range(20)]
    assert [packed(0, index) for index in reversed(range(20))] == forwards[::-1]
    assert len(set(forwards)) == 20
    assert not {packed(1, index) for index in range(20)} & set(forwards)


def test_shares_of_prose_and_of_captions_first() -> None:
    stream, rng = tiny_stream(prose_share=0.1, caption_first=0.8), np.random.default_rng(0)
    documents = [stream.draw(rng) for _ in range(4000)]
    pairs = [document for document in documents if len(document.segments) == 2]
    assert 1 - len(pairs) / 4000 == pytest.approx(0.1, abs=0.02)
    first = sum(isinstance(document.segments[0], TextSegment) for document in pairs)
    assert first / len(pairs) == pytest.approx(0.8, abs=0.02)

    for share, kind in ((0.0, 2), (1.0, 1)):
        extreme = tiny_stream(prose_share=share)
        assert {len(extreme.draw(rng).segments) for _ in range(50)} == {kind}


def test_captions_are_dropped_before_pictures_only() -> None:
    stream, rng = tiny_stream(prose_share=0.0, caption_dropout=0.25), np.random.default_rng(0)
    documents = [stream.draw(rng) for _ in range(4000)]
    alone = sum(len(document.segments) == 1 for document in documents) / 4000
    assert alone == pytest.approx(0.8 * 0.25, abs=0.02)
    pairs = [document for document in documents if len(document.segments) == 2]
    first = sum(isinstance(document.segments[0], ImageSegment) for document in pairs) / 4000
    assert first == pytest.approx(0.2, abs=0.02)


def test_speech_comes_in_every_direction() -> None:
    stream = tiny_stream(prose_share=0.2, interface=CHAMELEON_SPEECH)
    rng, kinds = np.random.default_rng(0), Counter()
    for _ in range(4000):
        segments = stream.draw(rng).segments
        kinds["+".join(getattr(each, "modality", "text") for each in segments)] += 1
    # A third is speech, in four directions; where there is no picture for it, it stands alone.
    share = {name: number / 4000 for name, number in kinds.items()}
    assert share["text+speech"] == pytest.approx(1 / 12, abs=0.02)
    assert share["speech+text"] == pytest.approx(1 / 12, abs=0.02)
    assert share["image+speech"] == pytest.approx(1 / 24, abs=0.02)
    assert share["speech"] == pytest.approx(1 / 12 + 1 / 24, abs=0.02)
    assert share["text"] == pytest.approx(0.2 * 2 / 3, abs=0.02)


def _image(document: Document) -> ImageSegment:
    (found,) = (each for each in document.segments if isinstance(each, ImageSegment))
    return found


def test_pictures_go_with_their_own_captions_and_all_are_drawn() -> None:
    stream, rng = tiny_stream(prose_share=0.0), np.random.default_rng(0)
    pool, drawn = stream.pool, set()
    for _ in range(500):
        document = stream.draw(rng)
        latents = _image(document).latents_CHW
        (scene,) = (i for i in range(len(pool)) if np.array_equal(pool.images[i], latents))
        (caption,) = (each for each in document.segments if isinstance(each, TextSegment))
        (choice,) = (c for c in range(2) if np.array_equal(pool.caption(scene, c / 2), caption.ids))
        drawn.add((scene, choice))
    assert len(drawn) == 12


def test_noise_is_normal_and_times_are_uniform_thousandths() -> None:
    batches = random_batches(rows=16, length=64, prose_share=0.0)
    some = [next(batches) for _ in range(20)]
    noise = torch.cat([batch.noise_NCHW for batch in some])
    time = torch.cat([batch.time_N for batch in some])
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.std().item() == pytest.approx(1, abs=0.02)
    assert time.min() >= 0 and time.max() < 1
    steps = time.double() * 1000
    assert (steps - steps.round()).abs().max() < 1e-4
    assert time.mean().item() == pytest.approx(0.5, abs=0.03)


def check_batch(batch: MultimodalBatch) -> None:
    """What holds of every batch."""
    flat = {
        name: getattr(batch, f"{name}_BS").flatten()
        for name in ("token", "modality", "document", "position", "image")
    }
    length, patches = batch.token_BS.shape[1], INTERFACE.others["image"].length
    assert batch.counts == {name: int((flat["modality"] == i).sum()) for i, name in enumerate(TWO)}
    assert batch.patch_place_M.tolist() == (flat["modality"] == 1).nonzero()[:, 0].tolist()
    assert batch.patch_place_M.numel() == batch.num_images * patches
    assert ((flat["image"] >= 0) == (flat["modality"] == 1)).all()
    for places in batch.patch_place_M.view(-1, patches):
        assert (places.diff() == 1).all()
        for name in ("document", "image"):
            assert len(flat[name][places].unique()) == 1
        before, after = int(places[0]) - 1, int(places[-1]) + 1
        assert (flat["token"][before], flat["token"][after]) == (BOI, EOI)
        assert flat["document"][before] == flat["document"][after] == flat["document"][places[0]]
    for row in range(len(batch.token_BS)):
        ids = batch.image_BS[row][batch.image_BS[row] >= 0]
        assert ids.unique().tolist() == list(range(len(ids) // patches))
    targets = dict(zip(batch.target_place_L.tolist(), batch.target_L.tolist(), strict=True))
    assert sorted(targets) == batch.target_place_L.tolist()
    for place in range(flat["token"].numel()):
        follows = (place + 1) % length and flat["document"][place] == flat["document"][place + 1]
        words = flat["modality"][place] == 0 and flat["token"][place] != BOI
        if follows and words:
            assert targets.pop(place) == flat["token"][place + 1] != 0
    assert not targets
    starts = flat["position"] == 0
    real = flat["document"] >= 0
    assert (flat["token"][starts & real] == BOS).all()
    assert (flat["token"][~starts] != BOS).all()


@pytest.mark.parametrize(("length", "rows"), [(24, 4), (40, 3), (13, 2)])
def test_invariants_of_batches(length: int, rows: int) -> None:
    batches = random_batches(rows=rows, length=length)
    for step in range(15):
        batch = next(batches)
        assert batch.step == step
        check_batch(batch)


def test_a_batch_without_pictures_has_empty_latents() -> None:
    batch = next(random_batches(prose_share=1.0))
    assert batch.latents_NCHW.shape == (0, *SHAPE)
    assert batch.num_images == 0
    check_batch(batch)


def test_latents_noise_and_times_go_with_their_rows() -> None:
    stream, layout = tiny_stream(), tiny_layout()
    rows = [pack_row(stream, layout, (0, index)) for index in range(4)]
    batch = collate(rows, 7, layout)
    image = 0
    for row in rows:
        for latents, noise, time in zip(row.latents, row.noise, row.time, strict=True):
            assert np.array_equal(batch.latents_NCHW[image], latents)
            assert np.array_equal(batch.noise_NCHW[image], noise)
            assert batch.time_N[image].item() == pytest.approx(time)
            image += 1
    assert image == batch.num_images
    assert batch.step == 7
    assert random_batch().latents_NCHW.dtype == torch.float32


def test_a_picture_without_caption_room_is_never_cut() -> None:
    stream: DocumentStream = tiny_stream(prose_share=0.0)
    layout = tiny_layout(14)
    for index in range(50):
        row = pack_row(stream, layout, (0, index))
        assert (row.modality_S == 1).sum() == 4 * len(row.latents)
        assert (row.token_S == EOI).sum() == len(row.latents)
        words = row.token_S[(row.modality_S == 0) & (row.token_S > EOI)]
        assert (words >= FIRST_WORD).all()
