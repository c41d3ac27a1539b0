"""The numbers of a run that change as it goes, beside its weights: what a checkpoint must hold to go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from constitute.train.rewards.scores import Moments


@dataclass(frozen=True)
class RunState:
    """The KL coefficient, the moments of all rewards, and the iteration whose policy is the reference."""

    kl_coef: float
    moments: Moments = field(default_factory=Moments)
    reference_from: int = 0

    def as_json(self) -> dict[str, Any]:
        """As a checkpoint's state.json holds it."""
        return asdict(self)

    def stored(self, found: Mapping[str, Any]) -> RunState:
        """This state with what a checkpoint says."""
        return replace(
            self,
            kl_coef=float(found["kl_coef"]),
            moments=Moments(**found.get("moments", {})),
            reference_from=int(found.get("reference_from", 0)),
        )
