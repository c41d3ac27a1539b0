"""The questions that the lint asks a model: votes under any wording, other wordings, pairs of responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from constitute.config import RunConfig
from constitute.constitution.examples import example_pairs
from constitute.editing.lint.effects import PARAPHRASES, Vote
from constitute.editing.preview.plan import choose_probes
from constitute.engines.base import Engine
from constitute.errors import Abstain, RowError, UsageError
from constitute.pipeline.drive import run_jobs
from constitute.pipeline.sampler import Sampler
from constitute.pipeline.stage_run import StageRun
from constitute.progress import Progress
from constitute.stages.generate import generate, response_id
from constitute.stages.labels import label_method
from constitute.stages.labels.adaptive import asking_all
from constitute.stages.labels.pairs import pair_of_samples
from constitute.stages.labels.stage import label
from constitute.store import Store
from constitute.templates import render
from constitute.types import (
    Comparison,
    Completion,
    Constitution,
    Message,
    Principle,
    Prompt,
    Request,
    SamplingParams,
)

TRIES, LONGEST = 6, 3
SAID = SamplingParams(max_tokens=256, temperature=1.0)


@dataclass
class StageRuns:
    """The stage run of each kind of question; `width` jobs are under way at once."""

    generate: StageRun
    label: StageRun
    say: StageRun
    width: int


def open_runs(config: RunConfig, engine: Engine, store: Store, progress: Progress) -> StageRuns:
    """The runs of one lint."""

    def stage_run(stage: str, keep_truncated: bool) -> StageRun:
        return StageRun(stage, engine, store, config.seed, progress, keep_truncated)

    return StageRuns(
        generate=stage_run("generate", config.generate.keep_truncated),
        label=stage_run("label", True),
        # A cut wording is kept as an answer, so that it is judged the same when it is met again.
        say=stage_run("lint", True),
        width=max(1, config.engine.in_flight // 2),
    )


async def ask_votes(
    jobs: Sequence[tuple[str, Principle, Sequence[int]]],
    pairs: Sequence[Comparison],
    config: RunConfig,
    runs: StageRuns,
) -> tuple[dict[str, list[Vote | None]], dict[str, tuple[str, int]]]:
    """A column for each (name, principle, places of the pairs to ask); by name, the first reason and how many
    of its votes could not be had. One principle's failure leaves the others' votes on the pair standing.
    """
    columns: dict[str, list[Vote | None]] = {name: [None] * len(pairs) for name, _, _ in jobs}
    reasons: dict[tuple[str, int], str] = {}
    cfg = asking_all(config.label)
    progress = runs.label.progress

    async def vote_one(job: tuple[str, Principle, int]) -> None:
        name, principle, at = job
        alone = Constitution(name="alone", principles=(principle.model_copy(update={"weight": 1.0}),))
        status = "ok"
        try:
            row = await label(pairs[at], Sampler(runs.label, pairs[at].id), cfg, alone)
            vote = row.label.votes[0]
            columns[name][at] = (vote.p_ab, vote.p_ab if vote.p_ba is None else vote.p_ba)
        except (Abstain, RowError) as problem:
            status = "abstain" if isinstance(problem, Abstain) else "failed"
            reasons[name, at] = str(problem)
        progress.advance("label", status)

    progress.start("label", sum(len(places) for _, _, places in jobs))
    await run_jobs([(name, p, at) for name, p, places in jobs for at in places], vote_one, runs.width)
    progress.finish("label")
    lost: dict[str, tuple[str, int]] = {}
    for (name, _), reason in sorted(reasons.items()):
        first, count = lost.get(name, (reason, 0))
        lost[name] = (first, count + 1)
    return columns, lost


async def ask_paraphrases(
    principles: Sequence[Principle], method: str, runs: StageRuns
) -> dict[str, tuple[list[str], int]]:
    """By principle: up to `PARAPHRASES` other wordings of what a judge reads, and the answers not usable."""
    said: dict[str, tuple[list[str], int]] = {}

    async def reword(principle: Principle) -> None:
        text = read_text(principle, method)
        messages = (Message(role="user", content=render("paraphrase", text=text)),)
        kept: list[str] = []
        failed = 0
        for index in range(TRIES):
            if len(kept) == PARAPHRASES:
                break
            request, sampler = Request(messages=messages, sampling=SAID), Sampler(runs.say, principle.id)
            try:
                answer = await sampler.generate(request, step="paraphrase", index=index, principle=principle)
            except RowError:
                failed += 1
                continue
            if usable(answer, text, kept):
                kept.append(answer.text.strip())
            else:
                failed += 1
        said[principle.id] = (kept, failed)
        runs.say.progress.advance("paraphrase", "ok" if kept else "failed")

    runs.say.progress.start("paraphrase", len(principles))
    await run_jobs(principles, reword, runs.width)
    runs.say.progress.finish("paraphrase")
    return said


def usable(answer: Completion, original: str, earlier: Sequence[str]) -> bool:
    """Whether an answer can stand for `original`: whole, no repeat, and at most `LONGEST` times it."""
    said, known = _flat(answer.text), {_flat(text) for text in (original, *earlier)}
    whole = answer.finish_reason == "stop" and said != "" and said not in known
    return whole and len(answer.text.strip()) <= LONGEST * len(original)


def read_text(principle: Principle, method: str) -> str:
    """The words of a principle that a judge reads under a label method."""
    return str(getattr(principle, label_method(method).form))


def reworded(principle: Principle, method: str, text: str) -> Principle:
    """The principle with other words in the place of those that a judge reads."""
    return principle.model_copy(update={label_method(method).form: text})


def first_examples(constitution: Constitution, most: int) -> tuple[list[Comparison], list[str]]:
    """At most `most` of the principles' examples but drafts as pairs, and whose each is.

    The first of each principle come first, then the second ones; every second has the better answer as A.
    """
    listed = [each for each in example_pairs(constitution) if not each.example.draft]
    chosen = sorted(listed, key=lambda each: each.number)[:most]
    pairs = [each.pair if at % 2 else each.pair.swap() for at, each in enumerate(chosen)]
    return pairs, [each.principle.id for each in chosen]


async def make_pairs(
    constitution: Constitution, config: RunConfig, runs: StageRuns, probes: Sequence[Prompt], most: int
) -> tuple[list[Comparison], int]:
    """Two responses to each of at most `most` probes, as pairs; and the probes that could not be answered."""
    chosen, _ = choose_probes(constitution, probes, most)
    return await answer_pairs([probe.prompt for probe in chosen], (0, 1), config, runs)


async def answer_pairs(
    prompts: Sequence[Prompt], samples: tuple[int, int], config: RunConfig, runs: StageRuns
) -> tuple[list[Comparison], int]:
    """The two responses to each prompt that have these sample numbers, as pairs; and how many failed."""
    if not prompts:
        raise UsageError(
            "there is nothing to compare: no principle has probes and no prompts were given; "
            "add probes to the principles, or give --prompts FILE"
        )
    made: dict[str, Comparison] = {}
    progress = runs.generate.progress

    async def answer_twice(prompt: Prompt) -> None:
        try:
            first, second = [
                await generate(
                    prompt, Sampler(runs.generate, response_id(prompt.id, at)), config.generate, at
                )
                for at in samples
            ]
            made[prompt.id] = pair_of_samples(first, second)
        except RowError:
            pass  # counted by the caller's difference
        progress.advance("generate", "ok" if prompt.id in made else "failed")

    progress.start("generate", len(prompts))
    await run_jobs(prompts, answer_twice, runs.width)
    progress.finish("generate")
    pairs = [made[prompt.id] for prompt in prompts if prompt.id in made]
    return pairs, len(prompts) - len(pairs)


def _flat(text: str) -> str:
    return " ".join(text.split()).casefold()
