"""WebDataset shards: the samples that webdataset reads, and every way that a tar can be broken."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest
import webdataset
from data.sources.corpora import cc12m, jpeg, read, skipped, tar, texts

from mot_lab.data.sources.config import SourceConfig, open_source
from mot_lab.data.sources.raw import RawDocument, RawPicture, Skipped


def tars(path: Path | str, **settings: object) -> list[RawDocument | Skipped]:
    return read({"kind": "webdataset", "path": str(path), "held_out": 0, **settings})


def test_the_samples_are_those_of_webdataset(tmp_path: Path) -> None:
    for shard in range(3):
        cc12m(tmp_path / f"{shard:05}.tar", 10 * shard, 4)
    pattern = str(tmp_path / "{00000..00002}.tar")
    theirs = [
        (each["jpg"], each["txt"].decode())
        for each in webdataset.WebDataset(pattern, shardshuffle=False)
    ]
    found = tars(pattern)
    ours = [(each.segments[0].data, each.segments[1].text) for each in found]
    assert ours == theirs and len(ours) == 12
    assert found[4].name == f"{tmp_path}/00001.tar:000000010"


def test_a_writer_of_webdataset_is_read(tmp_path: Path) -> None:
    with webdataset.TarWriter(str(tmp_path / "a.tar.gz")) as writer:
        for number in range(3):
            writer.write(
                {"__key__": f"x/{number}", "jpg": jpeg(number), "json": {"captions": ["a", "b"]}}
            )
    found = tars(tmp_path, fields={"text": "json.captions"})
    assert texts(found) == [["a", "b"]] * 3
    assert found[2].segments[0] == RawPicture(jpeg(2))


def test_parts_are_tars_and_a_missing_one_is_named(tmp_path: Path) -> None:
    for shard in (0, 1, 3):
        cc12m(tmp_path / f"{shard:05}.tar", shard, 1)
    config = SourceConfig(kind="webdataset", path=str(tmp_path / "*.tar"), held_out=0)
    parts = open_source(config, "train").parts()
    assert parts == [f"{tmp_path}/{shard:05}.tar" for shard in (0, 1, 3)]
    with pytest.raises(ValueError, match=r"no file at '.*00002\.tar', 1 that '.*' stands for"):
        tars(tmp_path / "{00000..00003}.tar")


def test_captions_are_taken_from_where_the_fields_say(tmp_path: Path) -> None:
    about = json.dumps({"caption": "of the json", "list": ["x", "y"]}).encode()
    tar(
        tmp_path / "a.tar",
        [
            ("0.jpg", jpeg(0)),
            ("0.json", about),
            ("1.PNG", jpeg(1)),
            ("1.txt", b"of the text"),
            ("1.json", about),
            ("1.other.txt", b"another"),
            (".hidden", b""),
            ("README", b"not a sample"),
        ],
    )
    assert texts(tars(tmp_path)) == [["of the json"], ["of the text"]]
    assert texts(tars(tmp_path, fields={"text": "json.list"})) == [["x", "y"]] * 2
    assert texts(tars(tmp_path, fields={"text": "other.txt;json.caption"})) == [
        ["of the json"],
        ["another"],
    ]


def test_faults_of_single_samples_are_said(tmp_path: Path) -> None:
    members = [
        ("0.txt", b"no picture"),
        ("1.jpg", jpeg(1)),
        ("2.jpg", jpeg(2)), ("2.txt", b"\xff\xfe"),
        ("3.jpg", jpeg(3)), ("3.jpg", jpeg(4)), ("3.txt", b"twice"),
        ("4.jpg", jpeg(3)), ("4.txt", b"  "),
        ("5.jpg", jpeg(5)), ("5.json", b"{"),
        ("6.jpg", jpeg(5)), ("6.json", b'{"caption": 3}'),
        ("7.jpg", jpeg(5)), ("7.json", b'{"caption": "\\ud800"}'),
        ("8.jpg", jpeg(8)), ("8.txt", b"good"),
    ]  # fmt: skip
    found = tars(tar(tmp_path / "a.tar", members))
    assert [type(each) for each in found] == [Skipped] * 8 + [RawDocument]
    said = skipped(found)
    assert said["a.tar:0"] == "no picture (jpg, jpeg, png, webp)"
    assert said["a.tar:1"] == "no caption (txt, json.caption)"
    assert said["a.tar:2"].startswith(".txt is not in UTF-8")
    assert said["a.tar:3"] == "two files in .jpg"
    assert said["a.tar:4"] == ".txt is empty"
    assert said["a.tar:5"].startswith(".json is no JSON")
    assert said["a.tar:6"] == "json.caption is int, not text"
    assert said["a.tar:7"] == "json.caption holds half a surrogate pair at 0"


def test_a_tar_cut_anywhere_gives_its_whole_samples_and_says_so(tmp_path: Path) -> None:
    whole = cc12m(tmp_path / "whole.tar", 0, 4).read_bytes()
    count = len(texts(tars(tmp_path / "whole.tar")))
    assert count == 4
    with tarfile.open(tmp_path / "whole.tar") as file:
        end = max(each.offset_data + each.size for each in file.getmembers())
    cut = tmp_path / "cut.tar"
    for length in [*range(600, end, 251), end + 700]:
        cut.write_bytes(whole[:length])
        found = tars(cut)
        documents = [each for each in found if isinstance(each, RawDocument)]
        expected = [f"caption {number}" for number in range(len(documents))]
        assert [each.segments[1].text for each in documents] == expected
        assert isinstance(found[-1], Skipped) and len(documents) == len(found) - 1 < 4
        assert "cut short here" in found[-1].reason


def test_damage_in_a_tar_is_said(tmp_path: Path) -> None:
    whole = cc12m(tmp_path / "whole.tar", 0, 4).read_bytes()
    with tarfile.open(tmp_path / "whole.tar") as file:
        headers = [each.offset for each in file.getmembers()]
    spoilt = bytearray(whole)
    spoilt[headers[7] : headers[7] + 100] = b"\x81" * 100  # the second sample's, after its picture
    (tmp_path / "spoilt.tar").write_bytes(spoilt)
    found = tars(tmp_path / "spoilt.tar")
    assert [type(each) for each in found] == [RawDocument, RawDocument, Skipped]
    assert f"no header at byte {headers[7]}" in skipped(found)["spoilt.tar:000000002"]
    packed = tmp_path / "cut.tar.gz"
    packed.write_bytes(gzip.compress(whole)[:-900])
    assert isinstance(tars(packed)[-1], Skipped)


def test_hostile_members_do_nothing(tmp_path: Path) -> None:
    path = tmp_path / "shards" / "a.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as file:
        for name, kind in (("0.jpg", tarfile.SYMTYPE), ("0.txt", tarfile.LNKTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "/etc/hostname"
            file.addfile(link)
        pipe = tarfile.TarInfo("1.jpg")
        pipe.type = tarfile.FIFOTYPE
        file.addfile(pipe)
        for name, data in (("../../2.jpg", jpeg(0)), ("../../2.txt", b"outside")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
        huge = tarfile.TarInfo("3.jpg")
        huge.size = 1 << 40
        file.addfile(huge)
    before = sorted(tmp_path.rglob("*"))
    found = tars(path)
    assert texts(found[:1]) == [["outside"]]
    assert sorted(tmp_path.rglob("*")) == before
    assert [type(each) for each in found] == [RawDocument, Skipped]
    assert "cut short" in found[1].reason


def test_a_header_that_leads_backwards_ends_the_tar(tmp_path: Path) -> None:
    """CVE-2025-8194: Python's tarfile went round for ever."""
    path = cc12m(tmp_path / "a.tar", 0, 1)
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as file:
        at = file.getmembers()[1].offset
    header = bytearray(data[at : at + 512])
    header[124:136] = (-(1 << 12)).to_bytes(12, "big", signed=True)  # size, in base 256
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    data[at : at + 512] = header
    path.write_bytes(data)
    found = tars(path)
    assert [type(each) for each in found] == [Skipped]


def test_what_is_no_tar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no tar" * 500)
    with pytest.raises(ValueError, match=r"a\.tar is no tar file"):
        tars(tmp_path)
    cc12m(tmp_path / "b.tar", 0, 2)
    found = tars(tmp_path)
    assert [type(each) for each in found] == [Skipped, RawDocument, RawDocument]
