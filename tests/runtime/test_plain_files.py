"""JSON and YAML of others: what is plain is read as it is, what is not is refused by its name."""

from pathlib import Path

import pytest
import yaml

from mot_lab.runtime.plain_files import LEVELS, parse_json, parse_yaml, read_json, read_yaml


def test_plain_files_are_read_as_their_libraries_do(tmp_path: Path) -> None:
    text = "base: &b {x: 1}\nmore: {<<: *b, y: [1, 2.5, null, yes]}\nagain: *b\n"
    (tmp_path / "a.yaml").write_text("\ufeff" + text, encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml") == yaml.safe_load(text)
    assert parse_yaml("", "here") is None
    (tmp_path / "a.json").write_text('\ufeff{"a": [1, {"é": null}]}', encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"a": [1, {"é": None}]}


@pytest.mark.parametrize("levels", [LEVELS, LEVELS + 1])
def test_nesting_has_a_limit(levels: int) -> None:
    text = "[" * levels + "]" * levels
    if levels == LEVELS:
        assert parse_json(text, "here") == parse_yaml(text, "here")
        return
    for parse in (parse_json, parse_yaml):
        with pytest.raises(ValueError, match=r"^here is nested more than 64 levels deep$"):
            parse(text, "here")


def test_levels_behind_aliases_count() -> None:
    inner = "[" * 40 + "1" + "]" * 40
    with pytest.raises(ValueError, match="more than 64 levels"):
        parse_yaml(f"a: &a {inner}\nb: {'[' * 40}*a{']' * 40}", "here")
    with pytest.raises(ValueError, match="stands inside itself"):
        parse_yaml("&a [*a, *a]", "here")


def test_what_stands_where_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.json cannot be read"):
        read_json(tmp_path / "none.json")
    with pytest.raises(ValueError, match=r"here is no YAML: .*python/object"):
        parse_yaml("a: !!python/object/apply:os.getcwd []", "here")
