"""What people's answers say of a set's labels and of its judges."""

from __future__ import annotations

from collections.abc import Sequence

from constitute.config import RunConfig
from constitute.evals.gating.figures import judge_figures, kappa_by, written_answer
from constitute.evals.gating.run import load_judgements
from constitute.evals.gating.sets import Ungated
from constitute.evals.items import items_hash
from constitute.evals.quality.base import parts_of
from constitute.evals.reviewing import people_answers
from constitute.stats import Estimate
from constitute.types import Record


class PeopleFigures(Record):
    """People's majority on a set against its written labels, and against each judge."""

    set: str
    reviewed: int
    written: Estimate
    judges: dict[str, Estimate]


def people_figures(config: RunConfig, sets: Sequence[Ungated]) -> list[PeopleFigures]:
    """What people's answers say of sets; kappa, with an interval by whole clusters."""
    cfg = config.evals
    found: list[PeopleFigures] = []
    for one in sets:
        people = people_answers(config.run, one.name, one.items)
        seen = [item for item in one.items if item.id in people]
        rated = [(parts_of(item).cluster, (written_answer(item), people[item.id])) for item in seen]
        judges = {
            said.judge.name: judge_figures(one.items, said, cfg, people).people
            for said in load_judgements(one.folder, one.name, items_hash(one.items))
        }
        found.append(
            PeopleFigures(
                set=one.name,
                reviewed=len(seen),
                written=kappa_by(rated, one.name, cfg.resamples),
                judges={name: value for name, value in judges.items() if value is not None},
            )
        )
    return found
