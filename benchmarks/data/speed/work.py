"""The two workloads as files that every side reads: the rows, their questions and the settings of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from constitute.config import LabelConfig, RunConfig, load_config
from constitute.constitution.draw import draw
from constitute.constitution.read import load_constitution
from constitute.constitution.write import loadable
from constitute.data.pairs import read_pairs
from constitute.data.prompts import read_prompts
from constitute.engines.render import Renderer, RenderSettings
from constitute.engines.tokenizer import load_tokenizer, turn_ends
from constitute.packaged import SMOLLM, model_path
from constitute.stages.generate import slot
from constitute.stages.labels.choice import comparison_turn
from constitute.templates import render
from constitute.types import Comparison, Constitution, Message, Prompt, Request

PRINCIPLES = 4
# Limit of every answer.
TOKENS = 64
IN_FLIGHT = 256
# The constitution that suits a model; only these tags of it.
CONSTITUTIONS = {"pocket": ("pocket/harmless", ()), SMOLLM: ("assistant", ("harmless",))}
# Words around a chain's texts and the ends of turns, in tokens.
_MARGIN = 48


@dataclass(frozen=True)
class Workload:
    """What a run of the benchmark does; written to `folder/work.json` for the peers' processes."""

    kind: str
    model: str
    path: str
    rows: int
    tokens: int
    temperature: float
    in_flight: int
    folder: str
    context: int
    url: str = ""

    @classmethod
    def of(cls, kind: str, model: str, rows: int, folder: str, url: str = "") -> Workload:
        """A workload at its usual settings; `rows` are wanted, `prepare` says how many there are."""
        path = str(Path(model_path(model)).resolve())
        return cls(kind, model, path, rows, TOKENS, 1.0, IN_FLIGHT, folder, context(path), url)

    @property
    def chain(self) -> tuple[str, ...]:
        """The stages of our side."""
        return ("generate", "revise") if self.kind == "a" else ("label",)

    @property
    def last(self) -> str:
        """The stage at whose end a row is finished."""
        return self.chain[-1]


def save(work: Workload) -> Path:
    """Write the workload where its processes find it."""
    path = Path(work.folder) / "work.json"
    path.write_text(json.dumps(asdict(work)), encoding="utf-8")
    return path


def load(path: str) -> Workload:
    """The workload that `save` wrote."""
    return Workload(**json.loads(Path(path).read_text(encoding="utf-8")))


def run_config(work: Workload, *, served: bool) -> RunConfig:
    """The configuration of our side, with the model in this process or behind the workload's server."""
    sampled = {"max_tokens": work.tokens, "temperature": work.temperature, "keep_truncated": True}
    given: dict[str, Any] = {
        "model": work.url if served else work.model,
        "constitution": str(Path(work.folder) / "constitution.yaml"),
        "run": work.folder,
        "engine.in_flight": work.in_flight,
        "label.principles": "all",
        # A model that says neither A nor B is asked as often as a good judge.
        "label.min_mass": 0.0,
    }
    for stage in ("generate", "revise"):
        given |= {f"{stage}.{key}": value for key, value in sampled.items()}
    if not served:
        given["engine.context_length"] = work.context
    return load_config(overrides=given)


def context(path: str) -> int:
    """Tokens of context for a model: its own, and no more than the workloads need."""
    own = json.loads((Path(path) / "config.json").read_text(encoding="utf-8"))["max_position_embeddings"]
    return min(int(own), 2048)


def read_rows(work: Workload) -> Sequence[Prompt] | Sequence[Comparison]:
    """The rows that `prepare` chose."""
    path = Path(work.folder) / "rows.jsonl"
    kind: Any = Prompt if work.kind == "a" else Comparison
    return [kind.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines()]


def prepare(work: Workload, source: str) -> int:
    """Choose the first rows of `source` that fit the context and write rows, peers' rows and constitution.

    Returns how many rows there are. The peers' rows hold the words of every request, filled in by our own
    templates, so that all sides send the same conversations.
    """
    folder, constitution = Path(work.folder), _constitution(work.model)
    (folder / "constitution.yaml").write_text(loadable(constitution), encoding="utf-8")
    measure = _Tokens(work)
    rows: Sequence[Any]
    if work.kind == "a":
        prompts, _ = read_prompts(source, skip_bad=True)
        rows = list(islice((row for row in prompts if measure.fits_chain(row, constitution)), work.rows))
        asked = [_chain_row(row, constitution) for row in rows]
    else:
        pairs, _ = read_pairs(source, skip_bad=True)
        fit = (row for row in pairs if row.a != row.b and measure.fits_label(row, constitution))
        rows = list(islice(fit, work.rows))
        asked = [question for row in rows for question in _label_rows(row, constitution)]
    lines = "".join(row.model_dump_json() + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    (folder / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked), encoding="utf-8")
    return len(rows)


def _constitution(model: str) -> Constitution:
    name, tags = CONSTITUTIONS[model]
    whole = load_constitution(name, tags)
    return whole.model_copy(update={"principles": whole.principles[:PRINCIPLES]})


class _Tokens:
    """Measures conversations in tokens of the workload's model."""

    def __init__(self, work: Workload) -> None:
        tokenizer = load_tokenizer(work.path)
        ends = turn_ends(work.path, tokenizer)
        self._renderer = Renderer(tokenizer, work.model, ends, RenderSettings.of(load_config().engine))
        self._room = work.context
        self._sampled = work.tokens

    def of(self, messages: Sequence[Message]) -> int:
        return len(self._renderer.ids(Request(messages=tuple(messages))))

    def fits_chain(self, row: Prompt, constitution: Constitution) -> bool:
        asked = _chain_row(row, constitution)
        words = [Message(role="user", content=asked[key]) for key in ("critique_request", "revise_request")]
        return self.of((*row.messages, *words)) + 3 * self._sampled + _MARGIN <= self._room

    def fits_label(self, row: Comparison, constitution: Constitution) -> bool:
        turns = (comparison_turn(row, principle) for principle in constitution.principles)
        return max(self.of(turn) for turn in turns) + _MARGIN <= self._room


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _chain_row(row: Prompt, constitution: Constitution) -> dict[str, Any]:
    principle = draw(constitution, slot(row, 0).id, 0)
    given = {"principle": principle, "messages": row.messages, "answer": ""}
    return {
        "id": row.id,
        "messages": _plain(row.messages),
        "critique_request": render("critique", **given),
        "revise_request": render("revise", **given),
    }


def _label_rows(row: Comparison, constitution: Constitution) -> list[dict[str, Any]]:
    cfg = LabelConfig()
    return [
        {
            "id": f"{row.id} {principle.id} {order}",
            "messages": _plain(comparison_turn(pair, principle, cfg)),
        }
        for order, pair in (("AB", row), ("BA", row.swap()))
        for principle in constitution.principles
    ]
