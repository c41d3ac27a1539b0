"""Have a model draft examples for principles that lack them, and read its answers strictly."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from constitute.blocking import block
from constitute.config import RunConfig
from constitute.constitution.show import pick
from constitute.engines import named_model, use_engine
from constitute.engines.base import Engine
from constitute.errors import RowError
from constitute.pipeline.drive import run_jobs
from constitute.pipeline.sampler import Sampler
from constitute.pipeline.session import dated, open_store
from constitute.pipeline.stage_run import StageRun
from constitute.progress import Progress, Silent
from constitute.store import Store
from constitute.strict_yaml import CONTROL
from constitute.templates import render
from constitute.types import Constitution, Example, Message, Principle, Request, SamplingParams

LABELS = {"prompt": "prompt", "better": "better", "worse": "worse", "why": "critique"}
SAID = SamplingParams(max_tokens=512, temperature=0.8)
# Examples of other principles that are shown, so that a small model sees what is wanted.
SHOTS = 2
# A text of so many words that stands in the question word for word was copied from it.
COPIED = 4
# A label at the head of a line, as models write it: `Prompt:`, `**Better reply:**`, `- Worse:`, `3. Why:`.
_LABEL = re.compile(
    r"^[\s>#*_-]*(?:\d+[.)]\s*)?[*_]*(prompt|better|worse|why)\b[^\n:]{0,12}:[*_]*[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)


class DraftRow(NamedTuple):
    """The `number`-th example that a principle would have, from 1: the draft, or why there is none."""

    principle: str
    number: int
    example: Example | None
    failed: str = ""


def read_draft(text: str, question: str = "", taken: Collection[str] = ()) -> Example:
    """The first example in an answer: four labels, each once and with a text. What stands around is left out.

    Raises `RowError` for anything else: equal answers, control characters, and a text that stands in the
    `question` or is one of `taken` (texts of other examples, as `plain` writes them).
    """
    heads = list(_LABEL.finditer(text))
    found: dict[str, str] = {}
    ends = [*(head.start() for head in heads), len(text)][1:]
    for head, end in zip(heads, ends, strict=True):
        key = LABELS[head[1].lower()]
        if len(found) == len(LABELS) and all(found.values()):
            break  # a whole example stands there; models go on with another, or say the last part again
        if key in found:
            raise RowError(f"its answer has the label {head[1]!r} twice")
        found[key] = _bare(text[head.end() : end])
    missing = [label.capitalize() for label, key in LABELS.items() if not found.get(key)]
    if missing:
        raise RowError(f"its answer has nothing under {', '.join(missing)}")
    # Models go on talking after the last part.
    found["critique"] = found["critique"].split("\n\n")[0]
    if plain(found["better"]) == plain(found["worse"]):
        raise RowError("its better and its worse answer are the same")
    for key, said in found.items():
        if CONTROL.search(said):
            raise RowError(f"its {key} holds a control character")
        if key != "critique" and plain(said) in taken:
            raise RowError(f"its {key} is that of another example")
        if len(said.split()) >= COPIED and plain(said) in plain(question):
            raise RowError(f"its {key} is copied from the question")
    return Example(**found, draft=True)


def plain(text: str) -> str:
    """A text by its words alone, to be compared with others."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def texts_of(examples: Sequence[Example]) -> set[str]:
    """The prompts and answers of examples, as `plain` writes them."""
    return {plain(text) for each in examples for text in (each.prompt, each.better, each.worse)}


def draft_examples(
    config: RunConfig,
    constitution: Constitution,
    n: int,
    *,
    ids: Sequence[str] = (),
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> list[DraftRow]:
    """Drafts for the principles `ids`, or all, that have fewer than `n` examples; blocks until done.

    `engine`, else `config.model`, is asked what the store at `config.run` cannot answer. Raises `UsageError`,
    `EngineError`, `StorageError`; an answer that is no example is a row with its reason.
    """
    progress = progress or Silent()
    lacking = [p for p in pick(constitution, ids).principles if len(p.examples) < n]
    if not lacking:
        return []
    if engine is None:
        named_model(config.model)

    async def opened(store: Store) -> list[DraftRow]:
        async with use_engine(config.model, dated(config).engine, progress, engine) as used:
            run = StageRun("draft", used, store, config.seed, progress)
            return await _draft(run, constitution, lacking, n, config.engine.in_flight)

    with open_store(config, progress) as store:
        return block(opened(store))


async def _draft(
    run: StageRun, constitution: Constitution, lacking: Sequence[Principle], n: int, width: int
) -> list[DraftRow]:
    """A principle's drafts one after the other, so that each is told of those before it."""
    rows: dict[str, list[DraftRow]] = {principle.id: [] for principle in lacking}
    shots = [
        (principle, example)
        for principle in constitution.principles
        for example in principle.examples[:1]
        if example.critique and not example.draft
    ]
    there = texts_of([example for p in constitution.principles for example in p.examples])
    run.progress.start("draft", sum(n - len(principle.examples) for principle in lacking))

    async def one(principle: Principle) -> None:
        prompts = [example.prompt for example in principle.examples]
        taken = set(there)
        shown = [shot for shot in shots if shot[0].id != principle.id][:SHOTS]
        for number in range(len(principle.examples) + 1, n + 1):
            messages = _question(principle, prompts, shown)
            request = Request(messages=messages, sampling=SAID)
            try:
                sample = Sampler(run, principle.id)
                answer = await sample.generate(request, step="draft", index=number, principle=principle)
                example = read_draft(answer.text, messages[-1].content, taken)
                prompts.append(example.prompt)
                taken |= texts_of([example])
                row = DraftRow(principle.id, number, example)
            except RowError as problem:
                row = DraftRow(principle.id, number, None, str(problem) or type(problem).__name__)
            rows[principle.id].append(row)
            run.progress.advance("draft", "failed" if row.failed else "ok")

    await run_jobs(lacking, one, max(1, width))
    run.progress.finish("draft")
    return _distinct([row for principle in lacking for row in rows[principle.id]])


def _distinct(rows: Sequence[DraftRow]) -> list[DraftRow]:
    """The rows in their order; a draft that repeats one of an earlier principle becomes a failed row."""
    seen: set[str] = set()
    found = []
    for row in rows:
        if row.example is not None:
            texts = texts_of([row.example])
            if seen & texts:
                row = DraftRow(row.principle, row.number, None, "it repeats a draft of another principle")
            seen |= texts
        found.append(row)
    return found


def _question(
    principle: Principle, prompts: Sequence[str], shown: Sequence[tuple[Principle, Example]]
) -> tuple[Message, ...]:
    """The examples of other principles as turns, then what is asked for."""
    turns: list[Message] = []
    for other, example in shown:
        turns.append(Message(role="user", content=render("draft_example", principle=other, taken=())))
        answer = render("draft_example_answer", example=example)
        turns.append(Message(role="assistant", content=answer))
    asked = render("draft_example", principle=principle, taken=prompts)
    return (*turns, Message(role="user", content=asked))


def _bare(text: str) -> str:
    """A part without the marks and quotes around it."""
    text = text.strip().strip("*_").strip()
    quotes = {'"': '"', "“": "”"}
    if len(text) > 1 and quotes.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text
