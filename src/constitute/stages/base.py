"""What a stage is, and what it is given to ask a model with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from constitute.config import RunConfig
from constitute.constitution.identity import constitution_hash
from constitute.errors import UsageError
from constitute.stages import stage_spec
from constitute.templates import template_hash
from constitute.types import Ability, Choice, Completion, Constitution, Principle, Record, Request, Score


class Sample(Protocol):
    """Ask the model; every answer is on disk before it is returned.

    The same question (same prompt, settings, index, principle, order) is asked once in a run's life.
    Raises `RowError` for a row that cannot be answered and `EngineError` when the model is gone.
    """

    async def generate(
        self, request: Request, *, step: str, index: int = 0, principle: Principle | None = None
    ) -> Completion:
        """One completion. `step` names what is asked (it seeds the sampling), `index` the repeat."""
        ...

    async def choose(
        self,
        request: Request,
        labels: Sequence[str],
        *,
        step: str,
        principle: Principle | None = None,
        spelled: bool = False,
    ) -> Choice:
        """Log-probabilities of exactly these labels as the assistant's next text.

        `spelled` counts a label however it is spelled: for options that the question offers.
        """
        ...

    async def score(
        self, request: Request, text: str, *, step: str, principle: Principle | None = None
    ) -> Score:
        """Log-probabilities of `text` as the assistant's answer, token by token."""
        ...


# (row, sample, the stage's settings, the constitution) -> the row that the stage makes of it. A stage that
# needs no constitution may be given None. Raises `RowError` for a row that fails and `Abstain` for one that
# the stage declines.
Work = Callable[[Any, Sample, Any, Any], Awaitable[Record]]


def _no_templates(settings: Any) -> tuple[str, ...]:
    return ()


def _no_digests(settings: Any, constitution: Constitution | None) -> dict[str, str]:
    return {}


def _no_check(settings: Any) -> None:
    return None


def _no_needs(settings: Any) -> tuple[Ability, ...]:
    return ()


@dataclass(frozen=True)
class StageSpec:
    """A stage of the chain.

    `reads` says where it stands: `prompt` (a prompt's n samples begin with it), `response` (a `Response` in,
    a `Response` out, in the order of `chain`), or `pair` (a `Comparison` in; the last stage of a chain).
    `settings` is the class of its section in run.yaml. `templates` names the prompt templates its questions
    are made of. `needs` names what the model must be able to do; one that cannot is refused before the run.
    Settings in `may_grow` add rows and change none; settings in `files` name files, whose content `shows`
    identifies, with all else that is shown besides templates and principles. Raise `version` when the same
    request would be put together in another way: it is part of every cache key.
    """

    reads: Literal["prompt", "response", "pair"]
    work: Work
    settings: type[Record]
    needs_constitution: bool = True
    # The rows it makes hold revisions: pairs of samples are taken from the rows before it.
    revises: bool = False
    # One that asks no model runs without loading one, and begins again where its settings differ.
    asks: bool = True
    templates: Callable[[Any], tuple[str, ...]] = _no_templates
    check: Callable[[Any], None] = _no_check
    needs: Callable[[Any], tuple[Ability, ...]] = _no_needs
    may_grow: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    shows: Callable[[Any, Constitution | None], dict[str, str]] = _no_digests
    version: int = 1


def settings_of(config: RunConfig, name: str, spec: StageSpec) -> Any:
    """The stage's section of the configuration: its own key, else its entry under `stages`.

    Raises `UsageError` for a setting that the stage does not have or cannot take.
    """
    if name in type(config).model_fields:
        return getattr(config, name)
    try:
        return spec.settings.model_validate(config.stages.get(name, {}))
    except ValueError as problem:
        said = str(problem).split("\n")
        raise UsageError(
            f"stages.{name}: {' '.join(part.strip() for part in said[1:3])}; known settings: "
            f"{', '.join(spec.settings.model_fields) or 'none'}"
        ) from None


def stage_settings(
    name: str, config: RunConfig, constitution: Constitution | None, identity: Record | None
) -> dict[str, Any]:
    """Everything that decides a stage's rows, apart from its input, as JSON-ready values.

    `identity` is the engine's `ModelIdentity`; None leaves the model out.
    """
    spec = stage_spec(name)
    section = settings_of(config, name, spec)
    settings = {
        "seed": config.seed,
        name: section.model_dump(mode="json", exclude=spec.may_grow | spec.files),
        "prompts": {template: template_hash(template) for template in spec.templates(section)},
    }
    if shown := spec.shows(section, constitution):
        settings["shown"] = shown
    if identity is not None:
        settings["model"] = identity.model_dump(mode="json")
    if constitution is not None and spec.needs_constitution:
        settings["constitution"] = constitution_hash(constitution)
    return settings
