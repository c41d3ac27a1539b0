"""Rules about a constitution's own tests: examples that are missing, drafts, and answers told by length."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from constitute.editing.lint.document import Document, Remark
from constitute.stats import mcnemar_exact

# With fewer, even answers that are all the longer may be so by chance; 8 of 8 have p = 0.008.
LEAST_EXAMPLES = 8
# Two-sided; the least that 8 examples can show.
CHANCE = 0.01


def no_examples(document: Document) -> Iterator[Remark]:
    """A principle has no example but drafts, so nothing tests what it means (`constitution test`)."""
    if document.constitution is None:
        return
    lacking = [
        at
        for at, principle in enumerate(document.constitution.principles)
        if all(example.draft for example in principle.examples)
    ]
    fix = "write a prompt with a better and a worse answer, or have them drafted with constitution examples"
    if len(lacking) == len(document.entries):
        yield Remark(None, (1, 1), "no principle has an example, so that nothing tests what it means", fix)
        return
    for at in lacking:
        drafts = len(document.constitution.principles[at].examples)
        said = f"has no examples but drafts ({drafts})" if drafts else "has no examples"
        name = document.constitution.principles[at].id
        yield Remark(at, document.entries[at].place(""), f"the principle {name!r} {said}", fix)


def drafts(document: Document) -> Iterator[Remark]:
    """A principle or an example is a draft of a model that nobody has kept yet."""
    if document.constitution is None:
        return
    fix = "read it, mend it, and take the mark away with constitution keep"
    for at, principle in enumerate(document.constitution.principles):
        examples = sum(example.draft for example in principle.examples)
        parts = ["its forms are a draft"] if principle.draft else []
        parts += [f"{examples} of its {len(principle.examples)} examples are drafts"] if examples else []
        if parts:
            place = document.entries[at].place("draft" if principle.draft else "examples")
            said = f"the principle {principle.id!r}: {' and '.join(parts)}"
            yield Remark(at, place, said, fix)


def told_by_length(document: Document) -> Iterator[Remark]:
    """Nearly all better answers of the examples are the longer, or the shorter ones: length tells them."""
    if document.constitution is None:
        return
    sizes = [
        (len(example.better), len(example.worse))
        for principle in document.constitution.principles
        for example in principle.examples
        if not example.draft
    ]
    longer, shorter = sum(b > w for b, w in sizes), sum(b < w for b, w in sizes)
    n, p = longer + shorter, mcnemar_exact(longer, shorter)
    if n < LEAST_EXAMPLES or p >= CHANCE:
        return
    side, count = ("longer", longer) if longer > shorter else ("shorter", shorter)
    said = f"the better answer is the {side} one in {count} of {n} examples, so that a judge of length passes"
    fix = f"write some whose better answer is the {'shorter' if side == 'longer' else 'longer'} one"
    figure = {"longer": float(longer), "n": float(n), "p": p}
    yield Remark(None, (1, 1), said, fix, figure)


EXAMPLES: dict[str, Callable[[Document], Iterator[Remark]]] = {
    "no-examples": no_examples,
    "draft": drafts,
    "told-by-length": told_by_length,
}
