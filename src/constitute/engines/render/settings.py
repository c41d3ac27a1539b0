"""What a person sets of rendering: variables of the chat template, and the day it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from constitute import clock

if TYPE_CHECKING:
    from constitute.config import EngineConfig


@dataclass(frozen=True)
class RenderSettings:
    """`kwargs` are given to the chat template; `date` (YYYY-MM-DD) is its today, None the real one.

    `plain` takes a model without a chat template and asks it in plain text.
    """

    kwargs: Mapping[str, Any] = field(default_factory=dict)
    date: str | None = None
    plain: bool = False

    @classmethod
    def of(cls, config: EngineConfig) -> RenderSettings:
        """The settings of an engine: trainers take theirs from the same section."""
        return cls(kwargs=dict(config.chat_template_kwargs), date=config.date, plain=config.plain)

    def variables(self) -> dict[str, Any]:
        """Variables of the template; `strftime_now` takes the place of the one that reads the clock."""
        day = date.fromisoformat(self.date or clock.today())
        return {"strftime_now": day.strftime, **self.kwargs}
