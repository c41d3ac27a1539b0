"""Samples of lm-evaluation-harness (`--log_samples`): the log-likelihood of each choice, item by item."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from constitute.errors import DataError
from constitute.evals.imports.base import (
    LogFormat,
    LogItem,
    SetLog,
    digest_of,
    logged_item,
    one_set,
    refuse_twice,
)
from constitute.files import BadLine, Row, json_lines, read_json

_NEEDED = ("doc_id", "doc", "target", "arguments", "filtered_resps", "filter")
_OTHER_VERSION = "it is of another version of lm-eval (0.4 is read)"


def detect(path: Path) -> bool:
    """Whether the file is named as samples are."""
    return path.name.startswith("samples_") and path.suffix == ".jsonl"


def read(path: Path) -> SetLog:
    """One task's samples; the model's name is in the results beside them."""
    lines: list[Row] = []
    for line in json_lines(path):
        if isinstance(line, BadLine):
            raise DataError(f"{line.where}: {line.reason}; each line must be one JSON object")
        missing = [key for key in _NEEDED if key not in line.value]
        if missing:
            raise DataError(
                f"{line.where}: {missing[0]!r} is missing; {_OTHER_VERSION}, or no log of samples"
            )
        lines.append(line)
    rows = [_row(line) for line in lines]
    refuse_twice(str(path), rows, "give the log of a task with one filter and one choice of answers an item")
    docs = [line.value["doc"] for line in lines]
    named = one_set(str(path), docs)
    results = _results(path)
    if named is None:
        task = path.stem.removeprefix("samples_").rpartition("_")[0]
        named = task, len(rows), digest_of(line.value.get("doc_hash", line.value["doc"]) for line in lines)
    return SetLog(
        set=named[0],
        size=named[1],
        items_hash=named[2],
        via="lm-eval",
        model={
            "engine": f"lm-eval {results.get('lm_eval_version', '')}".strip(),
            "name": str(results.get("model_name") or path.resolve().parent.name),
            "template_hash": str(results.get("chat_template_sha") or "")[:16],
        },
        rows=tuple(rows),
    )


def _results(path: Path) -> dict[str, Any]:
    """The results of the same run, which lie beside the samples; empty where they do not."""
    beside = path.with_name(f"results_{path.stem.rpartition('_')[2]}.json")
    value = read_json(beside) if beside.is_file() else {}
    return value if isinstance(value, dict) else {}


def _row(line: Row) -> LogItem:
    where, row = line
    if not isinstance(row["doc"], dict) or not isinstance(row["arguments"], dict | list):
        raise DataError(f"{where}: 'doc' or 'arguments' is not what it should be; {_OTHER_VERSION}")
    asked = _arguments(where, row["arguments"])
    # acc_mutual_info asks for every choice again, without a question.
    conditional = [at for at, (context, _) in enumerate(asked) if context == asked[0][0]]
    logprobs = _logprobs(where, row["filtered_resps"], conditional)
    showing = _places(where, row, len(conditional))
    doc = row["doc"]
    ours = "items_hash" in doc
    item = logged_item(
        where,
        id=str(doc["id"] if ours and "id" in doc else row["doc_id"]),
        question=asked[0][0],
        options=tuple(asked[at][1] for at in conditional),
        matching=showing,
        context=str(doc.get("context") or "") if ours else "",
    )
    return LogItem(item=item, logprobs=logprobs)


def _arguments(where: str, given: Any) -> list[tuple[str, str]]:
    """(context, continuation) of each request; 0.4 writes them as `gen_args_0: {arg_0, arg_1}`."""
    if isinstance(given, Mapping):
        given = [list(args.values()) if isinstance(args, Mapping) else args for args in given.values()]
    pairs = [tuple(args) for args in given if isinstance(args, list) and len(args) == 2]
    if not pairs or len(pairs) < len(given) or not all(isinstance(x, str) for pair in pairs for x in pair):
        raise DataError(
            f"{where}: no choices were compared; only tasks with output_type: multiple_choice can be imported"
        )
    return [(context, text) for context, text in pairs]


def _logprobs(where: str, answers: Any, places: list[int]) -> tuple[float, ...]:
    """Log-likelihoods of the choices; they are written as texts."""
    try:
        found = tuple(float(answers[at][0]) for at in places)
    except (TypeError, ValueError, LookupError):
        raise DataError(
            f"{where}: 'filtered_resps' has no log-likelihood a choice; {_OTHER_VERSION}"
        ) from None
    if any(math.isnan(value) or value > 1e-3 for value in found):
        raise DataError(f"{where}: {max(found)} is no log-likelihood; it must be 0 or less")
    return found


def _places(where: str, row: Mapping[str, Any], n: int) -> tuple[int, ...]:
    """The places of the right choices."""
    ours = "items_hash" in row["doc"] and "gold" in row["doc"]
    gold = row["doc"]["gold"] if ours else row["target"]
    try:
        places = tuple(int(at) for at in (gold if isinstance(gold, list) else [gold]))
    except (TypeError, ValueError):
        raise DataError(f"{where}: 'target' is {gold!r}, not the place of a choice") from None
    if not all(0 <= at < n for at in places):
        raise DataError(f"{where}: 'target' is {gold!r}, and there are {n} choices")
    return places


FORMAT = LogFormat("samples_*.jsonl of lm-eval (--log_samples)", detect, read)
