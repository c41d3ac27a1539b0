"""The differences of two constitutions and their effect, as text for a terminal and as JSON-ready values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from constitute.cli.text import harmless, table
from constitute.editing.diff.changes import TEXTS, Changes, PrincipleChange
from constitute.editing.diff.effect import Effect, Movement, PairEffect, largest_part
from constitute.editing.words import ansi, plain, word_diff
from constitute.strict_yaml import shorten

MARKS = {"added": "+", "removed": "-", "renamed": ">", "changed": "~"}
_SHOWN = 100


def changes_text(changes: Changes, colour: bool) -> str:
    """What differs in words, principle by principle, and what a new run would ask."""
    sides = [
        f"{side}: {name}, {count} principles, hash {digest[:16]}"
        for side, name, count, digest in zip("AB", changes.names, changes.counts, changes.hashes, strict=True)
    ]
    sides += _levels(changes)
    if not changes.changes:
        return harmless("\n".join([*sides, "no principle differs"]))
    counted = [
        f"{n} {kind}" for kind in MARKS if (n := sum(change.kind == kind for change in changes.changes))
    ]
    before, after = changes.counts
    size = f"of {after} principles" if before == after else f"{before} principles before, {after} after"
    blocks = ["\n".join([*map(harmless, sides), f"{', '.join(counted)}, {size}"])]
    blocks += [_change(change, colour) for change in changes.changes]
    return "\n\n".join([*blocks, _anew(changes)])


def _levels(changes: Changes) -> list[str]:
    """What differs in the order of the levels, and which principles stand on another one for it."""
    before, after = changes.levels
    if before == after:
        return []
    lines = [f"priorities {' > '.join(before)} -> {' > '.join(after)}"]
    if changes.moved:
        lines.append(f"on another level than before: {', '.join(changes.moved)}")
    return lines


def _anew(changes: Changes) -> str:
    anew, n = changes.anew, changes.counts[1]
    if changes.hashes[0] == changes.hashes[1]:
        return (
            "a new run under B asks nothing anew: sources, probes and order change no outcome, and examples "
            "only where few_shot shows them"
        )
    again = (
        f"  the same label questions again under {', '.join(anew.same_words)}: its text or id is part of the "
        "key that answers are kept under; with --run, stored votes are used",
    )
    lines = (
        f"a new run under B asks other questions (labels show the judge `{anew.form}`):",
        f"  label questions of {anew.label} of {n} principles, where all of them vote",
        f"  {anew.drawn_label:.1%} of labels, where one principle is drawn for each pair",
        f"  {anew.drawn_revise:.1%} of critiques and revisions a round "
        f"({anew.redrawn:.1%} of draws fall on another principle)",
        *(again if anew.same_words else ()),
    )
    return "\n".join(lines)


def _change(change: PrincipleChange, colour: bool) -> str:
    head = f"{MARKS[change.kind]} {change.id}: {'; '.join(_words(change))}"
    lines = [harmless(head)]
    before, after = change.before, change.after
    if before is None or after is None:
        principle = after or before
        assert principle is not None
        lines.append(f"  {harmless(shorten(principle.text, 300))}")
    else:
        mark = ansi if colour else plain
        for form in change.reworded:
            runs = word_diff(harmless(getattr(before, form)), harmless(getattr(after, form)))
            lines.append(f"  {form}: " + mark(runs).replace("\n", "\n    "))
    return "\n".join(lines)


def _words(change: PrincipleChange) -> list[str]:
    """The kinds of difference, in plain words."""
    before, after = change.before, change.after
    if before is None or after is None:
        near = f"; reads much like {change.near}" if change.near else ""
        return [change.kind + near]
    words = [f"was {before.id}, the same wording"] if change.kind == "renamed" else []
    if change.reworded:
        words.append(f"reworded ({', '.join(change.reworded)})")
    for name in change.fields:
        if name in TEXTS:
            continue
        old, new = getattr(before, name), getattr(after, name)
        if name in ("probes", "examples"):
            words.append(f"{name} {len(old)} -> {len(new)}" if len(old) != len(new) else f"other {name}")
        else:
            words.append(f"{name} {_value(old)} -> {_value(new)}")
    return words


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) or "none" if isinstance(value, tuple) else value or "none"


def effect_text(effect: Effect) -> str:
    """Flips, movement, where they fall, and the pairs that moved most."""
    left_out = effect.only_before + effect.only_after + effect.neither
    lines = [f"effect on {effect.all.flips.n} pairs that have a label under both"]
    lines.append(
        f"labels that flip: {effect.all.flipped} of {effect.all.flips.n}, {effect.all.flips.text()}; "
        f"|change of P(A)|, mean {effect.all.moved.text()}; change of P(A), mean {effect.shift.text()}"
    )
    if left_out:
        lines.append(
            f"left out: {effect.only_before} with a label under A only, {effect.only_after} under B only, "
            f"{effect.neither} under neither"
        )
        lines += [f"  {n} under {side}: {harmless(why)}" for side, why, n in effect.reasons[:5]]
    blocks = ["\n".join(lines)]
    for title, groups in (
        # New weights leave a principle's own votes as they are.
        ("votes of changed principle", [group for group in effect.by_principle if group.moved.value]),
        ("pairs voted on by tag", effect.by_tag),
        ("pairs by source", effect.by_source),
    ):
        if groups:
            head = (title, "flips", "share (95 %)", "|change|, mean (95 %)")
            blocks.append(table(head, [_row(group) for group in groups]))
    if effect.movers:
        blocks.append("\n".join(["moved most:", *(_mover(pair) for pair in effect.movers)]))
    return "\n\n".join(blocks)


def _row(group: Movement) -> tuple[object, ...]:
    return (group.name or "-", group.flipped, group.flips.text(), group.moved.text())


def _mover(pair: PairEffect) -> str:
    row, part = pair.comparison, largest_part(pair)
    flip = ", flips" if pair.flips else ""
    lines = [f"{row.id}: P(A) {pair.before:.3f} -> {pair.after:.3f}{flip}"]
    if part is not None:
        votes = [f"{p:.3f}" if p is not None else "no vote" for p in (part.before, part.after)]
        lines.append(
            f"  most by {part.principle_id}: its vote {votes[0]} -> {votes[1]}, part {part.change:+.3f}"
        )
    texts = (("prompt", row.prompt.messages[-1].content), ("A", row.a), ("B", row.b))
    lines += [f"  {name}: {shorten(harmless(text), _SHOWN)}" for name, text in texts]
    return harmless("\n".join(lines))


def changes_json(changes: Changes) -> dict[str, Any]:
    """The differences as one JSON-ready object."""
    return {
        "names": changes.names,
        "hashes": changes.hashes,
        "principles": changes.counts,
        "levels": changes.levels,
        "moved": changes.moved,
        "changes": [_change_json(change) for change in changes.changes],
        "asked_anew": changes.anew.model_dump(),
    }


def effect_json(effect: Effect, movers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The effect as one JSON-ready object; `movers` are the rows of those pairs."""
    return {**effect.model_dump(mode="json", exclude={"movers"}), "movers": list(movers)}


def _change_json(change: PrincipleChange) -> dict[str, Any]:
    before, after = change.before, change.after
    words = {}
    if before is not None and after is not None:
        words = {form: word_diff(getattr(before, form), getattr(after, form)) for form in change.reworded}
    return {
        "id": change.id,
        "kind": change.kind,
        "fields": change.fields,
        "near": change.near,
        "words": {form: [[run.kind, run.text] for run in runs] for form, runs in words.items()},
        "before": None if before is None else before.model_dump(mode="json"),
        "after": None if after is None else after.model_dump(mode="json"),
    }
