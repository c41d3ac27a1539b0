"""One line a step of what the loop found, for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def headline(found: Mapping[str, Any], seconds: Mapping[str, float]) -> list[tuple[str, float, str]]:
    """(step, seconds, outcome in words) for each step that ran, in the order they ran."""
    return [(step, seconds[step], "; ".join(_WORDS[step](figures))) for step, figures in found.items()]


def _data(figures: Mapping[str, Any]) -> Iterator[str]:
    for stage, counts in figures.items():
        yield f"{stage}: {counts['ok']} ok, {counts['abstain']} abstain, {counts['failed']} failed"


def _export(figures: Mapping[str, Any]) -> Iterator[str]:
    for kind, part in figures.items():
        yield f"{part['rows']} {kind} rows"


def _sft(figures: Mapping[str, Any]) -> Iterator[str]:
    yield f"loss {figures['loss_first']:.3f} -> {figures['loss_last']:.3f} on {figures['rows']} rows"


def _reward(figures: Mapping[str, Any]) -> Iterator[str]:
    accuracy = figures["held_out"].get("accuracy")
    if accuracy:
        yield f"held-out accuracy {_figure(accuracy)}"
    else:
        yield "no held-out pairs to measure on"


def _ppo(figures: Mapping[str, Any]) -> Iterator[str]:
    before, after = _figure(figures["reward_before"]), _figure(figures["reward_after"])
    yield f"reward {before} -> {after}, KL {figures['kl']:.2f} nats"


def _evals(figures: Mapping[str, Any]) -> Iterator[str]:
    if not figures:
        yield "no sets configured (evals.behaviors, evals.principles)"
    for name, parts in figures.items():
        shares = [f"{policy} {_figure(part['share'])}" for policy, part in parts.items() if policy != "items"]
        yield f"{name}: {', '.join(shares)}"


def _report(figures: Mapping[str, Any]) -> Iterator[str]:
    yield str(figures["path"])


def _figure(figure: Mapping[str, Any]) -> str:
    return f"{figure['value']:.2f} ({figure['low']:.2f}-{figure['high']:.2f}, n = {figure['n']})"


_WORDS: dict[str, Callable[[Mapping[str, Any]], Iterator[str]]] = {
    "data": _data,
    "export": _export,
    "sft": _sft,
    "reward": _reward,
    "ppo": _ppo,
    "evals": _evals,
    "report": _report,
}
