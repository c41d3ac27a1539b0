"""Filter rows between two stages of a chain: a row that a filter removes abstains with its reason.

The text that was removed stays in the stage before. No model is asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache

from constitute.config import FilterConfig
from constitute.config.data import FILTER_PRESETS
from constitute.errors import Abstain, UsageError
from constitute.stages.base import Sample, StageSpec
from constitute.stages.few_shot import file_shots
from constitute.stages.filters import FILTERS, filter_named
from constitute.stages.filters.base import Candidate, Shown
from constitute.stages.filters.refusal import phrases
from constitute.types import Constitution, Response


def chosen(use: tuple[str, ...]) -> list[str]:
    """The filters that `filter.use` names, presets spelled out, each once.

    Raises `UsageError` for a name that is neither.
    """
    names: list[str] = []
    for name in use:
        if name not in FILTER_PRESETS and name not in FILTERS:
            known = ", ".join([*FILTERS, *FILTER_PRESETS])
            raise UsageError(f"filter.use: no such filter or preset: {name!r}; known: {known}")
        names += FILTER_PRESETS.get(name, (name,))
    return list(dict.fromkeys(names))


def candidates(row: Response, every_round: bool) -> Iterator[Candidate]:
    """What of a row is to be trained on: its last text, or every revision."""
    answers = [row.response, *(step.revision for step in row.steps)]
    turns, first = row.prompt.messages, row.response
    if not row.steps:
        yield Candidate(first, turns, first)
    elif every_round:
        for before, step in zip(answers, row.steps, strict=False):
            yield Candidate(step.revision, turns, first, before, step.critique, step.skipped)
    else:
        clean = all(step.skipped for step in row.steps)
        yield Candidate(row.final, turns, first, first, row.steps[-1].critique, clean)


def removed(row: Response, cfg: FilterConfig, shown: Shown) -> str:
    """By which filter and why a row is removed, the first that finds something; empty where it stays."""
    for found in candidates(row, cfg.every_round):
        for name in chosen(cfg.use):
            if why := filter_named(name).why(found, cfg, shown):
                return f"removed by {name}: {why}"
    return ""


def shown_of(cfg: FilterConfig, constitution: Constitution | None) -> Shown:
    """What models were shown besides the rows: the constitution, its examples, and those of a file."""
    principles = () if constitution is None else constitution.principles
    texts = [
        text
        for principle in principles
        for example in principle.examples
        if not example.draft
        for text in (example.prompt, example.better, example.worse, example.critique)
    ]
    for shot in () if cfg.few_shot_file is None else file_shots("revise", cfg.few_shot_file):
        texts += [*(turn.content for turn in shot.messages), shot.better, shot.worse, shot.critique]
    return Shown(tuple(principles), tuple(dict.fromkeys(filter(None, texts))))


_shown = cache(shown_of)


async def work(
    row: Response, sample: Sample, cfg: FilterConfig, constitution: Constitution | None
) -> Response:
    """The row as it is. Raises `Abstain` for one that a filter removes."""
    if why := removed(row, cfg, _shown(cfg, constitution)):
        raise Abstain(why)
    return row


def _check(cfg: FilterConfig) -> None:
    for name in chosen(cfg.use):
        filter_named(name).check(cfg)


def _shows(cfg: FilterConfig, constitution: Constitution | None) -> dict[str, str]:
    """Digests of what the filters compare with: phrases, principles and examples."""
    used, found = chosen(cfg.use), {}
    if "refusal" in used:
        found["refusals"] = _digest(*phrases(cfg.refusals))
    if "leak" in used:
        shown = _shown(cfg, constitution)
        forms = [text for p in shown.principles for text in (p.text, p.critique, p.revise)]
        found["leak"] = _digest(*forms, *shown.examples)
    return found


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


STAGE = StageSpec(
    reads="response",
    work=work,
    settings=FilterConfig,
    needs_constitution=False,
    asks=False,
    check=_check,
    files=frozenset({"refusals", "few_shot_file"}),
    shows=_shows,
)
