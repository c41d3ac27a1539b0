"""A large run, written through the store as the stages write it, and large files of pairs: at disk speed.

Texts are words of the packaged constitution, 60 to 120 an answer. Everything follows from the number of rows.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from constitute.config import RunConfig
from constitute.constitution.read import load_constitution
from constitute.packaged import find
from constitute.stages.card import note_card
from constitute.store import Store
from constitute.store.manifest import save_config, write_manifest
from constitute.types import (
    Comparison,
    CritiqueRevision,
    LabelledPair,
    Message,
    Outcome,
    PreferenceLabel,
    PrincipleVote,
    Prompt,
    Response,
)

# Rows in one commit: single commits are what a run makes, and cost most of the time of writing one.
_TOGETHER = 500
_FAILED, _ABSTAIN = 50, 40
VOTES = 4


def write_run(folder: Path, rows: int, *, answers: bool, first: int = 0) -> None:
    """A run of `rows` prompts from the number `first`: response, revision, label with 4 votes in both orders.

    Every 50th row of `generate` failed, every 40th of `label` abstained. With `answers`, every question's
    answer is there too, 11 a row.
    """
    constitution = load_constitution("assistant")
    names = [principle.id for principle in constitution.principles]
    settings = {"seed": 0, "constitution": "0", "model": {"engine": "fake", "name": "synthetic"}}
    write = _Words(first)
    with Store.open(folder) as store:
        for stage in ("generate", "revise", "label"):
            store.put_meta(f"stage:{stage}", {**settings, stage: {}})
        for start in range(first, first + rows, _TOGETHER):
            store.write("BEGIN")
            for at in range(start, min(start + _TOGETHER, first + rows)):
                _row(store, at, names, write, answers)
            store.write("COMMIT")
        note_card(store)
        config = RunConfig(run=folder, model="synthetic", constitution="assistant", prompts="prompts.jsonl")
        save_config(folder, config)
        write_manifest(store, config, constitution)


def _row(store: Store, at: int, names: list[str], write: _Words, answers: bool) -> None:
    prompt = Prompt(
        id=hashlib.sha256(f"{at}".encode()).hexdigest()[:16],
        messages=(Message(role="user", content=write.text(15, 30)),),
        source="prompts.jsonl",
    )
    name, place = f"{prompt.id}/0", at * 1024
    if at % _FAILED == _FAILED - 1:
        reason = "response was cut at 256 tokens"
        outcome = Outcome(row_id=name, position=place, status="failed", reason=reason)
        store.add_attempt(f"{at}", "generate", name, reason, {"text": write.text(60, 120)})
        store.put_outcome("generate", outcome, "0" * 16)
        return
    row = Response(id=name, prompt=prompt, sample=0, response=write.text(60, 120))
    _ok(store, "generate", place, row)
    step = CritiqueRevision(
        principle_id=names[at % len(names)], critique=write.text(30, 50), revision=write.like(row.response)
    )
    row = row.model_copy(update={"steps": (step,)})
    _ok(store, "revise", place, row)
    pair = Comparison(
        id=f"{name}-rev",
        prompt=prompt,
        a=row.response,
        b=step.revision,
        a_source="response",
        b_source="revision 1",
    )
    if at % _ABSTAIN == _ABSTAIN - 1:
        reason = "A and B have 0.04 of the probability"
        store.put_outcome("label", Outcome(row_id=pair.id, position=place, status="abstain", reason=reason))
    else:
        votes = tuple(write.vote(names[(at + n) % len(names)]) for n in range(VOTES))
        label = PreferenceLabel(
            p_a=sum(vote.p_a for vote in votes) / VOTES,
            votes=votes,
            decided_by=tuple(vote.principle_id for vote in votes),
        )
        _ok(store, "label", place, LabelledPair(id=pair.id, comparison=pair, label=label))
    for number in range(3 + 2 * VOTES) if answers else ():
        stage = ("generate", "revise", "revise", *["label"] * 8)[number]
        asked = {"step": stage, "messages": [m.model_dump() for m in prompt.messages], "text": row.response}
        key = hashlib.sha256(f"{at} {number}".encode()).hexdigest()
        store.put_answer(key, stage, name, asked, {"text": step.revision, "token_ids": list(range(100))})


def _ok(store: Store, stage: str, place: int, row: Response | LabelledPair) -> None:
    data = row.model_dump(mode="json")
    store.put_outcome(stage, Outcome(row_id=row.id, position=place, status="ok", data=data), "0" * 16)


class _Words:
    """Texts and votes drawn from one stream."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._known = find("assistant", "constitutions", ".yaml").read_text(encoding="utf-8").split()

    def text(self, least: int, most: int) -> str:
        return " ".join(self._rng.choices(self._known, k=self._rng.randint(least, most)))

    def like(self, text: str) -> str:
        """The text with a fifth of its words replaced."""
        words = text.split()
        for at in range(0, len(words), 5):
            words[at] = self._rng.choice(self._known)
        return " ".join(words)

    def vote(self, name: str) -> PrincipleVote:
        side = self._rng.betavariate(2, 3)
        other = min(1.0, max(0.0, side + self._rng.gauss(0, 0.15)))
        return PrincipleVote(
            principle_id=name, weight=1.0, p_ab=side, p_ba=other, mass_ab=0.95, mass_ba=self._rng.random()
        )


def pair_rows(seed: int = 0) -> Iterator[dict[str, Any]]:
    """Endless rows with a prompt and two answers, each of its own."""
    write = _Words(seed)
    number = 0
    while True:
        number += 1
        yield {
            "prompt": f"{number} {write.text(15, 30)}",
            "chosen": write.text(60, 120),
            "rejected": write.text(60, 120),
        }


def write_file(path: Path, size: int) -> int:
    """A file of pairs of about `size` bytes of JSON, of the kind that its ending says; returns its rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, written, number = pair_rows(), 0, 0
    if path.suffix == ".parquet":
        schema = pa.schema([(name, pa.string()) for name in ("prompt", "chosen", "rejected")])
        with pq.ParquetWriter(path, schema) as writer:
            while written < size:
                batch = [next(rows) for _ in range(10_000)]
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                written += sum(len(text) + 14 for row in batch for text in row.values())
                number += len(batch)
        return number
    packed = path.suffix == ".zst"
    with pa.output_stream(str(path), compression="zstd" if packed else None) as stream:
        if path.suffix == ".csv":
            stream.write(b"prompt,chosen,rejected\n")
        while written < size:
            row = next(rows)
            if path.suffix == ".csv":
                text = ",".join('"' + value.replace('"', '""') + '"' for value in row.values())
            else:
                text = json.dumps(row, ensure_ascii=False)
            written += stream.write(f"{text}\n".encode())
            number += 1
    return number
