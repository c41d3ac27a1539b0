"""Tell a model's reasoning from its answer by the marks that chat templates write around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Markers:
    """What stands before a reasoning, after it, and, where `answer` is given, right before the answer."""

    open: str
    close: str
    answer: str = ""

    @property
    def end(self) -> str:
        """What the answer follows."""
        return self.answer or self.close


# Of the templates that TRL packs and of models that are widely used.
KNOWN = (
    Markers("<think>", "</think>"),
    Markers("[THINK]", "[/THINK]"),
    Markers("<|START_THINKING|>", "<|END_THINKING|>"),
    Markers("<|channel|>analysis<|message|>", "<|end|>", "<|channel|>final<|message|>"),
    Markers("to=self<|message|>", "<|eom|>", "to=user<|message|>"),
    Markers("<|channel>thought", "<channel|>"),
    Markers("<seed:think>", "</seed:think>"),
    Markers("◁think▷", "◁/think▷"),
    Markers("<thought>", "</thought>"),
    Markers("<reasoning>", "</reasoning>"),
)


@dataclass(frozen=True)
class Parts:
    """A sampled text's reasoning, and where the answer begins in it; `closed` where the reasoning ended."""

    reasoning: str
    start: int
    closed: bool


def opened_by(prompt: str, markers: Sequence[Markers]) -> Markers | None:
    """The marks of the reasoning that a prompt's end leaves open."""
    end = prompt.rstrip()
    return next((marks for marks in markers if end.endswith(marks.open)), None)


def parts_of(
    text: str, markers: Sequence[Markers], opened: Markers | None, surely: frozenset[str]
) -> Parts | None:
    """Where reasoning ends in `text` (control tokens written out); None where it holds none.

    Reasoning is what stands first: opened by the prompt or by the text's own first mark. Ends in `surely`
    (made of control tokens, so that no ordinary text contains them) end one that nobody opened.
    """
    head = text.lstrip()
    if opened is None:
        first = next((marks for marks in markers if head.startswith(marks.open)), None)
        if first is not None:
            return _cut(text, first, len(text) - len(head) + len(first.open))
        late = next((m for m in markers if m.end in surely and m.end in text), None)
        return None if late is None else _cut(text, late, 0)
    # A model may write the opening mark once more.
    again = len(text) - len(head) + len(opened.open) if head.startswith(opened.open) else 0
    return _cut(text, opened, again)


def unwrapped(answer: str) -> str:
    """An answer after a reasoning without the marks around it that Granite 3.3 writes."""
    head = answer.lstrip()
    if not head.startswith("<response>"):
        return answer
    return head.removeprefix("<response>").rstrip().removesuffix("</response>").strip()


def _cut(text: str, marks: Markers, begin: int) -> Parts:
    place = text.find(marks.end, begin)
    if place < 0:
        return Parts(_bare(text[begin:], marks), len(text), closed=False)
    return Parts(_bare(text[begin:place], marks), place + len(marks.end), closed=True)


def _bare(text: str, marks: Markers) -> str:
    """A reasoning without the marks between its parts."""
    for mark in (f"{marks.close}<|start|>assistant", marks.open, marks.close):
        text = text.replace(mark, "")
    return text.strip()
