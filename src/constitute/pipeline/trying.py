"""Try the filters on a run's rows without writing anything: what each of them would remove by itself."""

from __future__ import annotations

from constitute.config import RunConfig
from constitute.constitution.read import load_constitution
from constitute.pipeline.plan import plan_chain
from constitute.stages.filters.stage import STAGE, chosen, removed, shown_of
from constitute.store import Store
from constitute.types import Record, Response


class Tried(Record):
    """Of `rows` rows, the ids that each filter would remove, and how many all of them together."""

    rows: int
    found: dict[str, tuple[str, ...]]
    together: int


def try_filters(config: RunConfig) -> Tried:
    """Every filter of `filter.use` on the rows that the stage would read, however it may have ended before.

    Raises `UsageError` where there are none, or for settings that cannot be met.
    """
    constitution = load_constitution(config.constitution, config.tags) if config.constitution else None
    STAGE.check(config.filter)
    shown = shown_of(config.filter, constitution)
    found: dict[str, list[str]] = {name: [] for name in chosen(config.filter.use)}
    with Store.open(config.run, create=False, readonly=True) as store:
        plan = plan_chain(config.with_stage("filter"), constitution, ["filter"], store)
        rows = 0
        for outcome in store.outcomes(str(plan.before), "ok"):
            rows += 1
            row = Response.model_validate(outcome.data)
            for name, ids in found.items():
                alone = config.filter.model_copy(update={"use": (name,)})
                if removed(row, alone, shown):
                    ids.append(row.id)
    ids_by_name = {name: tuple(ids) for name, ids in found.items()}
    return Tried(rows=rows, found=ids_by_name, together=len(set().union(*ids_by_name.values())))
