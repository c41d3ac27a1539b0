"""Chain the data stages generate → revise → label, or any run of them, depth first and resumable."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

from constitute.config import RunConfig
from constitute.engines.base import Engine
from constitute.errors import DataError, UsageError
from constitute.pipeline.drive import Counts, Row, Stage, Work, input_hash, run_jobs
from constitute.pipeline.sampler import Desk
from constitute.progress import Progress, Silent
from constitute.stages.base import Sample
from constitute.stages.generate import generate, response_id
from constitute.stages.label import label, pair_of_revision, pair_of_samples, pairs_of, voters
from constitute.stages.revise import revise
from constitute.store import Store
from constitute.store.manifest import claim, stage_settings
from constitute.types import Comparison, Constitution, Prompt, Response

STAGES = ("generate", "revise", "label")
# A prompt's samples have places of their own in the order of rows, however many are asked for later.
_PLACES = 1024


async def run_chain(
    config: RunConfig,
    constitution: Constitution | None,
    prompts: Iterable[Prompt] | None,
    engine: Engine,
    store: Store,
    stages: Sequence[str] = STAGES,
    *,
    judge: Engine | None = None,
    pairs: Iterable[Comparison] | None = None,
    progress: Progress | None = None,
    total: int | None = None,
    retry: bool = False,
) -> dict[str, Counts]:
    """Run `stages` (in the order of `STAGES`) over prompts, over what an earlier stage left, or over `pairs`.

    `prompts` are read by generate; revise alone starts from the store's responses, and label alone from
    its responses and revisions (as `label.pairs` has it), or `pairs`. `judge` labels in the model's place.
    `total` is the number of prompts, where known. Returns the counts by stage.
    Raises `UsageError` where a stage has nothing to start from, `RunMismatch`, `EngineError`, `StorageError`.
    """
    check_request(config, constitution, stages, prompts is not None, pairs is not None, store)
    stages = tuple(stage for stage in STAGES if stage in stages)
    progress = progress or Silent()
    chain = _Chain(config, constitution, {})
    source, workers = _source(chain, stages, prompts, pairs, store)
    claim_stages(config, constitution, stages, engine, judge, pairs is not None, store)
    for stage in stages:
        keep = stage == "label" or getattr(config, stage).keep_truncated
        desk = Desk(stage, _answering(stage, engine, judge), store, config.seed, progress, keep)
        chain.stages[stage] = Stage(desk, retry)
        rows = _expected(stage, config, total, store, pairs is not None)
        progress.start(stage, rows, sum(store.counts(stage).values()))
    await run_jobs(source, lambda job: job, workers)
    for stage in stages:
        progress.finish(stage)
    return {stage: chain.stages[stage].counts() for stage in stages}


def claim_stages(
    config: RunConfig,
    constitution: Constitution | None,
    stages: Sequence[str],
    engine: Engine,
    judge: Engine | None,
    own_pairs: bool,
    store: Store,
) -> None:
    """Note each stage's settings in the store, or raise `RunMismatch` where it began with others."""
    for stage in stages:
        model = _answering(stage, engine, judge)
        settings = stage_settings(stage, config, constitution, model.identity)
        if own_pairs:
            settings["label"]["pairs"] = "own"
        claim(store, stage, settings)


def _answering(stage: str, engine: Engine, judge: Engine | None) -> Engine:
    return judge if judge is not None and stage == "label" else engine


def check_request(
    config: RunConfig,
    constitution: Constitution | None,
    stages: Sequence[str],
    has_prompts: bool,
    has_pairs: bool,
    store: Store,
) -> None:
    """Raise `UsageError` where `stages` lack what they start from, such as a constitution or earlier rows."""
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown or not stages:
        raise UsageError(f"no such stage: {unknown[0] if unknown else 'none'}; known: {', '.join(STAGES)}")
    if constitution is None and tuple(stages) != ("generate",):
        raise UsageError("no constitution given; name one with --constitution FILE")
    if "label" in stages:
        _check_pairs(config, tuple(stages), has_pairs)
    if has_pairs:
        return
    if "generate" in stages:
        if not has_prompts:
            raise UsageError("no prompts given; name a file with --prompts FILE")
        return
    before = _before(config, stages)
    if not store.counts(before)["ok"]:
        first = "revise" if "revise" in stages else "label"
        raise UsageError(
            f"{store.folder} has no rows of {before} to {first}; run `constitute {before}` first"
        )


def _before(config: RunConfig, stages: Sequence[str]) -> str:
    """The stage whose rows are read when responses are not generated."""
    return "revise" if "revise" not in stages and config.label.pairs != "samples" else "generate"


def _source(
    chain: _Chain,
    stages: tuple[str, ...],
    prompts: Iterable[Prompt] | None,
    pairs: Iterable[Comparison] | None,
    store: Store,
) -> tuple[Iterator[Coroutine[Any, Any, None]], int]:
    """The chains to run, as coroutines made one at a time, and how many to run at once."""
    config = chain.config
    limit, in_flight = config.limit, config.engine.in_flight
    if pairs is not None:
        jobs = enumerate(islice(pairs, limit))
        return (chain.pair(place, pair) for place, pair in jobs), _label_width(chain, in_flight)
    if prompts is not None and stages[0] == "generate":
        unique = enumerate(_distinct(islice(prompts, limit)))
        return (chain.prompt(at, prompt) for at, prompt in unique), max(1, in_flight // config.generate.n)
    groups = islice(_groups(store, _before(config, stages)), limit)
    workers = in_flight if stages[0] == "revise" else _label_width(chain, in_flight)
    return (chain.responses(group) for group in groups), workers


def _check_pairs(config: RunConfig, stages: tuple[str, ...], own: bool) -> None:
    if own and stages != ("label",):
        raise UsageError("pairs of one's own are labelled alone, without generate and revise")
    if own:
        return
    wanted = config.label.pairs
    if wanted != "samples" and stages == ("generate", "label"):
        raise UsageError(f"label.pairs: {wanted} needs the stage revise between generate and label")
    if wanted != "revision" and "generate" in stages and config.generate.n < 2:
        raise UsageError(
            f"label.pairs: {wanted} needs two responses a prompt, n is 1; "
            "give -n 2, or --set label.pairs=revision"
        )


def _label_width(chain: _Chain, in_flight: int) -> int:
    """Pairs at once that keep `in_flight` questions with the engine: two orders a principle."""
    assert chain.constitution is not None
    return max(1, in_flight // (2 * len(voters("", chain.config.label, chain.constitution))))


def _expected(stage: str, config: RunConfig, total: int | None, store: Store, own_pairs: bool) -> int | None:
    """Rows of a stage where no row fails on the way; None where that is not known beforehand."""
    if total is not None:
        total = min(total, config.limit or total)
        n, samples = config.generate.n, len(pairs_of(config.generate.n))
        each = {"samples": samples, "revision": n, "both": samples + n}[config.label.pairs]
        return total * (1 if own_pairs else each if stage == "label" else n)
    if (stage == "label" and config.label.pairs != "revision") or config.limit is not None:
        return None
    return store.counts("revise" if stage == "label" else "generate")["ok"]


def _distinct(prompts: Iterable[Prompt]) -> Iterator[Prompt]:
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.id in seen:
            raise DataError(f"two prompts have the id {prompt.id!r}; give each prompt an id of its own")
        seen.add(prompt.id)
        yield prompt


def _groups(store: Store, stage: str) -> Iterator[list[tuple[int, Response]]]:
    """A stage's ok responses with their positions, grouped by prompt."""
    rows = store.outcomes(stage, "ok")
    for _, group in groupby(rows, key=lambda outcome: outcome.position // _PLACES):
        yield [(outcome.position, Response.model_validate(outcome.data)) for outcome in group]


@dataclass
class _Chain:
    """The steps that follow from a prompt, a response or a pair, for the stages that were asked for."""

    config: RunConfig
    constitution: Constitution | None
    stages: dict[str, Stage]

    async def prompt(self, place: int, prompt: Prompt) -> None:
        """All of a prompt: each sample goes on by itself, each pair as soon as both its samples are there."""
        n = self.config.generate.n
        first_place = place * _PLACES
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._generate(first_place + at, prompt, at)) for at in range(n)]
            for at, task in enumerate(tasks):
                group.create_task(self._after(first_place + at, task))
            for first, second in pairs_of(n) if self._labels("samples") else ():
                group.create_task(self._sample_pair(first_place + first, tasks[first], tasks[second]))

    async def responses(self, rows: Sequence[tuple[int, Response]]) -> None:
        """What follows the responses (or revisions) of one prompt."""
        by_sample = {row.sample: (position, row) for position, row in rows}
        async with asyncio.TaskGroup() as group:
            for position, row in rows:
                group.create_task(self._follow(position, row))
            for first, second in pairs_of(max(by_sample) + 1) if self._labels("samples") else ():
                if first in by_sample and second in by_sample:
                    position, row = by_sample[first]
                    pair = pair_of_samples(row, by_sample[second][1])
                    group.create_task(self.pair(position, pair))

    async def pair(self, position: int, pair: Comparison) -> None:
        """Label one pair."""
        await self._settle("label", position, pair, self._label)

    async def _generate(self, position: int, prompt: Prompt, at: int) -> Response | None:
        async def work(row: Row, sample: Sample, rng: random.Random) -> Response:
            return await generate(prompt, sample, rng, self.config.generate, at)

        # The row of a response exists before its text: the prompt under the response's id. Where the
        # prompt was read from is no part of what is asked.
        row = prompt.model_copy(update={"id": response_id(prompt.id, at), "source": ""})
        response: Response | None = await self._settle("generate", position, row, work)
        return response

    async def _after(self, position: int, task: asyncio.Task[Response | None]) -> None:
        response = await task
        if response is not None:
            await self._follow(position, response)

    async def _follow(self, position: int, response: Response) -> None:
        if "revise" in self.stages:
            revised = await self._settle("revise", position, response, self._revise)
            if revised is None:
                return
            response = revised
        if self._labels("revision"):
            await self.pair(position, pair_of_revision(response))

    async def _sample_pair(
        self, position: int, first: asyncio.Task[Response | None], second: asyncio.Task[Response | None]
    ) -> None:
        a, b = await first, await second
        if a is not None and b is not None:
            await self.pair(position, pair_of_samples(a, b))

    async def _settle(self, stage: str, position: int, row: Any, work: Work) -> Any:
        """The stage's record for the row, or None where it abstained or failed."""
        outcome = await self.stages[stage].settle(position, row, work, input_hash(row))
        if outcome.data is None:
            return None
        return outcome.data if stage == "label" else Response.model_validate(outcome.data)

    async def _revise(self, row: Response, sample: Sample, rng: random.Random) -> Response:
        assert self.constitution is not None
        return await revise(row, sample, rng, self.config.revise, self.constitution)

    async def _label(self, row: Comparison, sample: Sample, rng: random.Random) -> Any:
        assert self.constitution is not None
        return await label(row, sample, rng, self.config.label, self.constitution)

    def _labels(self, pairs: str) -> bool:
        return "label" in self.stages and self.config.label.pairs in (pairs, "both")
