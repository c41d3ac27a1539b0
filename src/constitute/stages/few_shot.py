"""Show worked examples before a question, as earlier turns, so that questions share them as a prefix.

They are the principle's own `examples`, or those of a file: JSONL of ours, or the few-shot files of the
Constitutional AI paper (CritiqueRevisionFewShotPrompts.json, RLMadisonFewShotPrompts.json).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from constitute.config import LabelConfig, ReviseConfig
from constitute.errors import DataError, UsageError
from constitute.files import BadLine, json_lines, read_text
from constitute.hh import is_hh, parse_hh, split_answer
from constitute.types import Constitution, Message, Principle, Record

Kind = Literal["label", "revise"]
FORMS: dict[Kind, str] = {
    "label": "prompt, a, b and better (a or b)",
    "revise": "prompt, response, critique and revision",
}
_CAI = re.compile(r"\n\n(CritiqueRequest|Critique|RevisionRequest|Revision):")
_CAI_PARTS = ["CritiqueRequest", "Critique", "RevisionRequest", "Revision"]


class Shot(Record):
    """A conversation, a better and a worse answer to it, and what is wrong with the worse, where known."""

    messages: tuple[Message, ...]
    better: str
    worse: str
    critique: str = ""


def label_shots(
    row_id: str, messages: Sequence[Message], principle: Principle, cfg: LabelConfig
) -> list[Shot]:
    """The pairs to show before a pair's question."""
    return _drawn(row_id, messages, _known("label", principle, cfg), cfg.few_shot)


def revise_shots(
    row_id: str, messages: Sequence[Message], principle: Principle, cfg: ReviseConfig
) -> list[Shot]:
    """The revisions to show before a row's; where critiques are asked for, those that have one."""
    known = _known("revise", principle, cfg)
    return _drawn(row_id, messages, [shot for shot in known if usable(shot, cfg)], cfg.few_shot)


def usable(shot: Shot, cfg: LabelConfig | ReviseConfig) -> bool:
    """Whether a shot has what is shown of it."""
    return bool(shot.critique) or not (isinstance(cfg, ReviseConfig) and cfg.critique)


def better_first(row_id: str, n: int) -> list[bool]:
    """Of each of `n` pairs, whether the better answer is A: every second one, which of them first by row.

    It does not depend on the order in which the row's own pair is shown: a taste for the letter that was
    right last then favours each answer once, and the mean over both orders is free of it.
    """
    first = _digest(row_id)[0] & 1
    return [(at + first) % 2 == 0 for at in range(n)]


def after_system(messages: Sequence[Message], turns: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation with `turns` before its first turn that is not the system's."""
    at = next((at for at, message in enumerate(messages) if message.role != "system"), len(messages))
    return (*messages[:at], *turns, *messages[at:])


def shows_own(cfg: LabelConfig | ReviseConfig) -> bool:
    """Whether the principles' own examples are shown."""
    return cfg.few_shot > 0 and cfg.few_shot_file is None


def examples_hash(principle: Principle) -> str:
    """SHA-256 (hex) of a principle's examples, drafts left out."""
    shown = [example for example in principle.examples if not example.draft]
    return _digest(*(example.model_dump(mode="json", exclude={"draft"}) for example in shown)).hex()


def digests(kind: Kind, cfg: LabelConfig | ReviseConfig, constitution: Constitution | None) -> dict[str, str]:
    """What identifies the examples that are shown; nothing where none are.

    Raises `UsageError` where there are none to show, and `DataError` for a file that holds no such.
    """
    if not cfg.few_shot:
        return {}
    if cfg.few_shot_file is not None:
        shots = file_shots(kind, cfg.few_shot_file)
        if not any(usable(shot, cfg) for shot in shots):
            raise UsageError(
                f"{cfg.few_shot_file}: no example has a critique; write one, or set revise.critique=false"
            )
        return {"file": _digest(*(shot.model_dump(mode="json") for shot in shots)).hex()}
    if constitution is None:
        return {}
    voting = sorted((p for p in constitution.principles if p.weight > 0), key=lambda p: p.id)
    if not any(usable(shot, cfg) for principle in voting for shot in _own(principle)):
        what = (
            "examples with a critique" if kind == "revise" and any(p.examples for p in voting) else "examples"
        )
        raise UsageError(
            f"{kind}.few_shot is {cfg.few_shot}, but no principle of {constitution.name!r} has {what}; write "
            f"them into it, or give {kind}.few_shot_file"
        )
    return {"examples": _digest(*([p.id, examples_hash(p)] for p in voting)).hex()}


def check(kind: Kind, cfg: LabelConfig | ReviseConfig) -> None:
    """Raise `UsageError` for a file of examples none of which is shown."""
    if cfg.few_shot_file is not None and not cfg.few_shot:
        raise UsageError(f"{kind}.few_shot_file is given and {kind}.few_shot is 0; set how many to show")


@cache
def file_shots(kind: Kind, path: str) -> tuple[Shot, ...]:
    """The examples of a file. Raises `UsageError` where there is no file, `DataError` for a bad row."""
    shots: list[Shot] = []
    for where, value in _rows(Path(path)):
        try:
            shots += _shots(kind, value)
        except ValidationError as problem:
            error = problem.errors()[0]
            name = ".".join(str(part) for part in error["loc"]) or "the row"
            raise _bad(where, f"{name}: {error['msg'][0].lower()}{error['msg'][1:]}", kind) from None
        except ValueError as problem:
            raise _bad(where, str(problem), kind) from None
    if not shots:
        raise _bad(path, "no example was found", kind)
    return tuple(shots)


def _bad(where: str, what: str, kind: Kind) -> DataError:
    return DataError(f"{where}: {what}; a row of a {kind}.few_shot_file has {FORMS[kind]}")


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    if path.suffix == ".json":
        try:
            value = json.loads(read_text(path))
        except ValueError as problem:
            raise DataError(f"{path}: not JSON ({problem}); write the file anew") from None
        if not isinstance(value, list):
            raise DataError(
                f"{path}: a JSON {type(value).__name__} where a list of examples is needed; mend it"
            )
        yield from ((f"{path}: [{at}]", each) for at, each in enumerate(value))
        return
    for row in json_lines(path):
        if isinstance(row, BadLine):
            raise DataError(f"{row.where}: {row.reason}; mend the line")
        yield row.where, row.value


class _Pair(Record):
    prompt: str | tuple[Message, ...]
    a: str
    b: str
    better: Literal["a", "b"]


class _Revision(Record):
    prompt: str | tuple[Message, ...]
    response: str
    critique: str = ""
    revision: str


def _shots(kind: Kind, value: Any) -> list[Shot]:
    """The examples of a row: of one of our forms, or of the paper's. Raises `ValueError`."""
    if kind == "revise":
        if isinstance(value, str):
            return [_of_paper(value)]
        given = _Revision.model_validate(value)
        return [_shot(given.prompt, given.revision, given.response, given.critique)]
    if isinstance(value, dict) and "corrects" in value:
        pairs = zip(value["corrects"], value.get("incorrects", ()), strict=True)
        return [_differing(_shot(value.get("prompt", ""), better, worse)) for better, worse in pairs]
    pair = _Pair.model_validate(value)
    better, worse = (pair.a, pair.b) if pair.better == "a" else (pair.b, pair.a)
    return [_differing(_shot(pair.prompt, better, worse))]


def _of_paper(text: str) -> Shot:
    """A transcript with one critique and one revision after it, as the paper's file writes them."""
    parts = _CAI.split(text)
    if parts[1::2] != _CAI_PARTS:
        raise ValueError(f"it must hold {', '.join(_CAI_PARTS)} once each, in this order")
    before, worse = split_answer(parse_hh(parts[0]))
    revision = parts[8].strip().removesuffix("Human:").strip()
    return _shot(before, revision, worse, parts[4])


def _shot(prompt: str | Sequence[Message], better: str, worse: str, critique: str = "") -> Shot:
    messages = tuple(prompt) if not isinstance(prompt, str) else _conversation(prompt)
    shot = Shot(messages=messages, better=better.strip(), worse=worse.strip(), critique=critique.strip())
    if not shot.messages or shot.messages[-1].role != "user" or not shot.messages[-1].content.strip():
        raise ValueError("the prompt must end with what the user says")
    if any(message.role == "system" for message in shot.messages):
        raise ValueError("the prompt has a system turn, which has no place within a conversation")
    if not shot.better or not shot.worse:
        raise ValueError("an answer is empty")
    return shot


def _differing(shot: Shot) -> Shot:
    if shot.better == shot.worse:
        raise ValueError("the two answers are the same")
    return shot


def _conversation(text: str) -> tuple[Message, ...]:
    if not is_hh(text):
        return (Message(role="user", content=text.strip()),)
    messages = parse_hh(text)
    # A prompt of this form ends with the cue of the turn to be written.
    return messages[:-1] if messages[-1].role == "assistant" and not messages[-1].content else messages


def _own(principle: Principle) -> list[Shot]:
    return [
        Shot(
            messages=(Message(role="user", content=each.prompt),),
            better=each.better,
            worse=each.worse,
            critique=each.critique,
        )
        for each in principle.examples
        if not each.draft
    ]


def _known(kind: Kind, principle: Principle, cfg: LabelConfig | ReviseConfig) -> Sequence[Shot]:
    if not cfg.few_shot:
        return ()
    return _own(principle) if cfg.few_shot_file is None else file_shots(kind, cfg.few_shot_file)


def _drawn(row_id: str, messages: Sequence[Message], known: Sequence[Shot], n: int) -> list[Shot]:
    """At most `n` of the shots, drawn by rendezvous hashing of row id and shot, in the order of their list.

    One that has the row's own prompt would tell the answer, and is never drawn.
    """
    own = _said(messages)
    others = [shot for shot in known if _said(shot.messages) != own]
    score: Callable[[Shot], bytes] = partial(_score, row_id)
    drawn = sorted(others, key=score)[:n]
    return [shot for shot in others if shot in drawn]


def _score(row_id: str, shot: Shot) -> bytes:
    return _digest(row_id, shot.model_dump(mode="json"))


def _said(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """A conversation without its system turns and outer blanks."""
    return [(m.role, " ".join(m.content.split())) for m in messages if m.role != "system"]


def _digest(*parts: Any) -> bytes:
    text = json.dumps(parts, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()
