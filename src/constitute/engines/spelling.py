"""Options of a question read over all their spellings: what to score after what, and what it adds up to.

A judge that is asked for A or B may write `A`, ` A`, `(A`, ` (A` or `**A`. An option's probability is that
of an answer which begins with one of its spellings. An answer that begins with several of those listed, as
`10` begins with `1` too, belongs to the longest, so that no answer counts twice.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence

from constitute.engines.base import Ids, branches
from constitute.errors import RowError

# What an answer may put before an option.
OPENINGS = ("", " ", "(", " (", "**")
# An opening that holds less than this share of what the options may have is not read further. All that is
# left unread can so move an option's share by no more than this for each opening, and mostly by far less,
# as what follows an opening splits about as the rest does. Where options may have less than `LEAST_MASS` in
# all, the share is of that: such a model answers something else, which is no reason to ask it more.
LEAST_SHARE = 0.01
LEAST_MASS = 0.1

# {tokens before: next tokens} -> log P (nats) of each of those next tokens.
Scores = Callable[[Mapping[Ids, tuple[int, ...]]], Awaitable[Mapping[Ids, Mapping[int, float]]]]


def spellings(option: str) -> tuple[str, ...]:
    """The ways to begin an answer with `option`, the plain one first.

    Words count in lower case too. Single letters do not: `a` is an article that begins many a sentence.
    """
    option = option.strip()
    cases = dict.fromkeys((option, option.lower()) if len(option) > 1 else (option,))
    return tuple(opening + case for case in cases for opening in OPENINGS)


def sequences(options: Sequence[str], ids_of: Callable[[str], Ids]) -> list[tuple[Ids, ...]]:
    """The distinct token ids of each option's spellings, the plain one's first.

    `ids_of` gives the ids of a text that begins an answer. A spelling without ids of its own there is left
    out: the plain one too, after a begun answer that it would run into. Raises `RowError` where no spelling
    has any, or two options have the same.
    """
    found: list[tuple[Ids, ...]] = []
    owner: dict[Ids, str] = {}
    for option in options:
        own: dict[Ids, None] = {}
        refused: list[RowError] = []
        for text in spellings(option):
            try:
                own[ids_of(text)] = None
            except RowError as problem:
                refused.append(problem)
        if not own:
            raise refused[0]
        for ids in own:
            if owner.setdefault(ids, option) != option:
                raise RowError(
                    f"the model's tokenizer cannot tell the options {owner[ids]!r} and {option!r} apart; "
                    "take a model whose vocabulary has both"
                )
        found.append(tuple(own))
    return found


def shared(options: Sequence[Sequence[Ids]]) -> Ids:
    """What every spelling of every option begins with, such as an empty block of thinking."""
    every = [ids for option in options for ids in option]
    first, last = min(every), max(every)
    most = min(map(len, every)) - 1
    return first[: next((at for at in range(most) if first[at] != last[at]), most)]


async def read_options(
    options: Sequence[Sequence[Ids]], scores: Scores, least: float = LEAST_SHARE
) -> tuple[float, ...]:
    """log P (nats) of each option, given the token ids of its spellings, the plain one's first.

    All first tokens are one question. What follows one of them is another, where an option could not be
    read without it or it holds at least the share `least` of what the options may have; 0 leaves out nothing.
    """
    owner = {ids: place for place, option in enumerate(options) for ids in option}
    wanted = branches(list(owner))
    known: dict[Ids, float] = {(): 0.0}
    asked: set[Ids] = set()
    next_ones: list[Ids] = [()]
    while next_ones:
        for prefix, found in (await scores({prefix: wanted[prefix] for prefix in next_ones})).items():
            known.update({(*prefix, token): known[prefix] + value for token, value in found.items()})
        asked.update(next_ones)
        waiting = [prefix for prefix in wanted if prefix in known and prefix not in asked]
        unread = [o for place, o in enumerate(options) if all(ids not in known for ids in o)]
        due = {option[0][:length] for option in unread for length in range(1, len(option[0]))}
        reach = math.fsum(math.exp(value) for ids, value in known.items() if ids in owner or ids in waiting)
        next_ones = [
            ids for ids in waiting if ids in due or math.exp(known[ids]) >= least * max(reach, LEAST_MASS)
        ]
    read = {ids: value for ids, value in known.items() if ids in owner}
    return tuple(log_sum([_without(ids, read) for ids in option if ids in read]) for option in options)


def log_sum(values: Sequence[float]) -> float:
    """log of the summed exponentials."""
    top = max(values)
    return top if top == -math.inf else top + math.log(math.fsum(math.exp(v - top) for v in values))


def _without(ids: Ids, read: Mapping[Ids, float]) -> float:
    """log P of answers that begin with `ids` and with no longer sequence of `read`."""
    longer = [other for other in read if len(other) > len(ids) and other[: len(ids)] == ids]
    nearest = [
        other
        for other in longer
        if not any(len(each) < len(other) and other[: len(each)] == each for each in longer)
    ]
    if not nearest or read[ids] == -math.inf:
        return read[ids]
    inside = math.fsum(math.exp(read[other] - read[ids]) for other in nearest)
    return read[ids] + math.log1p(-inside) if inside < 1.0 else -math.inf
