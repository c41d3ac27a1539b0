"""Conversations as token ids: the one renderer of engines and trainers, and what it found out of a template."""

from constitute.engines.render.reasoning import Markers
from constitute.engines.render.renderer import Loss, Renderer, TokenRow, Turn
from constitute.engines.render.settings import RenderSettings
from constitute.engines.render.traits import Traits

__all__ = ["Loss", "Markers", "RenderSettings", "Renderer", "TokenRow", "Traits", "Turn"]
