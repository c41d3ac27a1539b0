"""What two policies said to the same prompts: read, or sampled with the same seeds, and put side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from constitute.config import RunConfig
from constitute.data.pairs import answers
from constitute.data.prompts import content_id
from constitute.data.records import read_records
from constitute.data.rows import Unusable
from constitute.engines import use_engine
from constitute.errors import RowError, UsageError
from constitute.files import Row
from constitute.pipeline.drive import run_jobs
from constitute.pipeline.sampler import Sampler
from constitute.pipeline.session import dated
from constitute.pipeline.stage_run import StageRun
from constitute.progress import Progress, Silent
from constitute.stages.generate import generate, slot
from constitute.store import FILE_NAME, Store
from constitute.store.unfinished import warn_unfinished
from constitute.types import Comparison, Message, Prompt, Response

KEYS = ("response", "completion", "answer")


@dataclass(frozen=True)
class Answer:
    """What a policy said to a conversation."""

    messages: tuple[Message, ...]
    text: str


def matched(before: Sequence[Answer], after: Sequence[Answer]) -> tuple[list[Comparison], int, int]:
    """Pairs with what was said before as A, and how many answers are equal or have no other side.

    Several answers to one conversation are paired in their order.
    """
    by_prompt: dict[str, tuple[list[Answer], list[Answer]]] = defaultdict(lambda: ([], []))
    for side, given in enumerate((before, after)):
        for answer in given:
            by_prompt[content_id(answer.messages)][side].append(answer)
    pairs: list[Comparison] = []
    equal = unmatched = 0
    for name, (first, second) in by_prompt.items():
        unmatched += abs(len(first) - len(second))
        for at, (a, b) in enumerate(zip(first, second, strict=False)):
            if a.text == b.text:
                equal += 1
                continue
            prompt = Prompt(id=name, messages=a.messages)
            pairs.append(
                Comparison(
                    id=f"{name}/{at}", prompt=prompt, a=a.text, b=b.text, a_source="before", b_source="after"
                )
            )
    return pairs, equal, unmatched


def read_answers(source: str, progress: Progress | None = None) -> list[Answer]:
    """Answers of a policy: a file of rows with `prompt` and `response`, or the answers in a run directory.

    `RUN` reads the stage `generate`, `RUN:STAGE` another one that holds answers, such as `held-out/ppo`.
    `progress` is told
    where that stage stopped early. Raises `UsageError` or `DataError`.
    """
    folder, _, stage = (source, "", "generate") if Path(source).exists() else source.rpartition(":")
    if folder and (Path(folder) / FILE_NAME).is_file():
        with Store.open(folder, create=False, readonly=True) as store:
            outcomes = [outcome.data for outcome in store.outcomes(stage, "ok")]
            warn_unfinished(store, stage, progress or Silent())
        rows = [Response.model_validate(data) for data in outcomes if data and "response" in data]
        if not rows:
            raise UsageError(f"{folder} holds no answers of the stage {stage!r}; name one as RUN:STAGE")
        return [Answer(row.prompt.messages, row.final) for row in rows]
    return read_records(source, _answer, "answers", remedy="mend or remove the line")[0]


def _answer(row: Row, file: str) -> Answer:
    key = next((key for key in KEYS if row.value.get(key) is not None), None)
    if key is None:
        raise Unusable(f"none of the keys {', '.join(KEYS)} beside prompt")
    messages, (text,) = answers(row.value, key)
    return Answer(messages, text)


async def sample(
    model: str, prompts: Sequence[Prompt], config: RunConfig, store: Store, progress: Progress
) -> list[Answer]:
    """A model's answers to prompts; two models are given the same seeds, which come from the prompts' ids."""
    found: dict[str, Response] = {}
    cfg = config.generate
    places = [slot(prompt, index) for prompt in prompts for index in range(cfg.n)]
    async with use_engine(model, dated(config).engine, progress) as engine:
        run = StageRun("answer", engine, store, config.seed, progress, cfg.keep_truncated)

        async def one(row: Prompt) -> None:
            name, _, index = row.id.rpartition("/")
            try:
                asked = row.model_copy(update={"id": name})
                found[row.id] = await generate(asked, Sampler(run, row.id), cfg, int(index))
            except RowError as problem:
                progress.note(f"{model} gives no answer to {name}: {problem}")
            progress.advance("answer", "ok" if row.id in found else "failed")

        progress.start("answer", len(places))
        await run_jobs(places, one, max(1, config.engine.in_flight))
        progress.finish("answer")
    ended = [found[place.id] for place in places if place.id in found]
    return [Answer(row.prompt.messages, row.response) for row in ended]
