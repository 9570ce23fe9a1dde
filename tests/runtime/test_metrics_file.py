import json
import math

import pytest

from mot_lab.runtime.metrics_file import MetricsFile, read_curve, read_lines


def test_lines_and_values_that_are_not_finite(tmp_path):
    file = MetricsFile(tmp_path / "m.jsonl")
    file.append(1, {"loss": 0.1, "norm": math.nan}, time=5.0)
    file.append(2, {"loss": -math.inf}, time=6.12345)
    text = (tmp_path / "m.jsonl").read_text().splitlines()  # complete though the file is still open
    assert json.loads(text[0]) == {
        "step": 1,
        "time": 5.0,
        "loss": 0.1,
        "norm": "NaN",
        "nonfinite": 1,
    }
    assert json.loads(text[1]) == {"step": 2, "time": 6.123, "loss": "-Infinity", "nonfinite": 1}
    assert read_curve(tmp_path / "m.jsonl", "loss") == [(1, 0.1), (2, -math.inf)]


def test_rewind_and_torn_line(tmp_path):
    path = tmp_path / "m.jsonl"
    file = MetricsFile(path)
    assert file.rewind(0) == 0
    for step in (1, 2, 2, 3, 4):
        file.append(step, {"loss": step / 3}, time=0.0)
    file.close()
    path.write_bytes(path.read_bytes()[:-7])
    assert [line["step"] for line in read_lines(path)[0]] == [1, 2, 2, 3]
    file.append(5, {"loss": 1.0}, time=0.0)
    assert [line["step"] for line in read_lines(path)[0]] == [1, 2, 2, 3, 5]
    assert file.rewind(2) == 2
    file.append(3, {"loss": 2.0}, time=0.0)
    assert read_curve(path, "loss") == [(1, 1 / 3), (2, 2 / 3), (2, 2 / 3), (3, 2.0)]


def test_offset_reads_only_what_is_new_and_whole(tmp_path):
    path = tmp_path / "m.jsonl"
    file = MetricsFile(path)
    file.append(1, {}, time=0.0)
    _, offset = read_lines(path)
    with open(path, "ab") as raw:
        raw.write(b'{"step": 2')
        raw.flush()
        assert read_lines(path, offset) == ([], offset)
        raw.write(b"}\n")
    assert read_lines(path, offset)[0] == [{"step": 2}]


def test_faults_are_named(tmp_path):
    path = tmp_path / "m.jsonl"
    with pytest.raises(ValueError, match="'step'"):
        MetricsFile(path).append(1, {"step": 3}, time=0.0)
    path.write_text('{"step": 1}\n[]\n')
    with pytest.raises(ValueError, match="line 2"):
        read_lines(path)


def test_a_full_disk_is_an_error_and_leaves_whole_lines(tmp_path, monkeypatch):
    path = tmp_path / "m.jsonl"
    file = MetricsFile(path)
    file.append(1, {"loss": 1.0}, time=0.0)

    class Full:
        def write(self, data: bytes) -> int:
            with open(path, "ab") as raw:
                return raw.write(data[:9])

        def close(self) -> None: ...

    whole = file._file
    file._file = Full()
    with pytest.raises(
        OSError, match=r"could not write .*m\.jsonl: No space left on device; make room"
    ):
        file.append(2, {"loss": 2.0}, time=0.0)
    whole.close()
    assert path.read_bytes().endswith(b"\n") and path.read_bytes().count(b"\n") == 1
    file.append(2, {"loss": 2.0}, time=0.0)
    assert read_curve(path, "loss") == [(1, 1.0), (2, 2.0)]
