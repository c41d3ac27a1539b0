"""The rows of training sets and the formats they are written in.

A run's records become rows in TRL's conversational form. A format may change each row and writes them to a
file. To add one, write a module with an `ExportFormat` and give it a line in `config.data.EXPORT_FORMATS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import chain, islice
from typing import IO, Any, Literal, get_args

from pydantic_core import to_json

from constitute.config.data import EXPORT_FORMATS
from constitute.stages.filters.preamble import announces
from constitute.types import LabelledPair, Message, Prompt, Response

Kind = Literal["sft", "preferences", "prompts"]
Row = dict[str, Any]
# Role and content, and in SFT rows a weight of 0.
Turn = dict[str, Any]
# What a file of pairs calls its answers.
GIVEN = ("a", "b", "chosen", "rejected")
_BATCH = 1000


class NotExportable(ValueError):
    """A record that gives no training row; the message is the reason, and is counted."""


def sft_rows(response: Response, revisions: str) -> list[Row]:
    """Rows `{id, messages, principle_ids}` of one response, the system message kept.

    The assistant's turns of the prompt have the weight 0: they are no example of what is wanted.
    `revisions`: `last` imitates the last revision, `all` every revision (arXiv 2212.08073, section 3.1),
    `none` the response before any revision. Raises `NotExportable` for what holds no such text.
    """
    steps = response.steps
    answers: list[tuple[str, str, list[str]]]
    if revisions == "none":
        answers = [(response.id, response.response, [])]
    elif not steps:
        raise NotExportable("no revision")
    elif revisions == "last":
        answers = [(response.id, steps[-1].revision, [step.principle_id for step in steps])]
    else:
        answers = [
            (f"{response.id}/r{number}", step.revision, [step.principle_id])
            for number, step in enumerate(steps, 1)
        ]
    if not all(text.strip() for _, text, _ in answers):
        raise NotExportable("empty answer")
    return [
        {
            "id": identity,
            "messages": [*map(_unlearned, _turns(response.prompt.messages)), _assistant(text)],
            "principle_ids": principles,
        }
        for identity, text, principles in answers
    ]


def refuse_preambles(response: Response, rows: Sequence[Row]) -> None:
    """Raise `NotExportable` where an SFT row imitates a revision that announces itself."""
    if any(announces(row["messages"][-1]["content"], response.response) for row in rows):
        raise NotExportable("a revision that announces itself (export.preambles=keep keeps it)")


def best_of(response: Response, label: LabelledPair | None) -> tuple[str, str | None]:
    """`last` or `none`, as in `sft_rows`: what the label of response against last revision prefers.

    At P = 0.5 the revision stays. The second value says why a label could not choose, None where it did;
    the last revision then stands.
    """
    if not response.steps or response.final == response.response:
        return "last", None
    if label is None:
        return "last", "no label of its revision"
    row, p_a = label.comparison, label.label.p_a
    if (row.a, row.b) != (response.response, response.final):
        return "last", "its label is of other answers"
    return ("none" if p_a > 0.5 else "last"), None


def preference_row(pair: LabelledPair) -> Row:
    """Row `{id, prompt, chosen, rejected, chosen_prob, …}` of a labelled pair.

    `chosen` is the side with P >= 0.5 (A at exactly 0.5) and `chosen_prob` its P, as labelled. Raises
    `NotExportable` for equal answers.
    """
    row, p_a = pair.comparison, pair.label.p_a
    if row.a == row.b:
        raise NotExportable("equal answers")
    flipped = p_a < 0.5
    chosen = row.a, _source(row.a_source, row.a_model)
    rejected = row.b, _source(row.b_source, row.b_model)
    if flipped:
        chosen, rejected = rejected, chosen
    return {
        "id": pair.id,
        "prompt": _turns(row.prompt.messages),
        "chosen": [_assistant(chosen[0])],
        "rejected": [_assistant(rejected[0])],
        # 1 - p is exact for p >= 0.5 and rounded to the nearest double (2**-54) below.
        "chosen_prob": 1.0 - p_a if flipped else p_a,
        "chosen_source": chosen[1],
        "rejected_source": rejected[1],
        "principle_ids": [vote.principle_id for vote in pair.label.votes],
    }


def _source(source: str, model: str) -> str:
    """Who wrote an answer, or what the file called it, which says nothing of how it was labelled."""
    return model or (f"given as {source}" if source in GIVEN else source)


def prompt_row(prompt: Prompt) -> Row:
    """Row `{id, prompt}` of a conversation that a policy is to answer."""
    return {"id": prompt.id, "prompt": _turns(prompt.messages)}


def _turns(messages: Sequence[Message]) -> list[Turn]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _unlearned(turn: Turn) -> Turn:
    """A turn that bears no loss, as OpenAI's fine-tuning format and those after it say so."""
    return turn | {"weight": 0} if turn["role"] == "assistant" else turn


def _assistant(text: str) -> Turn:
    return {"role": "assistant", "content": text}


def as_it_is(row: Row, kind: Kind) -> list[Row]:
    """The row of a run unchanged."""
    return [row]


@dataclass(frozen=True)
class ExportFormat:
    """One way to write a training set: the file's ending, its rows for a row, and how rows are written.

    `write(stream, rows, kind)` returns the number of rows. `rows(row, kind)` raises `NotExportable` for a
    row that the format cannot hold. `kinds` are the sets that it knows, and `trained` says whether `train`
    reads them. `conversation` says in the data card where an SFT row holds it, `about` what any row holds.
    """

    ending: str
    write: Callable[[IO[bytes], Iterable[Row], Kind], int]
    rows: Callable[[Row, Kind], Sequence[Row]] = as_it_is
    conversation: str = "`messages`: the conversation"
    kinds: tuple[Kind, ...] = get_args(Kind)
    trained: bool = True
    about: str = ""


def export_format(name: str) -> ExportFormat:
    """The format of that name in `EXPORT_FORMATS`."""
    module, attribute = EXPORT_FORMATS[name].split(":")
    found: ExportFormat = getattr(import_module(module), attribute)
    return found


def write_jsonl(stream: IO[bytes], rows: Iterable[Row], kind: Kind) -> int:
    """Write a JSON object a line; returns how many."""
    number = 0
    for row in rows:
        # The bytes of `json` in a quarter of its time; only numbers under 0.0001 are spelled otherwise.
        stream.write(to_json(row) + b"\n")
        number += 1
    return number


def write_parquet(stream: IO[bytes], rows: Iterable[Row], kind: Kind) -> int:
    """Write the rows of a run as Parquet; returns how many."""
    import pyarrow as pa

    text, texts = pa.string(), pa.list_(pa.string())
    turn = [("role", text), ("content", text)]
    turns, weighted = pa.list_(pa.struct(turn)), pa.list_(pa.struct([*turn, ("weight", pa.int64())]))
    fields = {
        "sft": [("id", text), ("messages", weighted), ("principle_ids", texts)],
        "preferences": [
            *(("id", text), ("prompt", turns), ("chosen", turns), ("rejected", turns)),
            *(("chosen_prob", pa.float64()), ("chosen_source", text), ("rejected_source", text)),
            ("principle_ids", texts),
        ],
        "prompts": [("id", text), ("prompt", turns)],
    }[kind]
    rows = iter(rows)
    head = list(islice(rows, 1))
    fields += [("judged_by", text)] if head and "judged_by" in head[0] else []
    return write_table(stream, chain(head, rows), pa.schema(fields))


def write_table(stream: IO[bytes], rows: Iterable[Row], schema: Any) -> int:
    """Write rows as Parquet of a `pyarrow.Schema`, in batches; returns how many."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    with pq.ParquetWriter(stream, schema) as writer:
        for batch in _batches(rows):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            number += len(batch)
    return number


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    rest = iter(rows)
    while batch := list(islice(rest, _BATCH)):
        yield batch


JSONL = ExportFormat(".jsonl", write_jsonl)
PARQUET = ExportFormat(".parquet", write_parquet)
