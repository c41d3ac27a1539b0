"""Conversations in tags, as in the OpenAI Model Spec: a prompt, and answers marked GOOD, OK or BAD."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

from constitute.constitution.formats.base import LeftOut
from constitute.types import Example

_TOKEN = re.compile(
    r"<(?P<close>/?)(?P<tag>system|developer|user|assistant|tool|comparison)\b(?P<more>[^<>]*)>"
    r"(?:[ \t]*<!--(?P<comment>.{0,1000}?)-->)?"
)
_MARK = re.compile(r"\s*(GOOD|OK|BAD)\b(?:\[[^\]]*\])?\s*:?\s*(.*)", re.DOTALL)
_RANKS = {"GOOD": 2, "OK": 1, "BAD": 0}


@dataclass(frozen=True)
class Answer:
    """One answer of a comparison: its rank (higher is better) and what is said of it."""

    text: str
    rank: int
    said: str


def read_comparisons(text: str, line: int) -> tuple[list[Example], list[LeftOut]]:
    """The examples in a conversation that begins on `line`: each better answer with each worse one.

    The prompt is the conversation so far; where it is more than one turn of the user, each turn begins
    with its role. A comparison without a prompt, or without two answers that differ in rank and words, is
    left out, and so is a conversation without a comparison.
    """
    examples: list[Example] = []
    left: list[LeftOut] = []
    turns: list[tuple[str, str]] = []
    answers: list[Answer] | None = None
    begun, compared, counted = line, 0, 0
    open_at: re.Match[str] | None = None
    for token in _TOKEN.finditer(text):
        tag, closes = token["tag"], bool(token["close"])
        line += text.count("\n", counted, token.start())
        counted = token.start()
        if open_at is not None:
            # What stands between a tag and its own end is text, other tags with it.
            if not (closes and tag == open_at["tag"]):
                continue
            words = html.unescape(text[open_at.end() : token.start()]).strip()
            if answers is None or tag != "assistant":
                turns.append((tag, words))
            else:
                answers.append(_answer(words, open_at["comment"] or ""))
            open_at = None
        elif tag == "comparison":
            if not closes:
                answers, begun = [], line
                compared = token.start()
            elif answers is not None:
                kept, reason = _pair(turns, answers)
                examples += kept
                if reason:
                    left.append(LeftOut(begun, reason, text[compared : token.end()]))
                best = max(answers, key=lambda each: each.rank, default=None)
                if best is not None:
                    turns.append(("assistant", best.text))
                answers = None
        elif not closes:
            open_at = token
    if open_at is not None or answers is not None:
        left.append(LeftOut(line, "a tag is not closed", text[counted:]))
    elif not examples and not left:
        left.append(LeftOut(begun, "a conversation without a comparison", text))
    return examples, left


def _answer(text: str, comment: str) -> Answer:
    found = _MARK.match(comment)
    return Answer(text, _RANKS[found[1]], found[2].strip()) if found else Answer(text, -1, "")


def _pair(turns: list[tuple[str, str]], answers: list[Answer]) -> tuple[list[Example], str]:
    """The examples of one comparison, and why something of it is left out."""
    prompt = _prompt(turns)
    if not prompt:
        return [], "a comparison without a prompt"
    marked = [each for each in answers if each.rank >= 0 and each.text]
    if not any(a.rank != b.rank for a in marked for b in marked):
        what = "better" if marked and marked[0].rank == 0 else "worse"
        return (
            [],
            f"a comparison without a {what} answer" if marked else "a comparison without marked answers",
        )
    pairs = [(a, b) for a in marked for b in marked if a.rank > b.rank]
    kept = [
        Example(prompt=prompt, better=a.text, worse=b.text, critique=b.said)
        for a, b in pairs
        if a.text != b.text
    ]
    if len(kept) < len(pairs):
        return kept, "a comparison whose two answers are the same"
    return kept, "an answer marked neither GOOD, OK nor BAD" if len(marked) < len(answers) else ""


def _prompt(turns: list[tuple[str, str]]) -> str:
    said = [(role, text) for role, text in turns if text]
    if len(said) == 1 and said[0][0] == "user":
        return said[0][1]
    return "\n\n".join(f"{role.capitalize()}: {text}" for role, text in said)
