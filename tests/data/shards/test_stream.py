"""Documents of shards are drawn by weight, cut where they are long, and packed as ever."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fake_sources import WORDS, config_of

from mot_lab.data.documents import CodeSegment, Document, ImageSegment, Mixture, TextSegment
from mot_lab.data.own_data import OwnData, prepare_own
from mot_lab.data.packing import Layout, pack_row
from mot_lab.data.shards.part import StoredDocument
from mot_lab.data.shards.stream import MixtureStream, pieces


@pytest.fixture(scope="module")
def data(prepared: Path) -> OwnData:
    return prepare_own(config_of(prepared))


def kind_of(document: Document) -> str:
    pictures = sum(isinstance(each, ImageSegment) for each in document.segments)
    return "text" if not pictures else "pairs" if pictures == 1 else "pages"


def test_sources_are_drawn_by_their_weights(data: OwnData) -> None:
    stream, rng = data.stream("train"), np.random.default_rng(0)
    drawn = Counter(kind_of(stream.draw(rng)) for _ in range(6000))
    # 3 : 2 : 1, five standard deviations around
    for kind, share in {"pairs": 3 / 6, "text": 2 / 6, "pages": 1 / 6}.items():
        assert abs(drawn[kind] / 6000 - share) < 5 * np.sqrt(share * (1 - share) / 6000)


def test_every_document_of_a_source_is_drawn_as_often(data: OwnData) -> None:
    stream, rng = data.stream("train"), np.random.default_rng(0)
    drawn: Counter[bytes] = Counter()
    for _ in range(8000):
        document = stream.draw(rng)
        if kind_of(document) == "pairs":
            (picture,) = (s for s in document.segments if isinstance(s, ImageSegment))
            drawn[picture.latents_CHW.tobytes()] += 1
    assert len(drawn) == 16
    mean = sum(drawn.values()) / 16
    assert all(abs(count - mean) < 5 * np.sqrt(mean) for count in drawn.values())


def test_orders_of_pairs_and_captions_left_out(prepared: Path) -> None:
    changed = prepare_own(config_of(prepared, caption_first=0.75, caption_dropout=0.5))
    stream, rng = changed.stream("train"), np.random.default_rng(0)
    orders: Counter[str] = Counter()
    for _ in range(4000):
        document = stream.draw(rng)
        if kind_of(document) == "pairs":
            orders[
                "".join("i" if isinstance(s, ImageSegment) else "t" for s in document.segments)
            ] += 1
    all_of_them = sum(orders.values())
    for order, share in {"it": 0.25, "ti": 0.375, "i": 0.375}.items():
        assert abs(orders[order] / all_of_them - share) < 0.05


LAYOUT_PLACES = 6  # of a picture of OWN, begin and end included


def ids(count: int, first: int = 100) -> TextSegment:
    return TextSegment(np.arange(first, first + count))


def picture(data: OwnData) -> ImageSegment:
    return ImageSegment(np.zeros(data.layout.latent_shape, np.float32))


def with_length(data: OwnData, length: int) -> Layout:
    return Layout.of(data.texts, length, data.interface)


@pytest.mark.parametrize("tokens", [1, 17, 18, 19, 20, 38, 39, 57, 95, 200])
def test_a_long_text_is_cut_into_pieces_of_a_row(data: OwnData, tokens: int) -> None:
    layout = with_length(data, 20)
    found = pieces([ids(tokens)], layout)
    joined = np.concatenate([each.segments[0].ids for each in found])
    assert np.array_equal(joined, ids(tokens).ids)
    assert [layout.size(each) for each in found[:-1]] == [20] * (len(found) - 1)
    assert layout.size(found[-1]) <= 20
    assert len(found) == -(-tokens // 19)
    assert [each.cut for each in found[:-1]] == [True] * (len(found) - 1)
    assert found[-1].cut == (tokens % 19 == 0)


def test_pictures_of_a_long_document_stay_whole_and_in_order(data: OwnData) -> None:
    layout = with_length(data, 20)
    assert layout.places(picture(data)) == LAYOUT_PLACES
    segments = [ids(10), picture(data), ids(8, 300), picture(data), picture(data), picture(data)]
    found = pieces(segments, layout)
    kinds = [[type(each).__name__[0] for each in piece.segments] for piece in found]
    # 10 + 6 + 3 of 8 | 5 + 6 + 6 | 6
    assert kinds == [["T", "I", "T"], ["T", "I", "I"], ["I"]]
    assert [layout.size(each) for each in found] == [20, 18, 8]
    assert [each.cut for each in found] == [True, True, False]
    words = [s.ids for each in found for s in each.segments if isinstance(s, TextSegment)]
    assert np.array_equal(np.concatenate(words), np.concatenate([ids(10).ids, ids(8, 300).ids]))


def test_a_document_that_fits_is_one_piece(data: OwnData) -> None:
    layout = with_length(data, 20)
    segments = (ids(10), picture(data))
    (whole,) = pieces(segments, layout)
    assert whole.segments == segments and not whole.cut and layout.size(whole) == 18


def test_rows_are_filled_with_text_or_stay_padding(data: OwnData) -> None:
    stream = data.stream("train")
    for index in range(20):
        assert pack_row(stream, data.layout, (0, index)).used > data.layout.length - 4
    alone = MixtureStream(stream.sources[:1], [1.0], stream.mixture, data.layout)
    gaps = [data.layout.length - pack_row(alone, data.layout, (0, i)).used for i in range(20)]
    shortest = 2 + LAYOUT_PLACES + 3
    assert max(gaps) >= 4 and all(gap < 64 - shortest for gap in gaps)


def test_a_row_tells_the_documents_words(data: OwnData) -> None:
    """What is packed reads as the sources' own words."""
    stream = data.stream("val")
    for index in range(10):
        row = pack_row(stream, data.layout, (1, index))
        for document in range(row.documents):
            inside = row.token_S[(row.document_S == document) & (row.modality_S == 0)]
            words = data.texts.decode(inside.tolist()).split()
            # a word may be cut where a row ends, and texts around a picture are joined
            assert sum(word in WORDS for word in words) >= 0.5 * len(words)


def test_speech_goes_in_its_directions(data: OwnData) -> None:
    mixture = Mixture(0, 1, directions=("text_speech", "speech_text", "image_speech", "speech"))
    stream = MixtureStream(data.stream("train").sources, [1, 1, 1], mixture, data.layout)
    said, shown = ids(3), picture(data)
    units = CodeSegment("speech", np.arange(4))
    rng = np.random.default_rng(0)

    def drawn(*segments: object) -> set[str]:
        stored = StoredDocument("speech", segments, range(0))  # type: ignore[arg-type]
        found = [stream._arranged(stored, rng) for _ in range(100)]
        letter = {TextSegment: "t", CodeSegment: "s", ImageSegment: "i"}
        return {"".join(letter[type(s)] for s in each.segments) for each in found}

    assert drawn(units, said, shown) == {"ts", "st", "is", "s"}
    assert drawn(units, said) == {"ts", "st", "s"}
    assert drawn(units) == {"s"}
