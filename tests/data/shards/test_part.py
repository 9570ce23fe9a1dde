"""What is written of documents is what is read of them, number for number."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from fake_sources import interleaved, pair, png, speech, text
from picture_files import blobs

from mot_lab.data.documents import CodeSegment, ImageSegment, TextSegment
from mot_lab.data.shards.arrays import GrowingArray, mapped, token_type
from mot_lab.data.shards.encoding import Counts, Tokenizers, encoded
from mot_lab.data.shards.part import Part, PartWriter
from mot_lab.data.shards.pictures import UnusablePicture, square
from mot_lab.data.sources.raw import RawDocument, RawPicture, RawSound, RawText, RawUnits, Skipped
from mot_lab.tokens.image import PixelTokenizer
from mot_lab.tokens.text import fit_text_tokenizer

CANVAS = 8
RECORDS = [
    pair("pair 0", 0, captions=3),
    text("text 1", 1),
    interleaved("interleaved 2", 2),
    speech("speech 3", 3),
    RawDocument("alone 4", "speech", (RawUnits(np.array([5, 5, 2])), RawPicture(blobs(1, 4)[0]))),
    pair("pair 5", 5, captions=1),
]


@pytest.fixture(scope="module")
def tokenizers() -> Tokenizers:
    """Pixels, small words, units 0 to 15."""
    texts = fit_text_tokenizer(["a small red fish and a blue cat"], 300, ["image", "speech"])
    return Tokenizers(texts, PixelTokenizer(CANVAS), units=16)


def written(
    folder: Path, records: list[RawDocument | Skipped], tokenizers: Tokenizers, **options: object
) -> tuple[Part, Counts]:
    folder.mkdir(exist_ok=True)
    counts = Counts()
    writer = PartWriter(folder, tokenizers, **options)  # type: ignore[arg-type]
    for document in encoded(records, tokenizers, counts):
        writer.add(document)
    writer.close("part", counts)
    return Part(folder), counts


def test_documents_are_read_as_they_were_written(tmp_path: Path, tokenizers: Tokenizers) -> None:
    part, counts = written(tmp_path, RECORDS, tokenizers, pixels=True)
    assert len(part) == len(RECORDS) and not counts.skipped
    rows = 0
    for number, record in enumerate(RECORDS):
        stored = part.document(number)
        assert stored.kind == record.kind and len(stored.segments) == len(record.segments)
        assert stored.pictures.start == rows
        for segment, raw in zip(stored.segments, record.segments, strict=True):
            if isinstance(raw, RawText):
                assert isinstance(segment, TextSegment)
                assert tokenizers.texts.decode(segment.ids.tolist()) == raw.text
            elif isinstance(raw, RawPicture):
                assert isinstance(segment, ImageSegment)
                pixels_HWC = square(raw.data, CANVAS)
                one = tokenizers.images.encode(pixels_HWC[None]).numpy()[0]
                assert np.array_equal(segment.latents_CHW, one)
                assert segment.latents_CHW.dtype == np.float32
                assert np.array_equal(part.pixels[rows], pixels_HWC)
                rows += 1
            else:
                assert isinstance(segment, CodeSegment) and isinstance(raw, RawUnits)
                assert np.array_equal(segment.codes, raw.units)
        assert stored.pictures.stop == rows
    assert [(part.folder / f"{name}.npy").is_file() for name in ("tokens", "pixels")] == [True] * 2


def test_sizes_are_those_of_the_longest_form(tmp_path: Path, tokenizers: Tokenizers) -> None:
    part, _ = written(tmp_path, RECORDS, tokenizers)
    picture = 6
    expected = []
    for number in range(len(part)):
        stored = part.document(number)
        lengths = [len(s.ids) for s in stored.segments if isinstance(s, TextSegment)]
        shown = picture * sum(isinstance(s, ImageSegment) for s in stored.segments)
        units = sum(len(s.codes) + 2 for s in stored.segments if isinstance(s, CodeSegment))
        if stored.kind == "pairs":
            expected.append(max(lengths) + shown)
        elif stored.kind == "speech":
            expected.append(units + max(sum(lengths), shown))
        else:
            expected.append(sum(lengths) + shown)
    assert part.sizes(picture).tolist() == expected


def test_latents_are_kept_in_half_the_bytes(tmp_path: Path, tokenizers: Tokenizers) -> None:
    records = [pair("pair", seed) for seed in range(4)]
    whole, _ = written(tmp_path / "whole", records, tokenizers)
    half, _ = written(tmp_path / "half", records, tokenizers, latents="float16")
    for number in range(4):
        one, other = (p.document(number).segments[0].latents_CHW for p in (whole, half))
        assert other.dtype == np.float32
        assert 0 < np.abs(one - other).max() <= 2**-11
    sizes = [(p.folder / "pictures.npy").stat().st_size for p in (whole, half)]
    assert sizes[0] - sizes[1] == 4 * 3 * CANVAS**2 * 2


def test_what_cannot_be_used_is_counted_by_its_reason(
    tmp_path: Path, tokenizers: Tokenizers
) -> None:
    broken = png(blobs(1, 0, 64)[0])[:-40]
    records = [
        Skipped("a.tar:3", "not in UTF-8: byte 7"),
        Skipped("a.tar:4", "not in UTF-8: byte 9"),
        RawDocument("no picture", "pairs", (RawPicture(b"GIF99"), RawText("a"))),
        RawDocument("cut", "interleaved", (RawText("a"), RawPicture(broken))),
        RawDocument("blank", "pairs", (RawPicture(blobs(1, 0)[0]), RawText("  "))),
        RawDocument("surrogate", "text", (RawText("a \ud800"),)),
        RawDocument("empty", "interleaved", (RawText(" "),)),
        RawDocument("units", "speech", (RawUnits(np.array([3, 16])),)),
        RawDocument("no units", "speech", (RawUnits(np.zeros(0, np.int64)),)),
        text("kept", 0),
    ]
    part, counts = written(tmp_path, records, tokenizers)
    assert len(part) == 1
    assert counts.skipped == {
        "not in UTF-8": 2,
        "unreadable picture": 2,
        "no text": 1,
        "text with halves of surrogate pairs": 1,
        "nothing in it": 1,
        "speech units that are not 0 to 15": 1,
        "no speech units": 1,
    }
    assert counts.examples[0] == "a.tar:3: not in UTF-8: byte 7" and len(counts.examples) == 3


def test_sounds_longer_than_wanted_are_left_out(tokenizers: Tokenizers) -> None:
    short = Tokenizers(tokenizers.texts, tokenizers.images, units=16, max_seconds=0.5)
    sound = RawDocument("long", "speech", (RawSound(np.ones(801, np.float32), 1600),))
    counts = Counts()
    assert list(encoded([sound], short, counts)) == []
    assert counts.left_out == {"longer than 0.5 s": 1} and not counts.skipped


def test_a_square_is_the_middle_the_right_way_up_on_white() -> None:
    wide_HWC = np.zeros((10, 30, 3), np.uint8)
    wide_HWC[:, 10:20] = 200  # the middle square
    assert (square(png(wide_HWC), 5) == 200).all()
    assert (square(wide_HWC, 5) == 200).all()
    for wrong in (b"", b"nothing", wide_HWC[..., :2], wide_HWC.astype(np.float32)):
        with pytest.raises(UnusablePicture):
            square(wrong, 5)


def test_a_jpeg_decoded_coarsely_is_nearly_the_one_decoded_whole() -> None:
    big_HWC = blobs(1, 0, 512)[0]
    coarse = square(png(big_HWC, "JPEG"), 32).astype(int)
    assert np.abs(coarse - square(big_HWC, 32)).mean() < 2


def test_a_part_goes_through_a_pickle_as_its_folder(tmp_path: Path, tokenizers: Tokenizers) -> None:
    part, _ = written(tmp_path, RECORDS, tokenizers)
    part.document(0)
    pickled = pickle.dumps(part)
    assert len(pickled) < 500
    again = pickle.loads(pickled).document(1)
    assert np.array_equal(again.segments[0].ids, part.document(1).segments[0].ids)


@pytest.mark.parametrize("shape", [(), (3, 4)])
@pytest.mark.parametrize("appended", [[], [2, 0, 5]])
def test_a_growing_array_is_numpys_file(
    tmp_path: Path, shape: tuple[int, ...], appended: list[int]
) -> None:
    path = tmp_path / "array.npy"
    rng = np.random.default_rng(0)
    entries = [rng.standard_normal((count, *shape)).astype(np.float16) for count in appended]
    with GrowingArray(path, np.float16, shape) as file:
        for each in entries:
            file.append(each)
    whole = np.concatenate([np.zeros((0, *shape), np.float16), *entries])
    for found in (np.load(path), np.load(path, mmap_mode="r"), mapped(path)):
        assert found.dtype == np.float16 and np.array_equal(found, whole)
    assert not mapped(path).flags.writeable


def test_many_mapped_files_keep_none_open(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.arange(5))
    before = len(list(Path("/proc/self/fd").iterdir()))
    kept = [mapped(tmp_path / "array.npy") for _ in range(300)]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert all(each.sum() == 10 for each in kept)


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b + b"0", lambda b: b[:50]])
def test_an_array_that_is_not_whole_is_refused_by_name(tmp_path: Path, damage) -> None:
    path = tmp_path / "tokens.npy"
    np.save(path, np.arange(5))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"tokens\.npy is no whole array"):
        mapped(path)


def test_token_types_hold_their_numbers() -> None:
    assert token_type(65_536) == np.uint16 and token_type(65_537) == np.int32
