"""Conversations as token ids: the one renderer of engines and trainers, and the traits of a template."""

from constitute.engines.render.completion import apart_in_text, both_budgets
from constitute.engines.render.reasoning import Markers
from constitute.engines.render.renderer import Renderer
from constitute.engines.render.settings import RenderSettings
from constitute.engines.render.training import TokenRow
from constitute.engines.render.traits import Traits
from constitute.engines.render.turns import Loss, Trained, Turn

__all__ = [
    "Loss",
    "Markers",
    "RenderSettings",
    "Renderer",
    "TokenRow",
    "Trained",
    "Traits",
    "Turn",
    "apart_in_text",
    "both_budgets",
]
