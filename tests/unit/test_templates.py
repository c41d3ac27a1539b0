"""Templates of the user's own: what is wrong in one is a sentence with its file, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from constitute import templates
from constitute.errors import DataError, UsageError


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for cached in (templates.source, templates.template_hash, templates._compiled):
        cached.cache_clear()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts").mkdir()
    yield tmp_path / "prompts" / "mine.j2"
    for cached in (templates.source, templates.template_hash, templates._compiled):
        cached.cache_clear()


def test_a_template_is_filled_and_what_fills_it_is_never_expanded(own: Path) -> None:
    own.write_text("\n{{ a }} and {{ b }}\n")
    assert templates.render("mine", a="{{ b }}", b="{% if x %}") == "{{ b }} and {% if x %}"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("one\n{% if a %}\n{{ a }", "prompts/mine.j2:3: unexpected '}'; mend the template"),
        ("{{ a.b }}", "prompts/mine.j2: the template cannot be filled"),
        ("{{ missing }}", "'missing' is undefined); it may use a"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ a + 1 }}", "the template cannot be filled"),
        ("{{ a.__class__.__mro__ }}", "the template cannot be filled"),
    ],
)
def test_what_is_wrong_in_a_template_is_one_sentence(own: Path, text: str, part: str) -> None:
    own.write_text(text)
    with pytest.raises(UsageError) as problem:
        templates.render("mine", a="text")
    assert part in str(problem.value) and "\n" not in str(problem.value)


def test_a_template_that_is_not_utf_8_is_named_with_its_line(own: Path) -> None:
    own.write_bytes("fine\nna\xefve".encode("latin-1"))
    with pytest.raises(DataError, match=r"mine\.j2:2: byte 0xef is not UTF-8"):
        templates.render("mine", a="text")
