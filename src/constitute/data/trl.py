"""The data set types of TRL that are not a run's own rows, in messages and as the transcripts of HH.

A run's rows are already TRL's conversational types: language modelling, preference with an explicit prompt,
prompt-only (https://huggingface.co/docs/trl/dataset_formats).
"""

from __future__ import annotations

from collections.abc import Sequence

from constitute.data.formats import ExportFormat, Kind, NotExportable, Row, Turn, write_jsonl
from constitute.hh import format_hh
from constitute.types import Message

# What a transcript ends with where the answer begins.
_OPENING = "\n\nAssistant:"


def _hh(row: Row, kind: Kind) -> list[Row]:
    """Whole transcripts: `text`, `chosen` and `rejected` without a `prompt`, or a prompt to go on from."""
    if kind == "prompts":
        return [{"id": row["id"], "prompt": _split([*row["prompt"], _EMPTY])[0]}]
    if kind == "sft":
        text = _transcript(row["messages"])
        return [{"id": row["id"], "text": text, "principle_ids": row["principle_ids"]}]
    sides = {key: _transcript([*row["prompt"], *row[key]]) for key in ("chosen", "rejected")}
    return [{key: sides.get(key, value) for key, value in row.items() if key != "prompt"}]


def _hh_prompt(row: Row, kind: Kind) -> list[Row]:
    """Transcripts cut at the answer: `prompt` with `completion`, or with `chosen` and `rejected`."""
    if kind == "prompts":
        return _hh(row, kind)
    if kind == "sft":
        prompt, answer = _split(row["messages"])
        return [{"id": row["id"], "prompt": prompt, "completion": answer}]
    prompt, chosen = _split([*row["prompt"], *row["chosen"]])
    _, rejected = _split([*row["prompt"], *row["rejected"]])
    return [row | {"prompt": prompt, "chosen": chosen, "rejected": rejected}]


def _implicit(row: Row, kind: Kind) -> list[Row]:
    """Preference rows whose prompt stands in both conversations."""
    sides = {key: [*row["prompt"], *row[key]] for key in ("chosen", "rejected")}
    return [{key: sides.get(key, value) for key, value in row.items() if key != "prompt"}]


def _unpaired(row: Row, kind: Kind) -> list[Row]:
    """Each answer as a row of its own, labelled true where it is the preferred one."""
    return [
        {
            "id": f"{row['id']}/{key}",
            "prompt": row["prompt"],
            "completion": row[key],
            "label": key == "chosen",
        }
        for key in ("chosen", "rejected")
    ]


def _prompt_completion(row: Row, kind: Kind) -> list[Row]:
    *prompt, answer = row["messages"]
    return [{"id": row["id"], "prompt": prompt, "completion": [answer]}]


_EMPTY: Turn = {"role": "assistant", "content": ""}


def _split(turns: Sequence[Turn]) -> tuple[str, str]:
    """A transcript up to the mark before its last answer, and that answer with the blank before it."""
    text, answer = _transcript(turns), f" {turns[-1]['content']}"
    return text.removesuffix(answer), answer


def _transcript(turns: Sequence[Turn]) -> str:
    *before, last = (Message(role=turn["role"], content=turn["content"]) for turn in turns)
    try:
        return format_hh(before, last.content)
    except ValueError as problem:
        raise NotExportable(str(problem)) from None


HH = ExportFormat("-hh.jsonl", write_jsonl, _hh, "`text`: the transcript")
HH_PROMPT = ExportFormat(
    "-hh-prompt.jsonl", write_jsonl, _hh_prompt, "`prompt` and `completion`: the transcript"
)
IMPLICIT = ExportFormat("-implicit.jsonl", write_jsonl, _implicit, kinds=("preferences",))
UNPAIRED = ExportFormat(
    "-unpaired.jsonl",
    write_jsonl,
    _unpaired,
    kinds=("preferences",),
    trained=False,
    about="Each pair gives two rows, `prompt`, `completion` and `label`: true for the preferred answer.",
)
PROMPT_COMPLETION = ExportFormat(
    "-prompt-completion.jsonl",
    write_jsonl,
    _prompt_completion,
    "`prompt` and `completion`: the conversation",
    kinds=("sft",),
)
