"""Options read from the likeliest tokens that a server lists at the beginning of an answer; pure functions.

A server that gets messages scores no given text. It lists the k likeliest tokens at each place of the answer
that it wrote. The first place is read, and where the answer begins with an opening such as `(` or `**`, the
place after it too, weighted by the opening's own probability; openings that the answer did not take are not
read, and lower the mass. An option counts over all its spellings, as in `engines.spelling`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from constitute.engines.openai.schema import Position
from constitute.engines.spelling import log_sum
from constitute.errors import RowError
from constitute.types import Choice

# What may stand before an option, and after one that the answer ends or goes on from.
_OPENING = " \t\n\r(*\"'`_“‘▁Ġ"
_CLOSING = " \t\n\r)*.:,;\"'`_”’"
# An option that is read keeps its value unless what a place may hide is more than this share of it.
_HIDDEN_SHARE = 0.01
# Probability that rounding alone may hide among the tokens that are not listed.
_ROUNDING = 1e-6


@dataclass
class _Found:
    """log P of what was read of an option, and upper bounds of what the read places do not list."""

    read: list[float] = field(default_factory=list)
    hidden: list[float] = field(default_factory=list)


def choice_of(positions: Sequence[Position], labels: Sequence[str]) -> Choice:
    """The labels' log-probabilities (nats) from the first tokens of an answer.

    A label that no read place lists counts with an upper bound and is named in `censored`: a token that is
    not listed is no likelier than the least of those listed, nor than all that they leave. None for every
    label where none of them is listed, and for a label of several words, which no list can hold.
    """
    bare = [label.strip(_OPENING + _CLOSING) for label in labels]
    options = tuple(option for option in bare if option and not any(map(str.isspace, option)))
    if len(set(options)) < len(options):
        raise RowError(f"the options {', '.join(map(repr, labels))} cannot be told apart")
    found = _read(positions, options)
    if not any(each.read for each in found.values()):
        return Choice(labels=tuple(labels), logprobs=(None,) * len(labels))
    values, censored = [], []
    for label, option in zip(labels, bare, strict=True):
        value, bounded = _value(found[option]) if option in found else (None, False)
        values.append(value)
        censored += [label] if bounded else []
    return Choice(labels=tuple(labels), logprobs=tuple(values), censored=tuple(censored))


def _read(positions: Sequence[Position], options: Sequence[str]) -> dict[str, _Found]:
    found = {option: _Found() for option in options}
    prefix, weight = "", 0.0
    for place, position in enumerate(positions):
        listed = {entry.token: entry.logprob for entry in position.top_logprobs or ()}
        listed.setdefault(position.token, position.logprob)
        taken = prefix + position.token
        goes_on = place + 1 < len(positions) and _goes_on(taken, options)
        whole = option_in(prefix, options)
        here: dict[str, list[float]] = {}
        for token, logprob in listed.items():
            option = option_in(prefix + token, options)
            if option is not None and option != whole and not (goes_on and token == position.token):
                here.setdefault(option, []).append(logprob)
        if whole is not None:
            # What goes on to a longer option, as 1 does to 10, is not the shorter one.
            longer = math.fsum(math.exp(value) for values in here.values() for value in values)
            found[whole].read.append(weight + math.log(max(1.0 - longer, _ROUNDING)))
        least = _bound(position)
        for option in options:
            if option in here:
                found[option].read += [weight + value for value in here[option]]
            elif option != whole and _begins(prefix, option) and not (goes_on and _spelt(taken, option)):
                found[option].hidden.append(weight + least)
        if not goes_on:
            break
        prefix, weight = taken, weight + position.logprob
    return found


def option_in(text: str, options: Sequence[str]) -> str | None:
    """The option that an answer which begins with `text` gives, closed or not; None for anything else."""
    bare = text.lstrip(_OPENING)
    for folded in (False, True):
        for option in sorted(options, key=len, reverse=True):
            # One letter counts in its own case alone: `a` is an article.
            fold = folded and len(option) > 1
            said, wanted = (bare.lower(), option.lower()) if fold else (bare, option)
            if said.startswith(wanted) and not said[len(wanted) :].strip(_CLOSING):
                return option
    return None


def _goes_on(text: str, options: Sequence[str]) -> bool:
    """Whether what follows `text` decides: it is an opening, or begins a longer option."""
    bare = text.lstrip(_OPENING)
    return not bare or any(len(option) > len(bare) and _begins(text, option) for option in options)


def _begins(text: str, option: str) -> bool:
    """Whether an answer that begins with `text` may still turn out to be `option`."""
    bare = text.lstrip(_OPENING)
    return option.startswith(bare) or (len(option) > 1 and option.lower().startswith(bare.lower()))


def _spelt(text: str, option: str) -> bool:
    """Whether `text` spells the option's first letters: the answer is read on, so it hides nothing here."""
    return bool(text.lstrip(_OPENING)) and _begins(text, option)


def _bound(position: Position) -> float:
    """log of the most that a token which is not listed at this place may have."""
    listed = [entry.logprob for entry in position.top_logprobs or ()]
    left = 1.0 - math.fsum(math.exp(value) for value in listed)
    return min([*listed, math.log(max(left, _ROUNDING))])


def _value(found: _Found) -> tuple[float | None, bool]:
    """(log P of the option, whether it is an upper bound); None where nothing bounds it."""
    if not found.read:
        return (min(log_sum(found.hidden), 0.0), True) if found.hidden else (None, False)
    read = log_sum(found.read)
    if found.hidden and log_sum(found.hidden) > read + math.log(_HIDDEN_SHARE):
        return min(log_sum([read, *found.hidden]), 0.0), True
    return min(read, 0.0), False
