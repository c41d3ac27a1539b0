"""Find out what a chat template does with thinking, system turns, order of turns, dates and earlier turns.

Each is found by rendering short conversations, never by the model's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from constitute.engines.render.reasoning import KNOWN, Markers, opened_by
from constitute.engines.render.template import ChatTemplate

_USER, _SYSTEM, _ANSWER, _THOUGHT, _AGAIN = "quser", "qsystem", "qanswer", "qthought", "qagain"
# Variables that templates read to switch thinking: name, value for off, value for on.
_SWITCHES: tuple[tuple[str, Any, Any], ...] = (
    ("enable_thinking", False, True),
    ("thinking", False, True),
    ("enable_reasoning", False, True),
    ("reasoning", False, True),
    ("think", False, True),
    ("reasoning_effort", "none", "high"),
    ("thinking_budget", 0, 4096),
)
# Keys of a message under which templates look for its reasoning.
_REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
_DAYS = (date(2001, 2, 3), date(2012, 12, 14))
_SENTENCE = re.compile(r"[A-Za-z]+[ ,]+[a-z]+ [a-z]+")


@dataclass(frozen=True)
class Switch:
    """The template's variable that turns thinking off and on."""

    name: str
    off: Any
    on: Any


@dataclass(frozen=True)
class Bridge:
    """What leads from the generation prompt's end to an answer: `cut` is taken away and `add` put there."""

    cut: str = ""
    add: str = ""

    def over(self, prompt: str) -> str:
        """The prompt up to where the answer begins."""
        if self.cut and not prompt.endswith(self.cut):
            return prompt
        return prompt[: len(prompt) - len(self.cut)] + self.add


@dataclass(frozen=True)
class Traits:
    """What was found out of a chat template.

    `thinking`: the template knows none; a variable switches it; the prompt closes it (`bridge`); or it is
    always the model's choice. `system`: turns of their own, folded into the first user turn by us, or of
    their own with a text of the template's where there is none. `alternates`: neighbouring turns of one
    role are refused. `user_first`: a conversation that begins with the assistant's turn is refused.
    `rewrites`: earlier turns look otherwise once later ones follow. `ends`: the tokens that end a turn.
    `prefill`: what the template writes between the prompt and a begun answer.
    """

    thinking: Literal["none", "switched", "closed by us", "always"]
    switch: Switch | None
    bridge: Bridge
    markers: tuple[Markers, ...]
    system: Literal["own role", "folded", "own default text"]
    alternates: bool
    user_first: bool
    dated: bool
    rewrites: bool
    ends: tuple[str, ...] = ()
    prefill: str = ""

    def lines(self) -> tuple[str, str]:
        """The traits in two lines of plain words."""
        names = {
            "none": "knows no thinking",
            "switched": f"thinking is switched by {self.switch.name}" if self.switch else "",
            "closed by us": "thinking is off because the prompt goes on to the answer",
            "always": "thinking cannot be switched off: the model thinks where it likes, kept apart",
        }
        system = {
            "own role": "system turns are its own role",
            "folded": "system text goes into the first user turn",
            "own default text": "it writes a system text of its own where none is given",
        }
        more = [
            "turns must alternate" if self.alternates else "turns may follow each other freely",
            "it writes the date" if self.dated else "no date",
            "it rewrites earlier turns" if self.rewrites else "earlier turns stay as they are",
            f"a turn ends with {' or '.join(self.ends) or 'nothing'}",
        ]
        return f"{names[self.thinking]}; {system[self.system]}", "; ".join(more)


def traits_of(template: ChatTemplate, ends: Sequence[str]) -> Traits:
    """Render short conversations and tell from them what the template does."""
    switch = _switch(template)
    off = {} if switch is None else {switch.name: switch.off}
    prompt = template.attempt(_turns(), generation=True, **off)
    answered = template.attempt(_turns(answer=True), generation=False, **off)
    written = _written(template, off)
    markers = _markers(template, written)
    bridge = _bridge(prompt or "", answered, markers, written, switch is not None)
    opened = bridge.over(prompt or "")
    return Traits(
        thinking=_thinking(switch, bridge, markers, written, prompt or ""),
        switch=switch,
        bridge=bridge,
        markers=markers,
        system=_system(template, off),
        alternates=template.attempt([*_turns(), *_turns()], generation=True, **off) is None,
        user_first=template.attempt([_turn("assistant", _ANSWER), *_turns()], generation=True, **off) is None,
        dated=_dated(template),
        rewrites=_rewrites(template, off, opened, answered),
        ends=tuple(ends),
        prefill=_between(opened, answered),
    )


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _turns(*, answer: bool = False) -> list[dict[str, str]]:
    asked = [_turn("user", _USER)]
    return [*asked, _turn("assistant", _ANSWER)] if answer else asked


def _switch(template: ChatTemplate) -> Switch | None:
    """The first variable whose two values change the prompt; a value that changes nothing is no switch."""
    plain = template.attempt(_turns(), generation=True)
    for name, off, on in _SWITCHES:
        if not re.search(rf"\b{name}\b", template.text):
            continue
        without = template.attempt(_turns(), generation=True, **{name: off})
        with_ = template.attempt(_turns(), generation=True, **{name: on})
        if without is None or with_ is None or without == with_:
            continue
        # An effort of "none" that is written out like any other word switches nothing.
        if isinstance(off, str) and off in without and off not in (plain or ""):
            continue
        return Switch(name, off, on)
    return None


def _written(template: ChatTemplate, off: Mapping[str, Any]) -> Markers | None:
    """What the template writes around the reasoning of an answer; None where it writes none."""
    for key in _REASONING_KEYS:
        if key not in template.text:
            continue
        turns = [*_turns(), {**_turn("assistant", _ANSWER), key: _THOUGHT}]
        text = template.attempt(turns, generation=False, **off)
        bare = template.attempt(_turns(), generation=True) or ""
        if text is None or _THOUGHT not in text or _ANSWER not in text.rpartition(_THOUGHT)[2]:
            continue
        before, _, after = text.rpartition(_THOUGHT)
        common = _common(before, bare)
        start = before[len(common) :] or before[-24:]
        return Markers(start, after.partition(_ANSWER)[0])
    return None


def _markers(template: ChatTemplate, written: Markers | None) -> tuple[Markers, ...]:
    """The marks this template names, those of its own first; every known one may open an answer."""
    named = [marks for marks in KNOWN if marks.open in template.text or marks.close in template.text]
    others = [marks for marks in KNOWN if marks not in named]
    if written is None or any(marks.close in written.close for marks in KNOWN):
        return (*named, *others)
    own = Markers(written.open.strip(), written.close.strip())
    return (own, *named, *others) if own.open and own.close else (*named, *others)


def _bridge(
    prompt: str, answered: str | None, markers: Sequence[Markers], written: Markers | None, switched: bool
) -> Bridge:
    """How to get from the generation prompt to the answer's own first token."""
    head = prompt if answered is None or _ANSWER not in answered else answered.rpartition(_ANSWER)[0]
    common = _common(prompt, head)
    cut, add = prompt[len(common) :], head[len(common) :]
    open_ = opened_by(prompt, markers)
    if open_ is not None and open_.close not in add:
        # The template never shows an empty reasoning in an answer: close it as models of the kind do.
        return Bridge(add=_closing(open_, written, prompt))
    if open_ is not None or (not cut and add.strip()):
        return Bridge(cut, add)
    closed = any(prompt.rstrip().endswith(marks.close) for marks in markers)
    if cut and closed and add.strip() and not any(marks.close in add for marks in markers):
        # The prompt closes a reasoning; the answer's own header is still to come.
        return Bridge(add=add)
    return Bridge(add=add) if not cut and (switched or closed) else Bridge()


def _closing(marks: Markers, written: Markers | None, prompt: str) -> str:
    """The text that closes an empty reasoning which `prompt` opened."""
    if written is not None and marks.close in written.close:
        return written.close.lstrip("\n") if prompt.endswith("\n\n") else written.close
    line = "\n" if prompt.endswith("\n") else ""
    return f"{line}{marks.close}{line * 2}"


def _thinking(
    switch: Switch | None,
    bridge: Bridge,
    markers: Sequence[Markers],
    written: Markers | None,
    prompt: str,
) -> Literal["none", "switched", "closed by us", "always"]:
    if switch is not None:
        return "switched"
    if any(marks.close in bridge.add for marks in markers) or (bridge.add.strip() and written is not None):
        return "closed by us"
    # Some templates ask for a reasoning in a system text of their own.
    asked = any(marks.open in prompt and marks.close in prompt for marks in KNOWN)
    return "none" if written is None and not asked else "always"


def _system(
    template: ChatTemplate, off: Mapping[str, Any]
) -> Literal["own role", "folded", "own default text"]:
    text = template.attempt([_turn("system", _SYSTEM), *_turns()], generation=True, **off)
    if text is None or _SYSTEM not in text:
        return "folded"
    alone = template.attempt(_turns(), generation=True, **off) or ""
    return "own default text" if _SENTENCE.search(alone.partition(_USER)[0]) else "own role"


def _dated(template: ChatTemplate) -> bool:
    said = [template.attempt(_turns(), generation=True, strftime_now=day.strftime) for day in _DAYS]
    return said[0] != said[1]


def _rewrites(template: ChatTemplate, off: Mapping[str, Any], opened: str, answered: str | None) -> bool:
    longer = template.attempt([*_turns(answer=True), _turn("user", _AGAIN)], generation=True, **off)
    if longer is None or answered is None:
        return False
    begun = answered.rpartition(_ANSWER)[0] if answered.startswith(opened) else opened
    return not longer.startswith(begun + _ANSWER + answered.rpartition(_ANSWER)[2].rstrip())


def _between(opened: str, answered: str | None) -> str:
    if answered is None or not answered.startswith(opened):
        return ""
    return answered[len(opened) :].rpartition(_ANSWER)[0]


def _common(one: str, other: str) -> str:
    """The longest common beginning."""
    length = next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
    return one[:length]
