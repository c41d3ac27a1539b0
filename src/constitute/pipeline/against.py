"""The run that `label.against` names: its answers to the prompts of this one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from constitute.errors import DataError, UsageError
from constitute.pipeline.plan import Plan
from constitute.progress import Progress
from constitute.stages import stage_spec
from constitute.stages.labels.pairs import Lookup, Other
from constitute.store import FILE_NAME, Store
from constitute.store.manifest import settings_noted
from constitute.store.unfinished import warn_unfinished
from constitute.types import Response


@contextmanager
def other_run(plan: Plan, store: Store, own: str, progress: Progress) -> Iterator[Lookup]:
    """Open the run that `label.against` names and find its answers, to be compared with those of `own`.

    `progress` is told how many answers have none beside them. Raises `UsageError` where there is no such run,
    and `DataError`, when it is looked up, for a prompt that is another conversation there.
    """
    folder = plan.config.label.against
    if folder is None or not any(source.against for source in plan.sources):
        yield lambda row: None
        return
    if folder.resolve() == store.folder.resolve():
        raise UsageError(f"label.against: {folder} is this run itself; name another run")
    if not (folder / FILE_NAME).is_file():
        raise UsageError(f"label.against: no run in {folder} (no {FILE_NAME}); name the folder of a run")
    with Store.open(folder, readonly=True) as other:
        stage, model = prompt_stage(other), model_noted(other)
        warn_unfinished(other, stage, progress)
        missing = 0

        def find(row: Response) -> Other | None:
            nonlocal missing
            outcome = other.outcome(stage, row.id)
            if outcome is None or outcome.data is None:
                missing += 1
                return None
            found = Response.model_validate(outcome.data)
            if found.prompt.messages != row.prompt.messages:
                raise DataError(
                    f"{folder}: the prompt {row.prompt.id!r} is another conversation there; compare runs of "
                    "the same prompts and the same generate.system"
                )
            return found, own, model or "another model"

        yield find
    if missing:
        progress.note(f"{missing} responses have none beside them in {folder}, and make no pair")


def prompt_stage(store: Store) -> str:
    """The stage of a run that answers prompts."""
    return next((name for name in store.stages() if _answers(name)), "generate")


def _answers(name: str) -> bool:
    try:
        return stage_spec(name).reads == "prompt"
    except UsageError:
        return False


def model_noted(store: Store) -> str:
    """The name of the model that answered a run's prompts; empty where nothing is noted."""
    noted = settings_noted(store, prompt_stage(store))
    model = noted.get("model") if isinstance(noted, Mapping) else None
    return str(model.get("name", "")) if isinstance(model, Mapping) else ""
