"""The commands: what is wrong ends in one line and exit code 2; what they print is right."""

import json
from pathlib import Path

import pytest
import yaml

from mot_lab.cli import main

STUDY = Path(__file__).parent.parent / "experiments" / "openmoji" / "transfusion.yaml"


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("arms=[dens, mot]", "unknown arm 'dens'"),
        ("arms=[dense, [[text], [sound]]]", "exactly once"),
        ("baseline=mott", "'mott' is none of the arms"),
        ("data.row=8", "row"),
        ("data.rows=many", "many"),
        ("data.scenes.canvas=33", "canvas=33"),
        ("model.backbone.norm=middle", "middle"),
        ("model.backbone.width=33", "width 33"),
        ("training.steps=0", "steps 0"),
        ("seeds=[]", "seeds []"),
        ("wrong=3", "wrong"),
        ("noequals", "key.sub=value"),
    ],
)
def test_a_wrong_setting_is_one_line(
    override: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(["study", str(STUDY), override], capsys)
    assert line.startswith("mot-lab:") and said in line


@pytest.mark.parametrize("place", [2, 3, 5])
def test_settings_stand_before_and_after_options(
    place: int, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["count", str(STUDY), "model.backbone.layers=2", "--json"]
    arguments.insert(place, "model.backbone.width=64")
    main(arguments)
    everywhere = json.loads(capsys.readouterr().out)
    main(["count", str(STUDY), "model.backbone.layers=2", "model.backbone.width=64", "--json"])
    assert everywhere == json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "arguments",
    [
        ["count", str(STUDY), "--jsn", "model.backbone.width=64"],
        ["count", str(STUDY), "--json", "width"],
        ["arms", "width=64"],
    ],
)
def test_what_is_no_setting_is_refused_after_options_too(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(arguments, capsys)
    assert "unrecognized arguments" in line or "no configuration width=64" in line, line


@pytest.mark.parametrize(
    "arguments",
    [
        ["study", "nowhere.yaml"],
        ["report", "nowhere"],
        ["sync", "nowhere"],
        ["generate", "nowhere.ckpt", "--caption", "a fish"],
        ["evaluate", "nowhere.ckpt"],
        ["fit-router", "nowhere.ckpt"],
        ["count", "nowhere.yaml"],
    ],
)
def test_a_missing_file_is_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "nowhere" in refused(arguments, capsys)


def test_a_file_that_is_no_mapping_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "list.yaml"
    path.write_text("- 1\n- 2\n")
    assert "not a mapping" in refused(["study", str(path)], capsys)
    path.write_text("a: [1\n")
    assert "no YAML" in refused(["study", str(path)], capsys)


@pytest.mark.parametrize(
    "command", ["study", "report", "sync", "arms", "count", "generate", "evaluate", "fit-router"]
)
def test_help_everywhere(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"mot-lab {command}" in capsys.readouterr().out


def test_arms_lists_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    main(["arms", "--modalities", "text,image,speech"])
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines]
    assert names[:2] == ["dense", "mot"]
    assert {"moe_4x", "loo_text", "loo_image", "loo_speech"} <= set(names)


def test_count_is_the_same_for_people_and_machines(capsys: pytest.CaptureFixture[str]) -> None:
    main(["count", str(STUDY)])
    table = capsys.readouterr().out
    main(["count", str(STUDY), "--json"])
    costs = json.loads(capsys.readouterr().out)
    assert list(costs) == yaml.safe_load(STUDY.read_text())["arms"]
    for cost in costs.values():
        assert f"{cost['parameters']:,}" in table
    assert costs["mot"]["active_parameters"] == costs["dense"]["parameters"]
    assert costs["mot"]["flops_per_step"] == costs["dense"]["flops_per_step"]


def test_count_says_what_a_gpu_would_hold(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["count", str(STUDY), "--memory", "--rows-per-gpu", "2", "--shards", "4"]
    main([*asked, "--json"])
    counted = json.loads(capsys.readouterr().out)
    main(asked)
    table = capsys.readouterr().out
    for each in counted.values():
        memory = each["memory"]
        assert sum(memory.values()) == pytest.approx(2 * memory["total"])
        assert memory["gradients"] == 4 * each["parameters"] / 4
        assert f"{memory['activations'] / 1e9:.2f}" in table


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--shards", "2"], "--rows-per-gpu and --shards are of --memory"),
        (["--memory", "--rows-per-gpu", "0"], "--rows-per-gpu 0 must be from 1 to data.rows"),
        (["--memory", "--shards", "0"], "shards 0 must be at least 1"),
    ],
)
def test_memory_of_what_cannot_be_is_refused(
    asked: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["count", str(STUDY), *asked])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_count_of_seven_billion_allocates_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    seven = "width: 4096, layers: 32, heads: 32, feed_forward_multiple: 256"
    overrides = [f"model.backbone={{{seven}}}", "data.text.vocab_size=32000"]
    main(["count", str(STUDY), *overrides, "--json"])
    dense = json.loads(capsys.readouterr().out)["dense"]["parameters"]
    # 6,738M of Table 4 (paper.md 1.3), the small patch codec and the QK-norms besides.
    assert dense == pytest.approx(6738e6, rel=1e-3)
