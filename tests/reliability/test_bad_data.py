"""Bad data: refused with its file and the reason, or left out, counted and limited."""

import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from picture_files import fixed_extractor
from PIL import Image
from reliability.amounts import only_whole
from tiny_studies import SPOKEN, TINY_SCENES
from voices import babble

from evaluation.files.caption_files import read_captions
from evaluation.files.picture_folder import PictureFolder
from evaluation.files.scores import score_pictures
from evaluation.metrics.suite import Evaluators
from evaluation.report.blocks import Section
from evaluation.report.fairness import fairness_blocks
from evaluation.report.html import to_html
from mot_lab.data import scene_data
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.data.prepare import DataConfig, prepare
from mot_lab.data.recordings import read_manifest, read_picture, read_recording
from mot_lab.data.speech_sources import LeftOut, SpokenManifest, usable
from mot_lab.fairness import _recordings, _require_every_modality
from mot_lab.fairness_record import Fairness
from mot_lab.parsing import from_dict
from mot_lab.runtime import cache
from mot_lab.tokens.speech_features import UnusableRecording, require_sound

CANVAS = 8
Property = Callable[[str, object], None]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOT_LAB_CACHE", str(tmp_path / "cache"))


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of grey bytes whose header says that size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    written = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def bad_pictures(folder: Path) -> list[Path]:
    """Files that are no pictures, or too much of one."""
    good = io.BytesIO()
    Image.fromarray(np.arange(3072, dtype=np.uint8).reshape(32, 32, 3)).save(good, "PNG")
    jpeg = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(jpeg, "JPEG")
    postscript = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    svg = '<svg xmlns="http://www.w3.org/2000/svg" {}>{}</svg>'
    laughs = "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcd", "bcde", strict=True)
    )
    size = (54, 0, 54, 40, 90_000, 90_000, 1, 24, *[0] * 6)
    contents: dict[str, bytes | str] = {
        "cut.png": good.getvalue()[:-30],
        "cut.jpg": jpeg.getvalue()[:-200],
        "flipped.png": good.getvalue().replace(b"IDAT", b"IDAT\xff", 1),
        "empty.png": b"",
        "text.png": "no picture",
        "bomb.png": png(100_000, 100_000),
        "wide.png": png(2_000_000_000, 1),
        "nothing.png": png(0, 0),
        "flat.png": png(8, 0),
        "words.png": png(8, 8, (b"zTXt", b"a\0\0" + zlib.compress(b"a" * 80_000_000))),
        "bomb.bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", *size),
        "bomb.gif": b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + b",",
        "postscript.png": postscript,
        "program.jpg": b"\x7fELF" + bytes(200),
        "deep.svg": svg.format('viewBox="0 0 9 9"', "<g>" * 20_000 + "</g>" * 20_000),
        "tall.svg": svg.format('width="1" height="1000000000"', ""),
        "laughs.svg": f'<!DOCTYPE svg [<!ENTITY a "x">{laughs}]>'
        + svg.format('viewBox="0 0 9 9"', "<text>&e;</text>"),
        "outside.svg": '<!DOCTYPE svg [<!ENTITY a SYSTEM "/etc/hostname">]>'
        + svg.format('viewBox="0 0 9 9"', "<text>&a;</text>"),
        "long.svg": f'<!DOCTYPE svg [<!ENTITY a "{"x" * 201}">]>'
        + svg.format('viewBox="0 0 9 9"', "<text>&a;</text>"),
        "file.svg": svg.format('viewBox="0 0 9 9"', '<image href="/etc/hostname"/>'),
        "zero.svg": svg.format('width="0" height="0"', ""),
        "bytes.svg": b"\xff\xfe\x00<svg",
    }
    for name, content in contents.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)
    Image.fromarray(np.ones((4, 4), np.float32)).save(folder / "float.tif")
    return [*(folder / name for name in contents), folder / "float.tif"]


def test_pictures_are_refused_by_name(tmp_path: Path, record_property: Property) -> None:
    files = bad_pictures(tmp_path)
    record_property("tried", len(files))
    said = {}
    for path in files:
        with pytest.raises(ValueError) as refused:
            read_picture(path, CANVAS)
        said[path.name] = str(refused.value)
    handled = sum(str(path) in said[path.name] for path in files)
    record_property("handled", handled)
    assert handled == len(files)
    assert "is more than 67,108,864 pixels" in said["bomb.png"]
    assert "not a picture" in said["postscript.png"]  # Pillow would run Ghostscript
    assert "names another file" in said["file.svg"]
    assert "it declares the entity 'a', which" in said["outside.svg"]
    assert "text of at most 200 characters" in said["long.svg"]


def test_folders_of_pictures_are_refused_before_the_work(
    tmp_path: Path, record_property: Property
) -> None:
    files = [path for path in bad_pictures(tmp_path) if path.suffix != ".svg"]
    folder = PictureFolder(tmp_path)
    named = 0
    for path in files:
        folder.names = [path.name]
        try:
            folder.check()
            list(folder.batches())
        except ValueError as error:
            named += path.name in str(error)
    record_property("tried", len(files) + 1)
    said = rf"{len(files) - 1} of {len(files)} pictures in .* cannot be read: bomb\.bmp \("
    with pytest.raises(ValueError, match=said):
        score_pictures(tmp_path, tmp_path, None, Evaluators([fixed_extractor()], []))
    record_property("handled", named + 1)
    assert named == len(files)


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png \(no regular file\)"):
        PictureFolder(tmp_path).check()


def shown(tmp_path: Path, image: Image.Image, name: str, **options: object) -> np.ndarray:
    """What training sees of a picture of CANVAS pixels a side."""
    image.save(tmp_path / name, **options)
    return read_picture(tmp_path / name, CANVAS)


def test_odd_pictures_are_converted(tmp_path: Path, record_property: Property) -> None:
    """Sixteen bits scaled, CMYK to RGB, turned as EXIF says, transparency on white, frame one."""
    size = (CANVAS, CANVAS)
    deep = Image.fromarray(np.full(size, 32_768, np.uint16))
    tall = np.zeros((CANVAS, CANVAS, 3), np.uint8)
    tall[: CANVAS // 2] = 255  # the upper half is white
    turned = Image.Exif()
    turned[0x0112] = 6  # show it a quarter clockwise: the white half is at the right
    clear = Image.new("P", size)
    clear.putpalette([255, 0, 0])
    frames = [Image.new("RGB", size, (value, value, value)) for value in (10, 200)]
    blue = Image.new("RGB", size, "blue")
    found = {
        "16 bits": (shown(tmp_path, deep, "a.png"), 128),
        "16 bits, white": (
            shown(tmp_path, Image.fromarray(np.full(size, 65_535, np.uint16)), "b.tif"),
            255,
        ),
        "CMYK": (shown(tmp_path, Image.new("CMYK", size, (255, 0, 0, 0)), "c.tif"), (0, 255, 255)),
        "CMYK JPEG": (
            shown(tmp_path, Image.new("CMYK", size, (0, 0, 0, 255)), "d.jpg", quality=100),
            0,
        ),
        "palette, transparent": (shown(tmp_path, clear, "e.png", transparency=0), 255),
        "animated": (
            shown(tmp_path, frames[0], "f.gif", save_all=True, append_images=frames[1:]),
            10,
        ),
        "another type": (
            shown(tmp_path, blue, "g.jpg", format="PNG"),
            (0, 0, 255),
        ),
    }
    pixels = shown(tmp_path, Image.fromarray(tall), "h.png", exif=turned)
    wrong = [
        name
        for name, (pixels_HWC, value) in found.items()
        if np.abs(pixels_HWC.astype(int) - np.array(value)).max() > 2
    ]
    right = (pixels[:, CANVAS // 2 :] == 255).all() and (pixels[:, : CANVAS // 2] == 0).all()
    record_property("tried", len(found) + 1)
    record_property("handled", len(found) - len(wrong) + int(right))
    assert wrong == [] and right


def bad_recordings(folder: Path) -> dict[str, str]:
    """Files without usable sound, and a word of what is said of each."""
    sound = babble(0)
    soundfile.write(folder / "good.wav", sound, 16_000)
    data = (folder / "good.wav").read_bytes()
    waves = {
        "silent.wav": np.zeros(16_000, np.float32),
        "faint.wav": np.full(16_000, 1e-6, np.float32),
        "none.wav": np.zeros(0, np.float32),
        "nan.wav": np.where(np.arange(len(sound)) == 9, np.nan, sound),
        "infinite.wav": np.where(np.arange(len(sound)) == 9, np.inf, sound),
    }
    for name, wave_n in waves.items():
        soundfile.write(folder / name, wave_n.astype(np.float32), 16_000, subtype="FLOAT")
    for name, rate in (("slow.wav", 1), ("fast.wav", 2_000_000_000)):
        (folder / name).write_bytes(data[:24] + struct.pack("<I", rate) + data[28:])
    (folder / "cut.flac").write_bytes(b"fLaC" + bytes(20))
    (folder / "text.wav").write_text("no sound")
    (folder / "empty.wav").write_bytes(b"")
    (folder / "folder.wav").mkdir()
    return {
        "silent.wav": "silent",
        "faint.wav": "silent",
        "none.wav": "samples [0]",
        "nan.wav": "not finite",
        "infinite.wav": "not finite",
        "slow.wav": "1 samples a second",
        "fast.wav": "samples a second",
        "cut.flac": "no readable recording",
        "text.wav": "no readable recording",
        "empty.wav": "no readable recording",
        "folder.wav": "no such recording",
        "missing.wav": "no such recording",
    }


def write_manifest(folder: Path, audio: list[str], split: str = "train") -> Path:
    path = folder / f"{split}.jsonl"
    rows = [{"audio": name, "text": f"number {name}", "split": split} for name in audio]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_recordings_are_refused_by_name_or_counted(
    tmp_path: Path, record_property: Property
) -> None:
    bad = bad_recordings(tmp_path)
    record_property("tried", 2 * len(bad))
    handled = 0
    for name, reason in bad.items():
        with pytest.raises(UnusableRecording) as refused:
            require_sound(read_recording(tmp_path / name))
        handled += reason in str(refused.value) and str(tmp_path / name) in str(refused.value)
    manifest = SpokenManifest(str(write_manifest(tmp_path, ["good.wav", *bad])), "train")
    records = range(len(manifest))
    with pytest.raises(ValueError, match=f"{len(bad)} recordings .* allows {len(bad) - 1}"):
        list(usable(manifest, records, len(bad) - 1))
    left_out = LeftOut()
    kept = list(usable(manifest, records, len(bad), left_out=left_out))
    assert [record for record, _ in kept] == [0]
    record_property("handled", handled + left_out.unusable)
    assert handled == len(bad) and left_out == LeftOut(unusable=len(bad), long=0)


def test_what_is_left_out_stands_in_the_report_for_every_arm(tmp_path: Path) -> None:
    """In the table of fairness, counted apart for every arm from its own data."""
    bad = list(bad_recordings(tmp_path))[:2]
    rows = []
    for split in ("train", "val", "test"):
        for number in range(4):
            name = f"{split}{number}.wav"
            soundfile.write(tmp_path / name, babble(number, 2), 16_000)
            rows.append({"audio": name, "text": f"{split} {number}", "split": split})
    soundfile.write(tmp_path / "long.wav", babble(0, 20), 16_000)
    rows += [{"audio": name, "text": "x", "split": "train"} for name in [*bad, "long.wav"]]
    path = tmp_path / "all.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = spoken_config(path, unusable=2, max_seconds=1.0)
    arms = {name: MultimodalDataModule(config) for name in ("dense", "mot")}
    (check,) = _recordings(arms, "dense")
    assert check.what == "recordings left out" and check.equal
    assert check.values["mot"] == check.values["dense"]
    assert str(check.values["dense"]).startswith("train: 2 unusable, 1 long; val: 0 unusable")
    record = Fairness((check,), {}).record(allowed_unequal=False)
    page = to_html("a", [Section("a", "a", fairness_blocks({"fairness": record}))], {})
    assert "recordings left out" in page and "train: 2 unusable, 1 long; val: 0 unusable" in page


def spoken_config(path: Path, **speech: object) -> DataConfig:
    values = {
        **TINY_SCENES,
        "row_length": 128,
        "image": {"kind": "vq", "vq": {"fit_steps": 2, "size": 8, "width": 32}},
        "speech": {**SPOKEN, "source": str(path), "directions": ["speech"], **speech},
    }
    return from_dict(DataConfig, values)


def test_texts(tmp_path: Path, record_property: Property) -> None:
    """Empty, of 10 MB, of invalid UTF-8, torn lines: refused with file and line, or counted."""
    (tmp_path / "a.wav").write_bytes(b"")
    row = b'{"audio": "a.wav", "text": "%s"}\n'
    manifests = {
        "empty.jsonl": row % b"",
        "blank.jsonl": row % b" ",
        "long.jsonl": row % (b"a" * 10_000_000),
        "bytes.jsonl": row % b"\xff\xfe",
        "torn.jsonl": (row % b"a")[:-5],
        "deep.jsonl": b"[" * 100_000 + b"\n",
        "bytes.csv": b"audio,text\na.wav,\xff\n",
        "long.csv": b"audio,text\na.wav," + b"a" * 10_000_000 + b"\n",
        "nothing.jsonl": b"",
    }
    captions = {
        "empty.json": b'{"a.png": "", "b.png": ""}',
        "long.json": b'{"a.png": "%s"}' % (b"a" * 10_000_000),
        "bytes.json": b'{"a.png": "\xff"}',
        "torn.json": b'{"a.png": "a',
        "nothing.json": b"",
    }
    said = {}
    for reader, contents in ((read_manifest, manifests), (read_captions, captions)):
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)
            with pytest.raises(ValueError) as refused:
                reader(tmp_path / name)  # type: ignore[operator]
            said[name] = str(refused.value)
    (tmp_path / "some.json").write_text('{"a.png": ["", "a"], "b.png": ""}')
    counted = read_captions(tmp_path / "some.json").empty
    record_property("tried", len(said) + 2)
    handled = sum(str(tmp_path / name) in line and len(line) < 1000 for name, line in said.items())
    record_property("handled", handled + counted)
    assert handled == len(said) and counted == 2
    assert ":1: not in UTF-8" in said["bytes.jsonl"] and "10,000,000" in said["long.jsonl"]


def test_documents_longer_than_a_row(tmp_path: Path) -> None:
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", babble(number, 60), 16_000)
    path = write_manifest(tmp_path, [f"{number}.wav" for number in range(3)])
    data = prepare(spoken_config(path))
    with pytest.raises(ValueError, match="row_length 128 is too short: a recording with its"):
        data.stream("train")


def test_a_modality_that_never_occurs_is_refused_before_training() -> None:
    """It would have no loss, and the report would find that out when all is trained."""
    config = from_dict(DataConfig, {**TINY_SCENES, "prose_share": 1.0})
    with pytest.raises(ValueError, match="no image in any of the 8 rows of validation"):
        _require_every_modality(MultimodalDataModule(config))
    _require_every_modality(MultimodalDataModule(from_dict(DataConfig, TINY_SCENES)))


@pytest.mark.parametrize(
    "fault", ["a byte changed", *(pytest.param(each, marks=only_whole) for each in ("cut", "gone"))]
)
def test_prepared_pools_are_checked(tmp_path: Path, fault: str) -> None:
    """Every file of the cache, before anything of it is read."""
    config = from_dict(DataConfig, TINY_SCENES)
    forget_pools()
    prepare(config).stream("train")
    forget_pools()
    prepare(config).stream("train")  # some of it was needed only while the rest was made
    pools = [path for folder in cache._checked for path in folder.rglob("*.np[yz]")]
    assert len(pools) >= 3
    for path in pools:
        whole = path.read_bytes()
        if fault == "gone":
            path.unlink()
        else:
            cut = whole[:-40] if fault == "cut" else whole[:-1] + bytes([whole[-1] ^ 1])
            path.write_bytes(cut)
        forget_pools()
        with pytest.raises(ValueError, match=f"{path.name} is not as it was written: remove"):
            prepare(config).stream("train")
        path.write_bytes(whole)


def forget_pools() -> None:
    """What a process keeps of the cache."""
    cache._checked.clear()
    for kept in (scene_data._pool, scene_data._speech_pool, scene_data._prose):
        kept.cache_clear()
