"""Which results a person means: policies by name, model or pattern, of one run or several, and files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from constitute.config import RunConfig
from constitute.config.load import load_for_run
from constitute.errors import UsageError
from constitute.evals.items import evals_dir, kept_items
from constitute.evals.run import SetResult, load_result, load_results, policy_name
from constitute.types import EvalItem


@dataclass(frozen=True)
class Policy:
    """A policy under the name it is shown by, with its results by set; `source` is its run or its file."""

    name: str
    source: Path
    results: dict[str, SetResult]


def find_policies(configs: Sequence[RunConfig], given: Sequence[str]) -> list[Policy]:
    """The policies meant by `given`, in that order, each once; one name alone brings all others with it.

    Each is a result file (.json), RUN:POLICY, or a policy of any of the runs: its name, its model, `base`
    (the run's own model) or a pattern such as `ppo-step-*`. A name that several runs have stands for each of
    them. Policies of one name are told apart by their run or file. Raises `UsageError` for one not found.
    """
    runs = [_Run(config) for config in configs]
    found: list[Policy] = []
    for one in given:
        found += _meant(runs, one)
    if len(given) == 1 and not given[0].endswith(".json"):
        found += [policy for run in runs for policy in run.policies()]
    return _told_apart(_each_once(found))


def items_of(policy: Policy, result: SetResult) -> list[EvalItem]:
    """The items that a policy was scored on; none where its run did not keep them, or the file was moved."""
    file = policy.source.suffix == ".json" and policy.source.is_file()
    return kept_items(policy.source.parents[2] if file else policy.source, result.items_hash)


class _Run:
    """The policies of a run, read when first asked for."""

    def __init__(self, config: RunConfig) -> None:
        self.config, self.results = config, load_results(config.run)

    def policies(self, names: Sequence[str] | None = None) -> list[Policy]:
        """Those named, or all, steps of a training by their number."""
        if names is None:
            names = sorted({result.policy for result in self.results}, key=by_number)
        return [
            Policy(name, self.config.run, {r.set: r for r in self.results if r.policy == name})
            for name in names
        ]

    def meant(self, given: str) -> list[Policy]:
        models = {result.policy: str(result.model.get("name", "")) for result in self.results}
        if "*" in given:
            return self.policies(sorted((n for n in models if fnmatchcase(n, given)), key=by_number))
        meant = [given, policy_name(given, self.config.run)]
        meant += [policy for policy, model in models.items() if model == given]
        if given == "base" and self.config.model is not None:
            meant.append(policy_name(self.config.model, self.config.run))
        return self.policies([name for name in meant if name in models][:1])


def by_number(name: str) -> list[str | tuple[int, str]]:
    """A key that sorts `ppo-step-9` before `ppo-step-10`."""
    return [part.zfill(12) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _meant(runs: Sequence[_Run], given: str) -> list[Policy]:
    if given.endswith(".json"):
        result = load_result(Path(given))
        return [Policy(result.policy, Path(given), {result.set: result})]
    folder, colon, name = given.rpartition(":")
    if colon and Path(folder).is_dir():
        runs, given = [_Run(load_for_run(Path(folder), None))], name
    found = [policy for run in runs for policy in run.meant(given)]
    if not found:
        raise UsageError(_unknown(runs, given))
    return found


def _unknown(runs: Sequence[_Run], given: str) -> str:
    models = {r.policy: str(r.model.get("name", "")) for run in runs for r in run.results}
    known = ", ".join(f"{policy} (model {model})" for policy, model in sorted(models.items())) or "none"
    places = " or ".join(str(evals_dir(run.config.run) / "results") for run in runs)
    return (
        f"no results of policy {given!r} in {places}; known: {known}; "
        f"score it with `constitute evals run --run {runs[0].config.run} --model MODEL --policy {given}`"
    )


def _each_once(found: Sequence[Policy]) -> list[Policy]:
    """Without a policy that is there before, from the same place or with the very same results."""
    kept: list[Policy] = []
    for policy in found:
        if not any(policy.results == other.results for other in kept):
            kept.append(policy)
    return kept


def _told_apart(found: Sequence[Policy]) -> list[Policy]:
    """With the run's or the file's name before a name that several have, and its whole path if need be."""
    named = list(found)
    for shown in (lambda p: f"{_place(p)}:{p.name}", lambda p: f"{p.source}:{p.name}"):
        counts = Counter(policy.name for policy in named)
        named = [
            replace(one, name=shown(own)) if counts[one.name] > 1 else one
            for one, own in zip(named, found, strict=True)
        ]
    return [
        replace(p, results={s: r.model_copy(update={"policy": p.name}) for s, r in p.results.items()})
        for p in named
    ]


def _place(policy: Policy) -> str:
    source = policy.source.resolve()
    return source.stem if source.suffix == ".json" else source.name
