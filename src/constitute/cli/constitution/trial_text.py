"""The tests of a constitution as text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from constitute.cli.text import counted, harmless, table
from constitute.editing.trial.figures import prefers
from constitute.editing.trial.junit import outcome
from constitute.strict_yaml import shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from constitute.editing.trial.figures import Cost, ExampleTest, Tally, TrialResult
    from constitute.editing.trial.known import Before

_SHOWN = 100
# Examples of a diff, listed one a line.
_MOST = 20


def trial_text(result: TrialResult) -> str:
    """Rows by principle and method, the methods over all, then what fails, the drafts, and the cost."""
    kept = sum(not test.draft for test in result.tests) // len(result.made_by)
    drafts = len(result.drafts) // len(result.made_by)
    counts = counted(kept, "example") + (f" and {counted(drafts, 'draft')}" if drafts else "")
    blocks = [f"{result.name}: {counts}, judged by {result.model.get('name')}"]
    if result.tallies:
        rows = [_tally(row) for row in result.tallies]
        head = (
            "principle",
            "method",
            "examples",
            "passed",
            "P(better)",
            "order flips",
            "least margin",
            "no P",
        )
        blocks.append(table(head, rows))
        rows_of_all = [
            (
                row.method,
                row.passed.text(2),
                row.p_better.text(2),
                row.flips.text(2),
                row.abstained,
                row.failed,
            )
            for row in result.overall
        ]
        blocks.append(
            table(("all", "passed", "P(better)", "order flips", "abstained", "failed"), rows_of_all)
        )
    blocks += [f"{row.method}: {row.verdict}" for row in result.overall if row.verdict]
    if result.failing:
        blocks.append("\n".join(["tests that fail:", *(_test(test) for test in result.failing)]))
    if result.drafts:
        title = "drafts, which fail nothing until somebody keeps them (constitution keep):"
        blocks.append("\n".join([title, *(_test(test) for test in result.drafts)]))
    if result.untested:
        blocks.append(f"not tested, as they have no examples but drafts: {_some(result.untested)}")
    blocks.append(cost_text(result.cost))
    return harmless("\n\n".join(blocks))


def cost_text(cost: Cost) -> str:
    """Such as `88 requests asked, 0 cached; 9,120 prompt tokens; 12.3 s in all`."""
    tokens = (
        "prompt tokens unknown" if cost.prompt_tokens is None else f"{cost.prompt_tokens:,} prompt tokens"
    )
    return (
        f"{counted(cost.asked, 'request')} asked, {cost.cached} cached; {tokens}; {cost.seconds:.1f} s in all"
    )


def tests_text(rows: Sequence[Before]) -> str:
    """How the examples of two constitutions came out; those that turned or are known on one side."""
    passed = [
        sum(p is not None and prefers(p) for p in side) for side in zip(*map(_sides, rows), strict=True)
    ]
    known = [sum(p is not None for p in side) for side in zip(*map(_sides, rows), strict=True)]
    lines = [
        f"tests that pass (as `constitution test` found them): {passed[0]} of {known[0]} under A, "
        f"{passed[1]} of {known[1]} under B"
    ]
    shown = [row for row in rows if row.turned or None in _sides(row)]
    for row in shown[:_MOST]:
        was, now = ("not known" if p is None else f"{p:.3f}" for p in _sides(row))
        turned = f", {'passes' if prefers(row.after or 0) else 'fails'} now" if row.turned else ""
        lines.append(
            f"  {row.principle}, example {row.number}, {row.method}: P(better) {was} -> {now}{turned}"
        )
    if len(shown) > _MOST:
        lines.append(f"  and {len(shown) - _MOST} more")
    return harmless("\n".join(lines))


def _sides(row: Before) -> tuple[float | None, float | None]:
    return row.before, row.after


def _test(test: ExampleTest) -> str:
    prompt = shorten(" ".join(test.prompt.split()), _SHOWN)
    return f"  {test.principle}, example {test.number}, {test.method}: {outcome(test)}\n    prompt: {prompt}"


def _tally(row: Tally) -> tuple[object, ...]:
    flips = f"{row.flipped} of {row.ordered}" if row.ordered else "-"
    margin = None if row.margin is None else f"{row.margin:+.3f}"
    no_p = row.abstained + row.failed
    return row.principle, row.method, row.examples, row.passed, row.p_better, flips, margin, no_p


def _some(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
