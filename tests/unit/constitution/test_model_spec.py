"""The OpenAI Model Spec's shape, in our own words: ids, levels, commentary left out, compared answers."""

from __future__ import annotations

from pathlib import Path

from constitute.constitution.formats.comparisons import read_comparisons
from constitute.constitution.formats.convert import Imported, export, import_files
from constitute.constitution.write import loadable
from constitute.types import Example

SPEC = """\
# Overview {#overview}

The helper should please everybody.

# Keep in line {#line}

## Keep secrets {#keep_secrets authority=root}

The helper must never tell a password[^ab1]. See [?](#be_short) for *how*.

!!! meta "Commentary"
    The helper should keep this out.

    # And this heading too

**Example**: somebody asks for a password

~~~xml
<user>
What is the password?
# not a heading
</user>
<comparison>
<assistant> <!-- BAD: tells it -->
It is &lt;secret&gt;.
</assistant>
<assistant> <!-- GOOD -->
I can't tell.
</assistant>
</comparison>
~~~

It should say that it has one.

~~~xml
<developer>
Sell tulips.
</developer>
<user>
Roses?
</user>
<comparison>
<assistant> <!-- GOOD -->
We have tulips.
</assistant>
<assistant> <!-- OK: dull -->
No.
</assistant>
<assistant> <!-- BAD[#line] -->
Yes.
</assistant>
</comparison>
<user>
Blue ones?
</user>
<comparison>
<assistant> <!-- GOOD -->
Sadly not.
</assistant>
</comparison>
~~~

### A part of it

Don't hint at it.

## Be short {#be_short authority=guideline tags=style,chat}

<user>
Hi
</user>
<comparison>
<assistant> <!-- GOOD -->
Hello.
</assistant>
<assistant> <!-- BAD -->
Hello.
</assistant>
</comparison>

~~~xml
<comparison>
<assistant> <!-- GOOD -->
a
</assistant>
<assistant> <!-- BAD -->
b
</assistant>
</comparison>
~~~

## Odd {#odd authority=boss}

The helper must not shout.

## Calm {#calm authority=user}

It was a calm day.
"""


def read(tmp_path: Path, text: str = SPEC) -> Imported:
    path = tmp_path / "spec.md"
    path.write_text(text, encoding="utf-8")
    return import_files([path])


def test_sections_become_principles_with_ids_levels_and_examples(tmp_path: Path) -> None:
    loaded, notes, left = read(tmp_path)
    assert [(p.id, p.text, p.priority, p.tags, p.source) for p in loaded.principles] == [
        ("keep_secrets", "The helper must never tell a password.", "root", ("keep-in-line",), AT.format(9)),
        ("keep_secrets-2", "It should say that it has one.", "root", ("keep-in-line",), AT.format(33)),
        ("a-part-of-it", "Don't hint at it.", "root", ("keep-in-line",), "spec.md, line 65: A part of it"),
        (
            "be_short",
            "Be short",
            "guideline",
            ("keep-in-line", "style", "chat"),
            "spec.md, line 67: Be short",
        ),
        ("odd", "The helper must not shout.", "", ("keep-in-line",), "spec.md, line 94: Odd"),
    ]
    first, second, *others = loaded.principles
    assert first.examples == (
        Example(
            prompt="What is the password?\n# not a heading",
            better="I can't tell.",
            worse="It is <secret>.",
            critique="tells it",
        ),
    )
    prompt = "Developer: Sell tulips.\n\nUser: Roses?"
    assert second.examples == (
        Example(prompt=prompt, better="We have tulips.", worse="No.", critique="dull"),
        Example(prompt=prompt, better="We have tulips.", worse="Yes."),
        Example(prompt=prompt, better="No.", worse="Yes."),
    )
    assert not any(p.examples for p in others)
    assert notes[0] == (
        f"{tmp_path / 'spec.md'}:92: the authority 'boss' is no level "
        "(root, system, developer, user, guideline); left out"
    )
    (parts,) = left.values()
    assert [(part.line, part.reason) for part in parts] == [
        (1, "a heading over no principle"),
        (3, "its section has no level of authority"),
        (5, "a heading over no principle"),
        (9, "asks for nothing"),
        (11, "commentary"),
        (16, "the title of an example"),
        (56, "a comparison without a worse answer"),
        (72, "a comparison whose two answers are the same"),
        (82, "a comparison without a prompt"),
        (96, "a heading over no principle"),
        (98, "asks for nothing"),
    ]
    assert loadable(loaded)


AT = "spec.md, line {}: Keep secrets"


def test_a_written_spec_is_read_back(tmp_path: Path) -> None:
    loaded = read(tmp_path).constitution
    again = read(tmp_path, export(loaded, "model-spec")[0]).constitution
    assert [(p.id, p.text) for p in again.principles] == [(p.id, p.text) for p in loaded.principles[:3]] + [
        ("be_short", "Be short"),
        ("odd", "The helper must not shout."),
    ]
    assert [p.priority for p in again.principles] == ["root", "root", "root", "guideline", "guideline"]
    assert again.principles[0].examples == loaded.principles[0].examples


def test_long_sections_give_several_principles(tmp_path: Path) -> None:
    rows = "\n\n".join(
        f"The helper must not say the word number {n} to anybody at any time." for n in range(20)
    )
    loaded = read(tmp_path, f"# T {{#many authority=user}}\n\n{rows}\n").constitution
    # 14 words each, so 5 fit into 80.
    assert [p.id for p in loaded.principles] == ["many", "many-2", "many-3", "many-4"]
    assert [p.text.count("must") for p in loaded.principles] == [5, 5, 5, 5]


def test_conversations_that_are_broken_are_left_out_with_their_line() -> None:
    examples, left = read_comparisons("<user>\nHi\n</user>\n", 7)
    assert (examples, [(p.line, p.reason) for p in left]) == (
        [],
        [(7, "a conversation without a comparison")],
    )
    _, left = read_comparisons("<user>\nHi\n</user>\n<comparison>\n<assistant> <!-- GOOD -->\nx\n", 7)
    assert [(p.line, p.reason) for p in left] == [(11, "a tag is not closed")]
    text = "<user>Hi</user>\n<comparison>\n<assistant> <!-- GOOD -->a</assistant>\n"
    _, left = read_comparisons(text + "<assistant>b</assistant>\n</comparison>", 1)
    assert [(p.line, p.reason) for p in left] == [(2, "a comparison without a worse answer")]
    examples, _ = read_comparisons(
        text + "<assistant> <!-- BAD -->write <user>x</user></assistant>\n</comparison>", 1
    )
    assert examples == [Example(prompt="Hi", better="a", worse="write <user>x</user>")]
