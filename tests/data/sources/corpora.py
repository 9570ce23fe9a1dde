"""Small files laid out like the corpora that people have, each as its publisher writes them."""

import gzip
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
from PIL import Image
from pyarrow import parquet
from voices import babble

from mot_lab.data.sources.config import SourceConfig, open_source
from mot_lab.data.sources.raw import RawDocument, RawText, Skipped

SENTENCES = ["A man rides a horse.", "Zwei Hunde im Schnee.", "Un café à Paris.", "赤い傘"]


def jpeg(seed: int) -> bytes:
    """The file of a picture, another one for every seed."""
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def sound_file(seed: int, kind: str = "FLAC", rate: int = 16_000) -> bytes:
    """The file of a voice of 0.3 s."""
    file = io.BytesIO()
    soundfile.write(file, babble(seed, vowels=2, rate=rate), rate, format=kind)
    return file.getvalue()


def coco(folder: Path, split: str = "train2017", pictures: int = 3) -> Path:
    """``annotations/captions_train2017.json`` and its pictures, five captions each."""
    images, annotations = [], []
    (folder / split).mkdir(parents=True)
    for place in range(pictures):
        name = f"{place + 9:012}.jpg"
        (folder / split / name).write_bytes(jpeg(place))
        images.append({"license": 3, "file_name": name, "height": 8, "width": 8, "id": place + 9})
        annotations += [
            {"image_id": place + 9, "id": 100 * place + number, "caption": f"{place} {number}"}
            for number in range(5)
        ]
    # Captions stand in no order of the pictures.
    content = {
        "info": {"year": 2017},
        "licenses": [],
        "images": images,
        "annotations": annotations[::-1],
    }
    file = folder / "annotations" / f"captions_{split}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def karpathy(folder: Path, splits: Iterable[str], filepath: str | None = "val2014") -> Path:
    """``dataset_coco.json``, or of Flickr30k without ``filepath``."""
    images = []
    for place, split in enumerate(splits):
        name = f"COCO_val2014_{place:012}.jpg"
        inside = folder / (filepath or "")
        inside.mkdir(parents=True, exist_ok=True)
        (inside / name).write_bytes(jpeg(place))
        sentences = [
            {"tokens": ["a"], "raw": f"{place} {number}", "imgid": place, "sentid": number}
            for number in range(2)
        ]
        image = {
            "sentids": [0, 1], "imgid": place, "sentences": sentences, "split": split,
            "filename": name,
        }  # fmt: skip
        images.append(image | ({"filepath": filepath} if filepath else {}))
    file = folder / "dataset.json"
    file.write_text(json.dumps({"images": images, "dataset": "coco"}))
    return file


def tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    """A tar of these members, in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as file:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


def cc12m(path: Path, first: int, samples: int) -> Path:
    """A shard as img2dataset writes CC12M: .jpg, .txt and .json of each picture."""
    members = []
    for number in range(first, first + samples):
        key, caption = f"{number:09}", f"caption {number}"
        about = {"caption": caption, "url": "https://a.b/c.jpg", "key": key, "status": "success"}
        members += [
            (f"{key}.jpg", jpeg(number)),
            (f"{key}.txt", caption.encode()),
            (f"{key}.json", json.dumps(about).encode()),
        ]
    return tar(path, members)


def lines(path: Path, rows: Iterable[Mapping[str, Any] | str | bytes]) -> Path:
    """JSON lines; texts and bytes are written as they are."""
    raw = b""
    for row in rows:
        text = json.dumps(row) if isinstance(row, Mapping) else row
        raw += (text.encode() if isinstance(text, str) else text) + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def table(path: Path, rows: list[dict[str, Any]], group: int = 2, schema: Any = None) -> Path:
    """A parquet file in row groups of so many rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=group)
    return path


def c4(path: Path, texts: Iterable[str]) -> Path:
    """``en/c4-train.00000-of-01024.json.gz``."""
    return lines(
        path,
        [
            {"text": text, "timestamp": "2019-04-25T12:57:54Z", "url": "https://klyq.com/"}
            for text in texts
        ],
    )


def wikipedia(path: Path, texts: Iterable[str]) -> Path:
    """``20231101.en/train-00000-of-00041.parquet``."""
    rows = [
        {"id": str(n), "url": f"https://en.wikipedia.org/wiki/{n}", "title": f"T{n}", "text": text}
        for n, text in enumerate(texts)
    ]
    return table(path, rows)


def obelics(path: Path, documents: list[tuple[list[Any], list[Any]]]) -> Path:
    """Parquet of (texts, images), the images as bytes."""
    schema = pa.schema(
        [
            ("images", pa.list_(pa.binary())),
            ("metadata", pa.string()),
            ("general_metadata", pa.string()),
            ("texts", pa.list_(pa.string())),
        ]
    )
    rows = [
        {"images": images, "metadata": "[]", "general_metadata": "{}", "texts": texts}
        for texts, images in documents
    ]
    return table(path, rows, schema=schema)


def librispeech(folder: Path, suffix: str = "flac", kind: str = "FLAC") -> Path:
    """``dev-clean`` with two speakers, three chapters and seven utterances."""
    seed = 0
    for speaker, chapter, count in ((84, 121123, 3), (84, 121550, 2), (1272, 128104, 2)):
        inside = folder / str(speaker) / str(chapter)
        inside.mkdir(parents=True)
        said = []
        for number in range(count):
            name = f"{speaker}-{chapter}-{number:04}"
            (inside / f"{name}.{suffix}").write_bytes(sound_file(seed, kind))
            said.append(f"{name} UTTERANCE {seed} OF {speaker}\n")
            seed += 1
        (inside / f"{speaker}-{chapter}.trans.txt").write_text("".join(said))
    return folder


def peoples_speech(path: Path, count: int, kind: str = "FLAC") -> Path:
    """Parquet of the hub's copy: id, audio {bytes, path}, duration_ms, text."""
    rows = [
        {
            "id": f"a/{n}.flac",
            "audio": {"bytes": sound_file(n, kind), "path": f"{n}.flac"},
            "duration_ms": 300,
            "text": f"words {n}",
        }
        for n in range(count)
    ]
    return table(path, rows)


def read(config: dict[str, Any], split: str = "train") -> list[RawDocument | Skipped]:
    """All that a source yields for a split, part by part."""
    source = open_source(SourceConfig(**config), split)  # type: ignore[arg-type]
    return [each for part in source.parts() for each in source.read(part)]


def texts(found: list[RawDocument | Skipped]) -> list[list[str]]:
    """The texts of each document; none may be skipped."""
    assert not skipped(found)
    return [[s.text for s in each.segments if isinstance(s, RawText)] for each in found]


def skipped(found: Iterable[RawDocument | Skipped]) -> dict[str, str]:
    """What was left out: reasons by names, without the folders."""
    return {
        each.name.rpartition("/")[2]: each.reason for each in found if isinstance(each, Skipped)
    }
