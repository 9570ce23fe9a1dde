"""The deliberate errors of ``mutations.py`` can still be made, and are listed."""

import pytest
from mutations import MUTATIONS, ROOT, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.name)
def test_its_snippet_is_in_the_sources_once(mutation: Mutation) -> None:
    text = (ROOT / mutation.file).read_text()
    assert text.count(mutation.right) == 1
    assert mutation.wrong not in text or mutation.wrong in mutation.right
    path, _, name = mutation.test.partition("::")
    assert f"def {name}" in (ROOT / path).read_text()


def test_the_list_is_whole() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 10
    listed = (ROOT / "tests" / "README.md").read_text()
    for mutation in MUTATIONS:
        assert f"| {mutation.name} | `{mutation.file}` |" in listed
