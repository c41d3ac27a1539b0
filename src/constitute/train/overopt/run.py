"""Read what PPO and best-of-n measured, and say where a higher proxy reward stops helping the gold."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from constitute.errors import UsageError
from constitute.train.best_of_n.choice import sizes
from constitute.train.doctor.evidence import Line
from constitute.train.overopt.fit import Fit, Method, fit_gold
from constitute.train.overopt.points import (
    Advice,
    Point,
    advise,
    best_of_n_points,
    doubts,
    pooled,
)
from constitute.train.overopt.read import (
    PROXY,
    by_prompt,
    gold_of,
    kept_policies,
    marks_of,
    observations,
    rows_of,
    samples_per_prompt,
    scores_of,
    section_of,
)
from constitute.types import Record


class Series(Record):
    """One method's points; `no_fit` says why no curve was fitted, `notes` what was left out.

    `policies` pairs numbers of iterations with the folder of the policy kept at each. `doubt` says why the
    points do not tell what is best; there is no advice then.
    """

    name: str
    method: Method
    points: tuple[Point, ...]
    fit: Fit | None = None
    no_fit: str = ""
    advice: Advice | None = None
    doubt: str = ""
    policies: tuple[tuple[int, str], ...] = ()
    notes: tuple[str, ...] = ()


class Overopt(Record):
    """All series, the names of proxy and gold, and sentences: what to ship first."""

    gold: str | None
    series: tuple[Series, ...]
    sentences: tuple[str, ...]


def measure_overopt(
    run: Path,
    *,
    ppo: Sequence[Path] = (),
    best_of_n: Path | None = None,
    gold: str | None = None,
    proxy: str | None = None,
    seed: int = 0,
) -> Overopt:
    """Compare proxy and gold over the KL from the reference (arXiv 2210.10760).

    `ppo` are folders of `train ppo` (RUN/ppo where none is given), `best_of_n` one of `train best-of-n`
    (RUN/best-of-n, where it exists and measured the gold). `gold` names a part of the reward that was
    measured and not optimised; the only one of weight 0 where None. `proxy` names the score best-of-n
    selects by. Raises `UsageError` where there is nothing to read or a name is unknown, `DataError` for a
    broken file.
    """
    asked = best_of_n is not None
    folders = list(ppo) or [folder for folder in (run / "ppo",) if (folder / "metrics.jsonl").is_file()]
    if best_of_n is None and (run / "best-of-n" / "samples.jsonl").is_file():
        best_of_n = run / "best-of-n"
    if not folders and best_of_n is None:
        raise UsageError(
            f"nothing to compare in {run}: it holds neither ppo/metrics.jsonl nor best-of-n/samples.jsonl; "
            "run `constitute train ppo` first, or give --ppo DIR or --best-of-n DIR"
        )
    runs = {folder: rows_of(folder / "metrics.jsonl") for folder in folders}
    samples = [] if best_of_n is None else rows_of(best_of_n / "samples.jsonl")
    gold = gold_of(gold, runs, samples)
    found = [_ppo_series(folder, lines, gold, seed) for folder, lines in runs.items()]
    if not asked and folders and not any(gold in scores_of(row) for row in samples):
        # Nobody named it, and it measured something else.
        best_of_n = None
    if best_of_n is not None:
        found.append(_best_of_n_series(best_of_n, samples, gold, proxy, seed))
    return Overopt(gold=gold, series=tuple(found), sentences=tuple(_sentences(found, gold)))


def _ppo_series(folder: Path, lines: Sequence[Line], gold: str | None, seed: int) -> Series:
    observed = observations(folder, lines, gold)
    policies = kept_policies(folder, len(lines))
    points = pooled(observed, marks_of(folder, len(lines), policies))
    known = [one for one in observed if one.gold is not None]
    fit = fit_gold(
        "ppo",
        [one.kl for one in known],
        [one.gold for one in known if one.gold is not None],
        [one.gold_stderr for one in known],
        random.Random(f"{seed}:{folder.name}"),
    )
    doubt = "" if gold is None else _doubt(folder, points, gold)
    notes = (
        [] if len(known) in (0, len(observed)) else [f"{len(observed) - len(known)} iterations lack the gold"]
    )
    return Series(
        name=str(folder),
        method="ppo",
        points=tuple(points),
        fit=fit if isinstance(fit, Fit) else None,
        no_fit=fit if isinstance(fit, str) else "",
        advice=None if doubt else advise(points),
        doubt=doubt,
        policies=tuple((at, str(path)) for at, path in policies.items()),
        notes=tuple(notes),
    )


def _doubt(folder: Path, points: Sequence[Point], gold: str) -> str:
    found = doubts(points, samples_per_prompt(folder), gold)
    if not found:
        return ""
    reasons = "; ".join(reason for reason, _ in found)
    settings = dict.fromkeys(f"train.{section_of(folder)}.{name}" for _, name in found)
    return f"cannot tell which policy of {folder} to ship: {reasons}; raise {', '.join(settings)}"


def _best_of_n_series(
    folder: Path, rows: Sequence[Line], gold: str | None, proxy: str | None, seed: int
) -> Series:
    if gold is None:
        return Series(name=str(folder), method="best-of-n", points=(), no_fit="no gold reward was named")
    names = {name for row in rows for name in scores_of(row)} - {gold}
    chosen = proxy or (PROXY if PROXY in names else next(iter(names)) if len(names) == 1 else None)
    if chosen is None or chosen not in names:
        raise UsageError(
            f"{folder} selects by one of {', '.join(sorted(names)) or 'no score'}, the gold {gold} aside; "
            "name it with --proxy"
        )
    prompts, notes = by_prompt(rows, chosen, gold)
    if not prompts:
        raise UsageError(
            f"{folder}/samples.jsonl holds no sample with both {chosen} and {gold}; run `train best-of-n` "
            f"with --reward {chosen} --reward 0*{gold} into another --out"
        )
    rng = random.Random(seed)
    points, resampled = best_of_n_points(prompts, sizes(min(len(samples) for samples in prompts)), rng)
    golds = [point.gold for point in points if point.gold is not None]
    fit = fit_gold(
        "best-of-n",
        [point.kl for point in points],
        [one.value for one in golds],
        [one.stderr for one in golds],
        rng,
        resampled,
    )
    return Series(
        name=str(folder),
        method="best-of-n",
        points=tuple(points),
        fit=fit if isinstance(fit, Fit) else None,
        no_fit=fit if isinstance(fit, str) else "",
        advice=advise(points),
        notes=tuple(notes),
    )


def _sentences(found: Sequence[Series], gold: str | None) -> Iterator[str]:
    """What to ship or which runs do not say, then where the gold falls, then what best-of-n comes to."""
    if gold is None:
        yield (
            "no gold reward was measured or named, and no checkpoint can be recommended by the proxy alone: "
            "it rises whether or not the policy gets better; measure a second reward with "
            "--reward 0*SOURCE and name it with --gold"
        )
        return
    runs = [(one, one.advice) for one in found if one.method == "ppo" and one.advice is not None]
    if runs:
        series, advice = max(runs, key=lambda pair: _bound(pair[1].best))
        yield _shipped(series, advice, gold, sum(advice.compared for _, advice in runs))
    yield from (one.doubt for one in found if one.doubt)
    for one in found:
        if one.advice is not None and one.advice.falls is not None:
            yield _fallen(one, *one.advice.falls, gold)
    for one in found:
        if one.method == "best-of-n" and one.advice is not None:
            yield (
                f"best-of-n: {gold} has its highest lower bound at n = {one.advice.best.at}, "
                f"{_said(one.advice.best)}"
            )


def _bound(point: Point) -> float:
    return point.gold.low if point.gold is not None else -math.inf


def _shipped(series: Series, advice: Advice, gold: str, compared: int) -> str:
    best = advice.best
    reason = f"{gold} {_said(best)}, the highest lower bound of {compared} points"
    if best.at == 0:
        return f"ship none of these checkpoints: the policy that it started from has {reason}"
    kept = dict(series.policies)
    keep = f"train again with --set train.{section_of(Path(series.name))}.keep_policies=true"
    if best.at in kept:
        return f"ship iteration {best.at} of {series.name} ({kept[best.at]}): {reason}"
    said = f"iteration {best.at} of {series.name} is best: {reason}; its policy was not kept"
    others = [point for point in series.points if point.at in kept and point.gold is not None]
    if not others:
        return f"{said}: {keep}"
    other = max(others, key=_bound)
    return (
        f"{said}; of those that were, ship iteration {other.at} ({kept[other.at]}): {gold} {_said(other)}, "
        f"or {keep}"
    )


def _fallen(series: Series, best: Point, last: Point, gold: str) -> str:
    where = "iteration" if series.method == "ppo" else "n ="
    return (
        f"over-optimisation in {series.name}: from {where} {best.at} to {last.at} the proxy rises from "
        f"{best.proxy.value:.3f} to {last.proxy.value:.3f} while {gold} falls from {_said(best)} to "
        f"{_said(last)}"
    )


def _said(point: Point) -> str:
    return "" if point.gold is None else point.gold.text()
