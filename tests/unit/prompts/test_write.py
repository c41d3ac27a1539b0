"""Prompts through the real driver and store: counts that add up, resume, copies, and what worked."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from evals_fakes import FakeEngine, FakeSample
from registry_examples import add_module, example
from scripted import constitution

from constitute.cli.main import cli
from constitute.config import LabelConfig, RunConfig
from constitute.config.prompts import WritePromptsConfig
from constitute.constitution.write import to_yaml
from constitute.data.prompts import read_prompts
from constitute.errors import GateFailed, UsageError
from constitute.prompts import METHODS
from constitute.prompts.methods import Shot, by_score
from constitute.prompts.score import by_likelihood
from constitute.prompts.write import write_prompts
from constitute.types import Completion, Message, Principle, Request, Score

NAMES = "apples bridges clouds dogs eagles forests glaciers hills islands jungles kites lakes"
THINGS = NAMES.split()
BAD = ("eagles", "dogs")


def author(request: Request, step: str) -> str | Completion:
    """Lists of three; some answers hold nothing, some are cut off, some repeat; replies echo their prompt."""
    text = request.messages[-1].content
    if "numbered list" not in text and "Go on with the list" not in text:
        return f"A reply about {text}"
    seed = request.sampling.seed or 0
    if seed % 7 == 0:
        return "Here is a list:"
    one, two = THINGS[seed % 12], THINGS[seed // 12 % 12]
    said = f'Sure!\n1. "Where do {one} live with {two}?"\n2. Hi\n3. Who sells {two} to {one} here?'
    return Completion(text=said, finish_reason="length") if seed % 5 == 0 else said


def judge(request: Request, step: str, label: str) -> float:
    """Replies about some animals break every principle."""
    bad = any(name in request.messages[-1].content for name in BAD)
    return {"Yes": 0.1 if bad else 0.9, "No": 0.8 if bad else 0.05}[label.strip()]


def engine() -> FakeEngine:
    return FakeEngine(FakeSample(author, judge))


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(constitution()), encoding="utf-8")
    cfg = WritePromptsConfig(n=30, per_answer=3, oversample=3)
    return RunConfig(run=tmp_path / "run", model="m", constitution=str(file), write_prompts=cfg)


def with_(config: RunConfig, **changes: Any) -> RunConfig:
    return config.model_copy(update={"write_prompts": config.write_prompts.model_copy(update=changes)})


def test_prompts_add_up_and_are_read_by_generate(config: RunConfig) -> None:
    written = write_prompts(config, engine=engine())
    (one,) = written.figures
    assert (
        sum(one.answers.values()) == 30
        and one.answers["abstain"] == one.reasons["the answer holds no prompt"] > 0
    )
    assert one.found == one.kept + sum(one.dropped.values()) == 3 * one.answers["ok"]
    assert one.dropped["fewer than 3 words"] > 0 and one.dropped["cut off"] > 0
    assert one.dropped["repeats an earlier prompt"] > 0
    rows = [json.loads(line) for line in written.path.read_text().splitlines()]
    assert len(rows) == one.kept and {row["principle"] for row in rows} == {"kind", "brief", "safe"}
    assert all(row["method"] == "zero_shot" and row["parents"] == [] and row["seed"] == 0 for row in rows)
    prompts, bad = read_prompts(written.path)
    assert [(p.id, p.messages[0].content) for p in prompts] == [(row["id"], row["prompt"]) for row in rows]
    assert not bad
    about = json.loads(written.path.with_suffix(".json").read_text())
    assert about["figures"][0]["diversity"]["n"] == one.kept and about["templates"]["prompts_write"]


def test_the_same_command_asks_nothing_and_writes_the_same_bytes(config: RunConfig) -> None:
    first = with_(config, methods=("zero_shot", "worked"), n=8)
    path = write_prompts(first, engine=engine()).path
    before = path.read_bytes()
    again = engine()
    assert write_prompts(first, engine=again).path.read_bytes() == before
    assert again.sample.asked == []
    write_prompts(with_(first, n=12), engine=again)
    assert again.sample.asked


def test_what_worked_is_shown_again_and_never_counted_as_new(config: RunConfig) -> None:
    known = with_(config, methods=("zero_shot", "worked"), n=12, shots=2, temperature=0.02)
    asked = engine()
    written = write_prompts(known, engine=asked)
    zero, worked = written.figures
    by_id = {row.id: row for row in written.prompts}
    scores = {row.id: row.score for row in written.prompts if row.method == "zero_shot"}
    for row in written.prompts:
        assert row.score == pytest.approx(
            0.8 / 0.9 if any(name in row.prompt for name in BAD) else 0.05 / 0.95
        )
    parents = [by_id[name] for row in written.prompts for name in row.parents if row.method == "worked"]
    assert parents and all(parent.method == "zero_shot" for parent in parents)
    mean = sum(score or 0 for score in scores.values()) / len(scores)
    assert sum(parent.score or 0 for parent in parents) / len(parents) > mean
    assert zero.broken.n == zero.kept and zero.broken.value == pytest.approx(mean)
    assert worked.found == worked.kept + sum(worked.dropped.values())
    text = (
        next(r for _, r, _ in asked.sample.asked if "Go on with" in r.messages[0].content).messages[0].content
    )
    assert "up to number 5" in text and text.count("\n1. ") == text.count("\n2. ") == 1
    assert Counter(row.prompt for row in written.prompts).most_common(1)[0][1] == 1


def test_copies_of_the_examples_are_left_out(config: RunConfig, tmp_path: Path) -> None:
    file = tmp_path / "e.jsonl"
    texts = [f"Where do {a} live with {b}?" for a in THINGS for b in THINGS]
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    shown = with_(config, methods=("few_shot",), shots=64)
    (one,) = write_prompts(shown, examples=str(file), engine=engine()).figures
    assert one.dropped["copies an example"] > 10
    assert one.found == one.kept + sum(one.dropped.values())


def test_prompts_are_drawn_by_exp_of_score_over_temperature() -> None:
    pool = [Shot(id=str(at), text=str(at), score=score) for at, score in enumerate((0.0, 0.1, 0.3))]
    pool.append(Shot(id="none", text="none"))
    rng = random.Random(3)
    cfg = WritePromptsConfig(shots=1, temperature=0.1)
    drawn = Counter(by_score(pool, cfg, rng)[0].id for _ in range(20_000))
    weights = {"0": 1.0, "1": 2.718282, "2": 20.085537}
    for name, weight in weights.items():
        # Four standard errors of a share of 20,000 draws are below 0.0142.
        assert drawn[name] / 20_000 == pytest.approx(weight / sum(weights.values()), abs=0.0142)
    assert drawn["none"] == 0
    assert sorted(shot.id for shot in by_score(pool, WritePromptsConfig(shots=9), rng)) == ["0", "1", "2"]


def test_nothing_is_drawn_as_what_worked_where_nothing_was_scored(config: RunConfig) -> None:
    unsure = FakeEngine(FakeSample(author, lambda request, step, label: 0.001))
    wanted = r"worked has 8 earlier prompts and a score of none .* 0.002 is below 0.1"
    with pytest.raises(GateFailed, match=wanted):
        write_prompts(with_(config, methods=("zero_shot", "worked"), n=8), engine=unsure)
    with pytest.raises(UsageError, match=r"no such write_prompts.score: 'yesno'; did you mean 'yes_no'\?"):
        write_prompts(with_(config, score="yesno"), engine=unsure)


class Scoring(FakeSample):
    """A reply has -2 nats a token, and one more under the principle that it keeps to."""

    async def score(
        self, request: Request, text: str, *, step: str, principle: Principle | None = None
    ) -> Score:
        kept = step == "score-follow" and text == "kept"
        return Score(token_ids=(1, 2), logprobs=(-2.0, -1.9 if kept else -2.1))


async def test_the_likelihood_of_a_reply_is_a_score() -> None:
    asked = (Message(role="user", content="Why?"),)
    about = constitution().principles[0]
    # (-3.9 + 4.1) / 2 tokens is 0.1 nats a token, and 0.1 nats are log-odds of 1.
    kept = await by_likelihood(asked, "kept", about, Scoring(), LabelConfig())
    assert kept == pytest.approx(1 / (1 + math.e))
    assert await by_likelihood(asked, "else", about, Scoring(), LabelConfig()) == 0.5


def test_given_scores_are_taken_as_they_are(config: RunConfig, tmp_path: Path) -> None:
    file = tmp_path / "e.jsonl"
    rows = [{"id": f"e{at}", "prompt": f"Number {at} of my questions?", "score": at} for at in range(9)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    known = with_(config, methods=("worked",), n=5, shots=1, temperature=0.01).model_copy(
        update={"constitution": None}
    )
    written = write_prompts(known, ["the weather"], str(file), engine=engine())
    assert {row.parents for row in written.prompts} == {("e8",)}
    assert {row.topic for row in written.prompts} == {"the weather"} and written.figures[0].broken.n == 0


def test_a_further_method_is_one_module_and_one_line(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_module(monkeypatch, "newest_method", example("A way to write prompts"))
    monkeypatch.setitem(METHODS, "newest", "newest_method:NEWEST")
    file = tmp_path / "e.jsonl"
    rows = [{"id": f"e{at}", "prompt": f"Number {at} of my questions?"} for at in range(9)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    written = write_prompts(with_(config, methods=("newest",), shots=2), examples=str(file), engine=engine())
    assert {row.parents for row in written.prompts} == {("e7", "e8")}
    with pytest.raises(UsageError, match="the method newest has no examples to show"):
        write_prompts(with_(config, methods=("newest",)), engine=engine())


@pytest.mark.parametrize(
    ("methods", "part"),
    [
        (("zeroshot",), "no such method of writing prompts: 'zeroshot'; did you mean 'zero_shot'"),
        (("worked",), "no earlier prompts to choose from"),
        (("few_shot",), "no examples to show; give --examples FILE"),
        ((), "no method to write prompts by"),
    ],
)
def test_what_cannot_start_is_refused_before_a_model_is_asked(
    config: RunConfig, methods: tuple[str, ...], part: str
) -> None:
    asked = engine()
    with pytest.raises(UsageError, match=part):
        write_prompts(with_(config, methods=methods), engine=asked)
    assert asked.sample.asked == []


def test_nothing_kept_is_one_sentence(config: RunConfig) -> None:
    silent = FakeEngine(FakeSample(lambda request, step: "Here is a list:"))
    with pytest.raises(GateFailed, match=r"no prompt was kept \(the answer holds no prompt: 30\)"):
        write_prompts(config, engine=silent)
    with pytest.raises(UsageError, match="nothing to write prompts about"):
        write_prompts(config.model_copy(update={"constitution": None}), engine=engine())


def test_the_command(config: RunConfig, tmp_path: Path) -> None:
    words = ["prompts", "write", "--run", str(tmp_path / "run"), "--model", "m", "-n", "4"]
    words += ["--constitution", str(config.constitution), "--set", "engine.kind=fake"]
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    assert done.exception is None, done.output
    assert "zero_shot" in done.output and "self-BLEU" in done.output
