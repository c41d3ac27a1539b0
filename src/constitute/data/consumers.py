"""Training sets as other programs read them: OpenAI, OpenRLHF, verl, NeMo-RL, Argilla."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import IO, Any

from constitute.data.formats import ExportFormat, Kind, NotExportable, Row, Turn, write_jsonl, write_table


def _openai(row: Row, kind: Kind) -> list[Row]:
    """The files of OpenAI's fine-tuning, which take no keys beside their own.

    https://platform.openai.com/docs/guides/supervised-fine-tuning and /direct-preference-optimization
    """
    if kind == "sft":
        return [{"messages": row["messages"]}]
    return [
        {
            "input": {"messages": row["prompt"], "tools": [], "parallel_tool_calls": True},
            "preferred_output": row["chosen"],
            "non_preferred_output": row["rejected"],
        }
    ]


def _openrlhf(row: Row, kind: Kind) -> list[Row]:
    """The default keys of OpenRLHF's three data sets; lists of messages want its apply_chat_template.

    `margin` is |2 P - 1|, which its reward trainer reads only where the margin loss is asked for.
    """
    if kind == "prompts":
        return [row]
    if kind == "sft":
        *before, answer = row["messages"]
        return [{"id": row["id"], "input": _plain(before), "output": [answer]}]
    kept = {key: row[key] for key in ("id", "prompt", "chosen", "rejected")}
    return [kept | {"margin": 2 * row["chosen_prob"] - 1}]


def _verl(row: Row, kind: Kind) -> list[Row]:
    """`messages` for verl's SFT; for its RL a prompt whose reward comes from a model, not from an answer."""
    if kind == "sft":
        return [{"messages": _one_answer(row["messages"], "verl"), "extra_info": {"id": row["id"]}}]
    return [
        {
            "data_source": "constitute",
            "prompt": row["prompt"],
            "ability": "chat",
            "reward_model": {"style": "model", "ground_truth": ""},
            "extra_info": {"id": row["id"]},
        }
    ]


def _write_verl(stream: IO[bytes], rows: Iterable[Row], kind: Kind) -> int:
    import pyarrow as pa

    text = pa.string()
    turns = pa.list_(pa.struct([("role", text), ("content", text)]))
    extra = ("extra_info", pa.struct([("id", text)]))
    reward = pa.struct([("style", text), ("ground_truth", text)])
    fields: list[tuple[str, Any]] = [("messages", turns), extra]
    if kind == "prompts":
        fields = [
            ("data_source", text),
            ("prompt", turns),
            ("ability", text),
            ("reward_model", reward),
            extra,
        ]
    return write_table(stream, rows, pa.schema(fields))


def _nemo_rl(row: Row, kind: Kind) -> list[Row]:
    """NeMo-RL's ranked completions, the better one of rank 0; `messages` for its SFT."""
    if kind == "sft":
        return [{"messages": _one_answer(row["messages"], "NeMo-RL")}]
    ranked = [{"rank": rank, "completion": row[key]} for rank, key in enumerate(("chosen", "rejected"))]
    return [{"context": row["prompt"], "completions": ranked, "task_name": "constitute"}]


def _argilla(row: Row, kind: Kind) -> list[Row]:
    """A record of Argilla: fields to read, and the label as a suggestion for the question `preference`.

    Which response stands first follows from the row's id, so that its place tells an annotator nothing.
    """
    metadata = {"principle_ids": row["principle_ids"]}
    record = {"id": row["id"], "metadata": metadata, "responses": {}, "vectors": {}}
    if kind == "sft":
        *before, answer = row["messages"]
        fields = {"prompt": _plain(before), "response": answer["content"]}
        return [record | {"fields": fields, "suggestions": {}}]
    keys = ["chosen", "rejected"]
    if hashlib.sha256(row["id"].encode("utf-8", "surrogatepass")).digest()[0] % 2:
        keys.reverse()
    texts = {f"response_{at}": row[key][0]["content"] for at, key in enumerate(keys, 1)}
    suggested = {"value": f"response_{keys.index('chosen') + 1}", "score": row["chosen_prob"]}
    fields = {"prompt": row["prompt"], **texts}
    return [record | {"fields": fields, "suggestions": {"preference": suggested}}]


def _write_array(stream: IO[bytes], rows: Iterable[Row], kind: Kind) -> int:
    number = 0
    for row in rows:
        stream.write(b",\n" if number else b"[\n")
        stream.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8"))
        number += 1
    stream.write(b"\n]\n")
    return number


def _one_answer(turns: Sequence[Turn], program: str) -> list[Turn]:
    """The turns, where the assistant speaks in the last one alone: these programs train on all it says."""
    if any(turn["role"] == "assistant" for turn in turns[:-1]):
        raise NotExportable(f"an earlier answer in the prompt, which {program} would train on")
    return _plain(turns)


def _plain(turns: Sequence[Turn]) -> list[Turn]:
    return [{"role": turn["role"], "content": turn["content"]} for turn in turns]


OPENAI = ExportFormat(
    "-openai.jsonl",
    write_jsonl,
    _openai,
    kinds=("sft", "preferences"),
    trained=False,
    about="Files of OpenAI's fine-tuning: `messages`; `input`, `preferred_output`, `non_preferred_output`.",
)
OPENRLHF = ExportFormat(
    "-openrlhf.jsonl",
    write_jsonl,
    _openrlhf,
    trained=False,
    about="For OpenRLHF with its apply_chat_template: `input` and `output`; `prompt`, `chosen`, `rejected`.",
)
VERL = ExportFormat(
    "-verl.parquet",
    _write_verl,
    _verl,
    kinds=("sft", "prompts"),
    trained=False,
    about="For verl: `messages`, or `prompt` with `reward_model` for its RL.",
)
NEMO_RL = ExportFormat(
    "-nemo-rl.jsonl",
    write_jsonl,
    _nemo_rl,
    kinds=("sft", "preferences"),
    trained=False,
    about="For NeMo-RL: `messages`; `context` with ranked `completions`, rank 0 the better one.",
)
ARGILLA = ExportFormat(
    "-argilla.json",
    _write_array,
    _argilla,
    kinds=("sft", "preferences"),
    trained=False,
    about="Records of Argilla (`Dataset.records.from_json`); the label is a suggestion for `preference`.",
)
