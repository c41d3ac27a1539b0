"""The page of a constitution for people: what it looks like, and that it is read back without loss."""

from __future__ import annotations

from pathlib import Path

import pytest

from constitute.constitution.formats.base import LeftOut, Source
from constitute.constitution.formats.convert import export, import_files
from constitute.constitution.formats.markdown import MARKDOWN
from constitute.constitution.read import fill_form
from constitute.errors import DataError
from constitute.types import Constitution, Example, Principle, Probe

FORMS = ("critique", "revise", "compare")


def made() -> Constitution:
    text = "Say what you do not know."
    forms = {form: fill_form(form, text) for form in FORMS}
    return Constitution(
        name="Our rules",
        description="# For the\nhelp desk",
        principles=(
            Principle(id="brief", text="Be brief.", **{f: fill_form(f, "Be brief.") for f in FORMS}),
            Principle(
                id="unsure",
                text=text,
                **forms | {"compare": "Which reply\nadmits more?"},
                weight=2,
                priority="root",
                tags=("honesty", "a, b"),
                source="handbook, page 3",
                examples=(
                    Example(prompt="When?", better="I don't know.", worse="- Now", critique="It guesses."),
                    Example(prompt="Who?", better="No idea.", worse="Him.", draft=True),
                ),
                probes=(Probe(prompt="Why?", expect="doubt"),),
            ),
        ),
    )


PAGE = """\
# Our rules

<!-- a constitution: `constitute constitution import` reads this page back -->

> # For the
> help desk

## Priority root

### unsure

Say what you do not know.

- Priority: root
- Weight: 2
- Tags: honesty, "a, b"
- Source: "handbook, page 3"

**Compare**

> Which reply
> admits more?

#### Example 1

**Prompt**

> When?

**Better**

> I don't know.

**Worse**

> - Now

**Why**

> It guesses.

#### Example 2 (draft)

**Prompt**

> Who?

**Better**

> No idea.

**Worse**

> Him.

#### Probe 1

**Prompt**

> Why?

**Expect**

> doubt

## Priority guideline

### brief

Be brief.
"""


def read(text: str):
    return MARKDOWN.read(Source(Path("f.md"), text.encode()))


def test_the_page(tmp_path: Path) -> None:
    assert export(made(), "markdown") == (PAGE, [])
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    loaded, notes, left = import_files([path])
    assert loaded == made().model_copy(update={"principles": made().principles[::-1]})
    assert (notes, left) == ([], {path: []})


def test_what_a_person_breaks_is_listed_with_its_line() -> None:
    text = PAGE.replace("**Worse**\n\n> Him.\n", "").replace("> - Now", "> I don't know.")
    text = text.replace("#### Probe 1", "#### Idea").replace("- Weight: 2", "- Weight: 3\n- Colour: red")
    found = read(text)
    assert sorted(found.left_out) == [
        LeftOut(16, "not a fact of a principle", "Colour: red"),
        LeftOut(25, "an example whose two answers are the same", "Example 1"),
        LeftOut(43, "an example without Worse", "Example 2 (draft)"),
        LeftOut(54, "neither an example nor a probe", "Idea"),
    ]
    assert found.drafts[0].weight == 3 and found.drafts[0].examples == ()
    wrapped = read(
        PAGE.replace("Say what you do", "Say what\nyou do").replace("Be brief.", "Be\nbrief.\n\nVery.")
    )
    assert [d.text for d in wrapped.drafts] == ["Say what you do not know.", "Be brief.\n\nVery."]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("Weight: 2", "Weight: much", r"f\.md:15: weight must be a number from 0 to 1000, not 'much'"),
        (
            "Priority: root",
            "Priority: rot",
            r"f\.md:14: the priority 'rot' is no level; the levels are root,",
        ),
        ('"a, b"', '"a, b', r"f\.md:16: .* has a quote that does not close"),
    ],
)
def test_bad_pages(old: str, new: str, what: str) -> None:
    with pytest.raises(DataError, match=what):
        read(PAGE.replace(old, new))
