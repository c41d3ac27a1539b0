"""Notes about a constitution's own tests, counted by hand."""

from __future__ import annotations

import pytest
from scripted import constitution

from constitute.constitution.write import to_yaml
from constitute.editing.lint.findings import Finding, lint
from constitute.types import Example

RULES = ("no-examples", "draft", "told-by-length")


def notes(*examples: tuple[Example, ...], draft: bool = False) -> list[Finding]:
    """Notes on principles `a`, `b`, … with these examples; the first one a draft, where asked."""
    given = constitution(*"abcdef"[: len(examples)])
    principles = [
        p.model_copy(update={"examples": found, "draft": draft and p.id == "a"})
        for p, found in zip(given.principles, examples, strict=True)
    ]
    data = to_yaml(given.model_copy(update={"principles": tuple(principles)})).encode()
    return [finding for finding in lint(data, "f").findings if finding.rule in RULES]


def example(n: int, *, longer: bool = True, draft: bool = False) -> Example:
    long, short = f"A long answer, number {n}.", f"Short {n}."
    better, worse = (long, short) if longer else (short, long)
    return Example(prompt=f"Q{n}?", better=better, worse=worse, draft=draft)


def test_a_principle_without_kept_examples_is_a_note() -> None:
    found = notes((example(1),), (), (example(2, draft=True),))
    assert [(f.rule, f.principle, f.severity) for f in found if f.rule == "no-examples"] == [
        ("no-examples", "b", "note"),
        ("no-examples", "c", "note"),
    ]
    assert found[0].message == "the principle 'b' has no examples"
    assert found[1].message == "the principle 'c' has no examples but drafts (1)"
    assert (found[0].line > 1, found[0].column) == (True, 5)


def test_where_none_has_any_it_is_said_once() -> None:
    (found,) = notes((), ())
    assert (found.line, found.principle) == (1, "") and found.message.startswith(
        "no principle has an example"
    )


def test_drafts_are_notes() -> None:
    found = notes((example(1), example(2, draft=True)), (example(3),), draft=True)
    (draft,) = [each for each in found if each.rule == "draft"]
    assert (draft.principle, draft.severity) == ("a", "note")
    assert draft.message == "the principle 'a': its forms are a draft and 1 of its 2 examples are drafts"


@pytest.mark.parametrize(
    ("longer", "shorter", "found"),
    # Two-sided: 8 of 8 has 2 / 256 = 0.0078, 7 of 8 has 18 / 256 = 0.07, 11 of 12 has 26 / 4096 = 0.006.
    [(8, 0, "longer"), (0, 8, "shorter"), (7, 0, ""), (7, 1, ""), (11, 1, "longer"), (5, 5, "")],
)
def test_answers_told_by_length(longer: int, shorter: int, found: str) -> None:
    examples = [example(n, longer=n < longer) for n in range(longer + shorter)]
    said = [each for each in notes(tuple(examples)) if each.rule == "told-by-length"]
    assert len(said) == bool(found)
    if said:
        assert f"the {found} one in {max(longer, shorter)} of {longer + shorter} examples" in said[0].message
        assert said[0].figure["n"] == longer + shorter and said[0].figure["p"] < 0.01


def test_drafts_have_no_part_in_lengths() -> None:
    examples = [example(n, draft=n > 6) for n in range(9)]
    assert not [each for each in notes(tuple(examples)) if each.rule == "told-by-length"]
