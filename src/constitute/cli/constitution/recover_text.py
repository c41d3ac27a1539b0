"""What `constitute constitution recover` prints for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from constitute.cli.text import counted, harmless, table
from constitute.editing.recover.cases import Case, LeftOut
from constitute.editing.recover.moved import MovedDone
from constitute.editing.recover.propose import Proposed
from constitute.editing.recover.run import Done, Recovered
from constitute.strict_yaml import shorten
from constitute.text import grouped_reasons

SHOWN = 200


def recovered_text(done: Done) -> str:
    """The tables of a recovery, the pairs that nothing explains, and what it took."""
    figures = done.figures
    rows = sorted(figures.alone, key=lambda row: -(row.accuracy.value or 0.0))
    blocks = [
        "\n".join(_head(figures)),
        table(
            ("principle alone", "accuracy", "decides", "when it decides", "p (Holm)", "finding", "missing"),
            [
                (
                    row.principle_id,
                    row.accuracy.text(2),
                    row.decides.text(2),
                    row.when_decided.text(2),
                    _p(row.p),
                    row.finding,
                    row.missing,
                )
                for row in rows
            ],
        ),
        *_together(figures),
        "\n".join(_unexplained(figures, done.shown)),
        *([_proposed(figures.proposed)] if figures.proposed is not None else []),
        harmless(figures.sentence),
        "\n".join(_took(done.model, done.asked, done.reused, done.seconds, done.reasons, done.stored)),
    ]
    return "\n\n".join(blocks)


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _head(figures: Recovered) -> Iterator[str]:
    yield harmless(
        f"{figures.constitution}: {counted(figures.train + figures.held_out, 'pair')} of "
        f"{counted(figures.prompts, 'prompt')}, {figures.train} to fit on, {figures.held_out} held out"
    )
    if said := _left_out(figures.left_out):
        yield f"left out: {said}"
    yield "shares of held-out pairs with their 95 % intervals:"


def _left_out(left: LeftOut) -> str:
    names = (
        (left.unjudged, "without a preference"),
        (left.undecided, "undecided"),
        (left.equal, "with equal answers"),
        (left.not_drawn, "not drawn (-n)"),
    )
    return ", ".join(f"{count} {what}" for count, what in names if count)


def _together(figures: Recovered) -> list[str]:
    fit = figures.together
    rules = [fit.fitted, fit.constitution, fit.single, *fit.baselines]
    weights = sorted((w, name) for name, w in fit.weights.items() if w > 0)[::-1]
    blocks = [table(("rule", "accuracy"), [(rule.name, rule.accuracy.text(2)) for rule in rules])]
    if weights:
        blocks.append(table(("fitted weight of", "share"), [(name, weight) for weight, name in weights[:10]]))
    else:
        blocks.append("every fitted weight is 0: in training no principle goes with the preferences")
    if fit.steps:
        steps = [
            (at, step.principle_id, step.training.value, step.held_out.text(2))
            for at, step in enumerate(fit.steps, 1)
        ]
        blocks.append(table(("principles", "added", "accuracy in training", "held out"), steps))
    return blocks


def _unexplained(figures: Recovered, shown: Sequence[Case]) -> Iterator[str]:
    rest = figures.unexplained
    yield (
        f"no principle speaks for the preferred answer: {rest.share.text(2)} of all pairs; "
        f"{rest.silent} that none decides, {rest.against} that all deciding ones vote against"
    )
    for case in shown:
        yield _line("prompt", case.pair.prompt.messages[-1].content, f"  {case.pair.id} ")
        yield _line("preferred", case.preferred)
        yield _line("other", case.other)


def _line(name: str, text: str, before: str = "    ") -> str:
    return f"{harmless(before)}{name}: {shorten(harmless(text), SHOWN)}"


def _proposed(proposed: Proposed) -> str:
    if not proposed.batches:
        return "no rules proposed: there are no unexplained pairs to read"
    rows = [
        (each.principle.text, each.tested.accuracy.text(2), _p(each.tested.p), "yes" if each.kept else "no")
        for each in sorted(proposed.candidates, key=lambda each: each.tested.p)
    ]
    lines = [f"{counted(len(rows), 'rule')} proposed from {counted(proposed.batches, 'question')}"]
    lines += [f"  left out: {count} x {harmless(why)}" for why, count in proposed.refused.items()]
    if rows:
        lines.append(table(("proposed rule", "accuracy", "p (Holm)", "kept"), rows))
    return "\n".join(lines)


def moved_text(done: MovedDone) -> str:
    """The table of a movement, how lengths changed, and what it took."""
    figures = done.figures
    left = f"; left out: {figures.equal} with equal answers, {figures.unmatched} without the other side"
    head = (
        f"{counted(figures.pairs, 'pair')} of answers to {counted(figures.prompts, 'prompt')}"
        f"{left if figures.equal or figures.unmatched else ''}"
    )
    words = (
        f"words: before {figures.words_before.text(1)}, after {figures.words_after.text(1)}, "
        f"change {figures.longer_by.text(1)}"
    )
    rows = [
        (row.principle_id, row.preferred.text(3), row.wins.text(2), _p(row.p), row.direction, row.missing)
        for row in figures.moved
    ]
    names = ("principle", "P(after is preferred)", "after wins", "p (Holm)", "moved", "missing")
    took = _took(done.model, done.asked, done.reused, done.seconds, done.reasons)
    return "\n\n".join([f"{head}\n{words}", table(names, rows), "\n".join(took)])


def _took(
    model: str | None,
    asked: int,
    reused: int,
    seconds: float,
    reasons: Mapping[str, int],
    stored: int = 0,
) -> Iterator[str]:
    for _, count, why in grouped_reasons(("no vote", why, count) for why, count in reasons.items()):
        yield f"no vote, {count} x such as: {why}"
    if model is None:
        yield f"{stored} votes from stored rows, nothing was asked"
        return
    kept = f"{stored} votes from stored rows, " if stored else ""
    yield harmless(
        f"{model}: {kept}{asked} questions asked, {reused} answered from the store, {seconds:.1f} s"
    )
