"""Push the trained weights into the running engine, and check that both now say the same."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from constitute.engines.swap import rest
from constitute.errors import EngineError
from constitute.train.common import lora, sharding
from constitute.train.common.agreement import (
    NO_PUSH,
    WARNS,
    Gap,
    GapLimits,
    Push,
    beyond,
    change_of,
    limits_of,
    not_followed,
)
from constitute.train.common.models import Actor
from constitute.train.common.rollout import Rollouts
from constitute.train.common.team import Team
from constitute.train.ppo.probe import (
    PROBE_ROWS,
    Probe,
    Rollouter,
    Scores,
    coarse,
    dtype_of,
    follow_measure,
    measure,
    probe_rows,
    sampled_rows,
)
from constitute.types import SamplingParams

log = logging.getLogger(__name__)


@dataclass
class Sync:
    """Pushes the actor's weights into the engine and judges each push by a probe.

    Every process makes the same calls; the first alone has an engine. A replay takes no weights, and nothing
    is measured. `limit` is a mean gap in nats a token in the place of the engine's dtype's.
    """

    engine: Rollouter | None
    actor: Actor
    team: Team
    pad_id: int
    token_budget: int
    limit: float | None
    section: str = "ppo"
    pushes: list[Push] = field(default_factory=list)

    @cached_property
    def _context(self) -> tuple[bool, int | None]:
        """Whether the engine takes weights, and its context in tokens."""
        pushes = self.engine is not None and not getattr(self.engine, "replays", False)
        found: tuple[bool, int | None] = self.team.share(
            (pushes, getattr(self.engine, "context_length", None))
        )
        return found

    @property
    def limits(self) -> GapLimits:
        """What stops the run."""
        return limits_of("bfloat16" if coarse(self.actor) else dtype_of(self.engine), self.limit)

    def before(self, rollouts: Rollouts) -> tuple[Probe, Scores | None] | None:
        """A probe of the rollouts, scored before the update that `push` sends; None in a replay."""
        pushes, context = self._context
        if not pushes:
            return None
        probe = Probe(*probe_rows(rollouts, context), self.pad_id, self.token_budget)
        return probe, self._measure(probe)

    def at_start(
        self, prompts: Sequence[Sequence[int]], sampling: SamplingParams
    ) -> tuple[Probe, Scores | None] | None:
        """As `before`, of completions that the engine samples to the first prompts."""
        pushes, context = self._context
        if not pushes:
            return None
        rows = None
        if self.engine is not None:
            rows = sampled_rows(self.engine, prompts[:PROBE_ROWS], sampling, context)
        starts, answers = self.team.share(rows)
        probe = Probe(starts, answers, self.pad_id, self.token_budget)
        return probe, self._measure(probe)

    def rest(self) -> None:
        """Have the engine give its memory to the update, until `push` wakes it with new weights."""
        if self.engine is not None:
            rest(self.engine)

    def push(self, before: tuple[Probe, Scores | None] | None, mark: str) -> dict[str, Any]:
        """Send the weights, named `mark`, and check that they arrived; returns what was measured.

        Raises `EngineError` where the engine holds other weights.
        """
        if before is None:
            return NO_PUSH
        probe, scores = before
        if self.engine is not None:
            self.engine.update_weights(named_weights(self.actor.model), fingerprint=mark)
        elif self.team.sharding is not None:
            for _ in named_weights(self.actor.model):
                pass
        after, figures = self._measure(probe), NO_PUSH
        if after is not None:
            self.pushes.append(pushed(scores, after, dtype_of(self.engine), self.limits))
            check_push(self.pushes, self.limits, self.section, server=getattr(self.engine, "overlaps", False))
            figures = self.pushes[-1].figures()
        shared: dict[str, Any] = self.team.share(figures)
        return shared

    def _measure(self, probe: Probe) -> Scores | None:
        if self.engine is not None:
            return measure(self.engine, self.actor, probe)
        if self.team.sharding is not None:
            follow_measure(self.actor, probe)
        return None


def named_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """A model's tensors by their names in a Hugging Face checkpoint, adapters merged; tied ones once.

    They are the model's own memory: an engine copies what it keeps. Sharded ones are made whole one at a
    time, so that all processes must go through them.
    """
    # An embedding and an output layer that share their weights are one tensor in a checkpoint.
    sharding.reshard(model)
    held = reversed(model.state_dict(keep_vars=True).items())
    first = {sharding.identity(tensor): name for name, tensor in held}
    once = {name.replace(".base_layer.", ".") for name in first.values()}
    for name, tensor in lora.plain_state(model):
        if name in once:
            yield from _as_stored(model, name, sharding.whole(tensor.detach()))


def _as_stored(model: Any, name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The checkpoint's tensors of one of the model's: its experts are one in memory and many on disk."""
    from transformers.core_model_loading import revert_weight_conversion

    yield from revert_weight_conversion(model, {name: tensor}).items()


def pushed(before: Scores | None, after: Scores, dtype: str, limits: GapLimits) -> Push:
    """What a push did, from the scores of one probe on both sides of it.

    Changes are compared only where engine and trainer agreed before: an engine that held another model
    changes for another reason.
    """
    push = Push(after.gap, len(after.ours), dtype)
    if before is None or before.rounded is None or after.rounded is None or beyond(before.gap, limits):
        return push
    trainer = [b - a for a, b in zip(before.rounded, after.rounded, strict=True)]
    engine = [b - a for a, b in zip(before.theirs, after.theirs, strict=True)]
    return Push(push.gap, push.tokens, dtype, *change_of(trainer, engine))


def check_push(
    pushes: Sequence[Push], limits: GapLimits, section: str = "ppo", *, server: bool = False
) -> None:
    """Warn or raise `EngineError` where the last of `pushes` shows that the engine holds other weights.

    `section` of `train` holds the limit; a `server` is started by a person, another engine by the trainer.
    """
    last = pushes[-1]
    other = "engine.kind=transformers" + (" without engine.rollout_url" if server else "")
    if last.moved == 0 and last.unexplained is not None:
        own = Gap(last.unexplained, last.unexplained, last.unexplained)
        if not own.mean <= limits.gap.mean:
            raise EngineError(
                f"pushing the weights that the engine already holds changed its log-probabilities by "
                f"{last.unexplained:.3g} nats per token (limit {limits.gap.mean:.3g}), so it does not take "
                f"weights of this architecture as they are; set {other}, or train another architecture"
            )
    again = "run the same command again, which goes on from the last checkpoint"
    if server:
        again = f"start the server anew (`constitute serve POLICY --rollouts`) and {again}"
    remedy = f"{again}; if it fails again, set {other}"
    failed = beyond(last.gap, limits)
    if failed:
        raise EngineError(
            f"after the weights were pushed, engine and trainer differ in nats per token by {failed}; the "
            f"engine likely kept old weights or serves another model: {remedy}, or, for an engine that "
            f"computes less exactly than its dtype (TF32), train.{section}.sync_gap_limit to a larger mean"
        )
    kept = not_followed(pushes, limits.noise)
    if kept is not None:
        raise EngineError(
            f"over the last {kept[0]} pushes of weights the engine's log-probabilities changed by "
            f"{kept[1]:.2f} ± {kept[2]:.2g} of what the trainer's did (1 is expected, below 0.5 is old "
            f"weights); {remedy}"
        )
    wide = beyond(last.gap, limits, WARNS)
    if wide:
        log.warning(
            "engine and trainer differ in nats per token by %s: the engine may run in a lower precision than "
            "it says",
            wide,
        )
