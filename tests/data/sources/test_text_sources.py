"""Text: C4's JSON lines, Wikipedia's parquet; ranges and row groups, damaged lines and files."""

import bz2
import gzip
import json
import lzma
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from data.sources.corpora import SENTENCES, c4, lines, read, skipped, table, texts, wikipedia
from pyarrow import parquet

from mot_lab.data.sources import files, json_lines
from mot_lab.data.sources.config import SourceConfig, open_source
from mot_lab.data.sources.files import File, expand
from mot_lab.data.sources.raw import RawDocument, Skipped


def text(path: Path | str, **settings: object) -> list[RawDocument | Skipped]:
    return read({"kind": "text", "path": str(path), "held_out": 0, **settings})


def test_c4_is_read(tmp_path: Path) -> None:
    for shard in range(2):
        c4(tmp_path / "en" / f"c4-train.{shard:05}-of-01024.json.gz", SENTENCES[shard * 2 :][:2])
    found = text(tmp_path / "en" / "c4-train.{00000..00001}-of-01024.json.gz")
    assert texts(found) == [[each] for each in SENTENCES]
    assert [each.kind for each in found] == ["text"] * 4
    assert found[3].name == f"{tmp_path}/en/c4-train.00001-of-01024.json.gz:2"


def test_wikipedia_is_read_by_row_groups(tmp_path: Path) -> None:
    folder = tmp_path / "20231101.en"
    wikipedia(folder / "train-00000-of-00002.parquet", SENTENCES[:3])
    wikipedia(folder / "train-00001-of-00002.parquet", SENTENCES[3:])
    config = SourceConfig(kind="text", path=str(folder), held_out=0)
    source = open_source(config, "train")
    assert source.parts() == [
        f"{folder}/train-00000-of-00002.parquet row group 0",
        f"{folder}/train-00000-of-00002.parquet row group 1",
        f"{folder}/train-00001-of-00002.parquet row group 0",
    ]
    assert texts(list(source.read(source.parts()[1]))) == [[SENTENCES[2]]]
    assert texts(text(folder)) == [[each] for each in SENTENCES]
    assert text(folder)[2].name == f"{folder}/train-00000-of-00002.parquet row 2"
    assert texts(text(folder, fields={"text": "title"})) == [["T0"], ["T1"], ["T2"], ["T0"]]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_ranges_of_bytes_hold_every_line_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    said = [f"{n} {SENTENCES[n % 4]}" * (1 + n % 5) for n in range(40)]
    file = tmp_path / "a.jsonl"
    rows = [json.dumps({"text": each}, ensure_ascii=n % 2 == 0) for n, each in enumerate(said)]
    file.write_bytes(ending.join([*rows[:20], "", *rows[20:]]).encode())  # no end of the last line
    for size in (1, 7, 50, 51, 52, 53, 1000, 10_000):
        monkeypatch.setattr(json_lines, "RANGE", size)
        assert texts(text(file)) == [[each] for each in said]
    monkeypatch.setattr(json_lines, "RANGE", 1000)
    parts = open_source(SourceConfig(kind="text", path=str(file)), "train").parts()
    assert parts[1] == f"{file} from byte 1000" and len(parts) == file.stat().st_size // 1000 + 1


def test_compressed_lines_are_read(tmp_path: Path) -> None:
    raw = "".join(json.dumps({"text": each}) + "\n" for each in SENTENCES).encode()
    packed = {
        "a.json": raw,
        "a.jsonl.gz": gzip.compress(raw),
        "a.jsonl.bz2": bz2.compress(raw),
        "a.jsonl.xz": lzma.compress(raw),
        "a.jsonl.zst": pa.compress(raw, codec="zstd", asbytes=True),
    }
    for name, data in packed.items():
        (tmp_path / name).write_bytes(data)
        assert texts(text(tmp_path / name)) == [[each] for each in SENTENCES], name
        if name == "a.json":
            continue
        (tmp_path / name).write_bytes(data[:-9])
        found = list(json_lines.json_rows(expand(str(tmp_path / name), ())[0], (0, None)))
        assert isinstance(found[-1], Skipped) and "cut short here" in found[-1].reason, name
        assert [row["text"] for _, row in found[:-1]] == SENTENCES[: len(found) - 1]


def test_lines_that_cannot_be_read_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lines, "LONGEST_LINE", 500)
    rows = [
        {"text": "good"}, "not json", b"\xff\xfe", "[1, 2]", "", {"text": 3}, {"text": None},
        {"title": "x"}, {"text": " "}, '{"text": "\\udc00"}', "[" * 100 + "]" * 100,
        '{"text": "' + "x" * 3000 + '"}', '{"text": NaN}', {"text": "good too"},
    ]  # fmt: skip
    found = text(lines(tmp_path / "a.jsonl", rows))
    assert [each.segments[0].text for each in found if isinstance(each, RawDocument)] == [
        "good",
        "good too",
    ]
    said = skipped(found)
    assert said["a.jsonl:2"].startswith("the line is no JSON")
    assert said["a.jsonl:3"].startswith("not in UTF-8")
    assert said["a.jsonl:4"] == "the line is list, no JSON object"
    assert said["a.jsonl:6"] == "text is int, not text"
    assert said["a.jsonl:7"] == said["a.jsonl:8"] == "no text"
    assert said["a.jsonl:9"] == "text is empty"
    assert said["a.jsonl:10"] == "text holds half a surrogate pair at 0"
    assert said["a.jsonl:11"].startswith("the line is nested more than")
    assert said["a.jsonl:12"] == "a line of 3,013 bytes, at most 500"
    assert said["a.jsonl:13"] == "text is float, not text"
    assert len(found) == 13


def test_a_compressed_file_cut_short_gives_what_is_before(tmp_path: Path) -> None:
    file = c4(tmp_path / "a.json.gz", (f"{n} {n**20}" for n in range(5000)))
    file.write_bytes(file.read_bytes()[:-4000])
    found = text(file)
    assert len(found) > 1000
    assert texts(found[:1000]) == [[f"{n} {n**20}"] for n in range(1000)]
    assert [isinstance(each, Skipped) for each in found].count(True) == 1
    assert "cut short here" in found[-1].reason


def test_parquet_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    good = wikipedia(tmp_path / "a.parquet", SENTENCES)
    whole = good.read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])
    found = text(tmp_path)
    assert len(found) == 5 and "row group is not read" in found[4].reason
    assert skipped(found).keys() == {"b.parquet row 0"}
    good.unlink()
    with pytest.raises(ValueError, match="no record can be read at"):
        text(tmp_path)


def test_damage_inside_parquet_costs_its_row_group(tmp_path: Path) -> None:
    schema = pa.schema([("text", pa.string())])
    rows = [{"text": f"{n:05} " + "x" * 300} for n in range(6)]
    file = tmp_path / "a.parquet"
    parquet.write_table(
        pa.Table.from_pylist(rows, schema),
        file, row_group_size=2, compression="gzip", use_dictionary=False,
        write_page_checksum=True,
    )  # fmt: skip
    page = parquet.ParquetFile(file).metadata.row_group(1).column(0).data_page_offset
    data = bytearray(file.read_bytes())
    data[page + 25 : page + 45] = b"\xff" * 20
    file.write_bytes(data)
    found = text(file)
    assert [isinstance(each, Skipped) for each in found] == [False, False, True, False, False]
    assert found[2].name == f"{file} row 2"


def test_invalid_text_in_parquet_costs_its_row(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"\xff\xfe", b"good too"], pa.binary())
    bad = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    parquet.write_table(pa.table({"text": bad}), tmp_path / "a.parquet")
    found = text(tmp_path / "a.parquet")
    assert texts([found[0], found[2]]) == [["good"], ["good too"]]
    assert found[1].name == f"{tmp_path}/a.parquet row 1"
    assert "not in UTF-8" in found[1].reason


def test_hidden_files_and_folders_are_not_read(tmp_path: Path) -> None:
    for name in ("a.jsonl", ".b.jsonl", ".ipynb_checkpoints/a.jsonl", "x/.c/a.jsonl", "x/b.jsonl"):
        lines(tmp_path / ".corpus" / name, [{"text": name}])
    assert texts(text(tmp_path / ".corpus")) == [["a.jsonl"], ["x/b.jsonl"]]


def test_other_layouts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "list.json").write_text(json.dumps([{"text": "a"}]))
    with pytest.raises(ValueError, match=r"list\.json is one JSON list.*jq"):
        text(tmp_path / "list.json")
    lines(tmp_path / "content.jsonl", [{"content": "a", "id": 3}])
    with pytest.raises(ValueError, match=r"no text in the first 1 records.*content, id: name it"):
        text(tmp_path / "content.jsonl")
    assert texts(text(tmp_path / "content.jsonl", fields={"text": "content"})) == [["a"]]
    table(tmp_path / "x.parquet", [{"body": "a", "id": 3}])
    with pytest.raises(ValueError, match=r"no text in the first 1 records.* are body, id: name it"):
        text(tmp_path / "x.parquet")
    (tmp_path / "a.txt").write_text("words")
    with pytest.raises(ValueError, match=r"a\.txt is none of \.parquet, \.jsonl"):
        text(tmp_path / "a.txt")
    with pytest.raises(ValueError, match="Protocol not known: nowhere"):
        text("nowhere://bucket/a.jsonl")
    with pytest.raises(ValueError, match=r"needs another package .*dropbox"):
        text("dropbox://bucket/a.jsonl")
    monkeypatch.setattr(files, "MOST_FILES", 10)
    with pytest.raises(ValueError, match="stands for more than 10 files"):
        text("/data/{0..99999999}.jsonl")
    with pytest.raises(ValueError, match=r"names '.*content\.jsonl' twice"):
        text(tmp_path / "{content,content}.jsonl")
    with pytest.raises(ValueError, match="no file at"):
        text(tmp_path / "none" / "*.jsonl")
    lines(tmp_path / "empty.jsonl", [])
    with pytest.raises(ValueError, match="no record can be read"):
        text(tmp_path / "empty.jsonl")


def test_object_stores_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any fsspec URL; here the memory of this process."""
    store = fsspec.filesystem("memory")
    raw = "".join(json.dumps({"text": each}) + "\n" for each in SENTENCES).encode()
    for name in ("a.jsonl", "b.jsonl"):
        store.pipe_file(f"/bucket/{name}", raw)
    monkeypatch.setattr(json_lines, "RANGE", 60)
    assert texts(text("memory://bucket/*.jsonl")) == [[each] for each in SENTENCES] * 2
    assert texts(text("memory://bucket")) == [[each] for each in SENTENCES] * 2
    file = File(store, "/bucket/a.jsonl")
    before = file.state()
    store.pipe_file("/bucket/a.jsonl", raw)
    assert before.startswith("memory:///bucket/a.jsonl ") and file.state() != before
    store.rm("/bucket", recursive=True)
