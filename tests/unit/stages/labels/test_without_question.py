"""likelihood and reasoned: votes worked by hand, what is asked, and what cannot be voted on."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from scripted import ScriptedEngine, constitution, principle, prompt

from constitute.cli.main import cli
from constitute.config import EngineConfig, LabelConfig, RunConfig
from constitute.config.data import LikelihoodConfig
from constitute.constitution.write import to_yaml
from constitute.engines import open_engine
from constitute.engines.base import Engine
from constitute.errors import RowError, UsageError
from constitute.pipeline import run_stages
from constitute.pipeline.sampler import Sampler
from constitute.pipeline.stage_run import StageRun
from constitute.progress import Silent
from constitute.stages.labels.likelihood import likelihood
from constitute.stages.labels.reasoned import reasoned
from constitute.store import Store
from constitute.templates import render
from constitute.types import Choice, Comparison, Completion, LabelledPair, Request, Score

AGAINST_NONE = LabelConfig(likelihood=LikelihoodConfig(against="none"))
LOGPROB = {"abs": 1e-4}
PAIR = Comparison(id="p/0-1", prompt=prompt("p", "Hello?"), a="Hi.", b="Go away.")
# Sums over 2 tokens for A and 4 for B, by step and answer.
SUMS = {
    ("score-follow", "Hi."): -2.0,
    ("score-none", "Hi."): -3.0,
    ("score-opposite", "Hi."): -5.0,
    ("score-follow", "Go away."): -8.0,
    ("score-none", "Go away."): -4.0,
    ("score-opposite", "Go away."): -2.0,
}


class Judge:
    """Scores from `SUMS`; reasons with `reasoning`; gives the option shown first probability `first`."""

    def __init__(self, first: float = 0.5, reasoning: str = " It is kind. ") -> None:
        self.first, self.reasoning = first, reasoning
        self.asked: list[tuple[str, Request, str]] = []

    async def score(self, request: Request, text: str, *, step: str, **_: Any) -> Score:
        self.asked.append((step, request, text))
        n = 2 if text == "Hi." else 4
        return Score(token_ids=tuple(range(n)), logprobs=(SUMS[step, text] / n,) * n)

    async def generate(self, request: Request, *, step: str, **_: Any) -> Completion:
        self.asked.append((step, request, ""))
        return Completion(text=self.reasoning)

    async def choose(self, request: Request, labels: Sequence[str], *, step: str, **_: Any) -> Choice:
        self.asked.append((step, request, ""))
        first = self.first if step == "reasoned-ab" else 1 - self.first
        return Choice(labels=tuple(labels), logprobs=(math.log(0.8 * first), math.log(0.8 * (1 - first))))


@pytest.mark.parametrize(
    ("against", "per", "logit"),
    [
        # A: (-2 - -3) / 2 = 0.5; B: (-8 - -4) / 4 = -1.
        ("none", "token", 1.5),
        ("none", "sum", 1.0 + 4.0),
        ("opposite", "token", 1.5 + 1.5),
        ("opposite", "sum", 3.0 + 6.0),
    ],
)
async def test_a_vote_is_the_difference_of_differences(against: Any, per: Any, logit: float) -> None:
    cfg = LabelConfig(likelihood=LikelihoodConfig(against=against, per=per, beta=0.5))
    judge: Any = Judge()
    vote = await likelihood(PAIR, principle("kind"), 2.0, judge, cfg)
    assert vote.p_a == pytest.approx(1 / (1 + math.exp(-0.5 * logit)))
    assert (vote.weight, vote.p_ba, vote.mass_ab, vote.mass_ba, vote.flips) == (2.0, None, None, None, None)
    swapped = await likelihood(PAIR.swap(), principle("kind"), 2.0, judge, cfg)
    assert swapped.p_a == pytest.approx(1 - vote.p_a)
    follow = next(request for step, request, _ in judge.asked if step == "score-follow")
    assert [m.content for m in follow.messages] == [
        "Follow this principle in your answer: Be kind.",
        "Hello?",
    ]


async def test_an_empty_answer_has_no_likelihood() -> None:
    judge: Any = Judge()
    with pytest.raises(RowError, match="answer B is empty"):
        await likelihood(PAIR.model_copy(update={"b": " "}), principle("kind"), 1.0, judge, LabelConfig())


@pytest.mark.parametrize(("clamp", "p"), [((0.4, 0.6), 0.6), ((0.0, 1.0), 0.9)])
async def test_reasoning_is_shown_before_the_choice_which_is_clamped(clamp: Any, p: float) -> None:
    judge: Any = Judge(first=0.9)
    vote = await reasoned(PAIR, principle("kind"), 1.0, judge, LabelConfig(clamp=clamp))
    assert (vote.p_ab, vote.p_ba) == (pytest.approx(p), pytest.approx(p))
    assert vote.mass_ab == pytest.approx(0.8)
    by_step = {step: request for step, request, _ in judge.asked}
    assert by_step["reason-ab"].prefill == "Let's think step by step:"
    wanted = "Let's think step by step: It is kind.\n\nThe answer is:"
    assert by_step["reasoned-ab"].prefill == by_step["reasoned-ba"].prefill == wanted
    assert "(A) Go away." in by_step["reasoned-ba"].messages[0].content


async def test_no_reasoning_is_a_failed_row() -> None:
    judge: Any = Judge(reasoning=" ")
    with pytest.raises(RowError, match="the reasoning is empty under kind, order AB"):
        await reasoned(PAIR, principle("kind"), 1.0, judge, LabelConfig())


@pytest.mark.parametrize("clamp", [(0.3, 0.6), (0.6, 0.4), (-0.1, 1.1)])
def test_a_clamp_that_favours_one_answer_is_refused(clamp: Any) -> None:
    with pytest.raises(ValueError, match="equal distance"):
        LabelConfig(clamp=clamp)


async def test_an_answer_past_the_context_fails_with_its_name(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        engine = open_engine("fake", EngineConfig(kind="fake", context_length=16))
        sample = Sampler(StageRun("label", engine, store, 0, Silent()), "p/0-1")
        long = PAIR.model_copy(update={"b": "word " * 16})
        vote = await likelihood(PAIR, principle("x"), 1.0, sample, AGAINST_NONE)
        assert 0 < vote.p_a < 1
        with pytest.raises(
            RowError,
            match=r"answer B cannot be scored after its conversation: the prompt is \d+ tokens long and",
        ):
            await likelihood(long, principle("x"), 1.0, sample, AGAINST_NONE)


class Counting(ScriptedEngine):
    """Scores each answer by its hash, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.scored: list[tuple[str, str]] = []

    async def score(self, request: Request, text: str) -> Score:
        self.scored.append((request.messages[0].content, text))
        digest = await self._wait(request, (text,))
        return Score(token_ids=(1, 2), logprobs=(-digest[0] / 64, -digest[1] / 64))


@pytest.mark.parametrize(("against", "count"), [("none", 2 + 2 * 3), ("opposite", 2 * 2 * 3)])
def test_what_is_compared_against_is_asked_once_for_all_principles(
    tmp_path: Path, against: Any, count: int
) -> None:
    (tmp_path / "c.yaml").write_text(to_yaml(constitution("kind", "brief", "safe")))
    config = RunConfig(
        model="m",
        run=tmp_path / "run",
        constitution=str(tmp_path / "c.yaml"),
        label=LabelConfig(
            method="likelihood", principles="all", likelihood=LikelihoodConfig(against=against)
        ),
    )
    engine = Counting()
    counts = run_stages(config, ["label"], pairs=[PAIR], engine=engine)["label"]
    assert (counts.ok, counts.asked, len(engine.scored)) == (1, count, count)
    assert len(set(engine.scored)) == count
    # Three principles ask the four questions each.
    assert counts.asked + counts.reused == 12


@pytest.mark.parametrize(
    ("method", "ability"), [("likelihood", "score"), ("reasoned", "prefill"), ("reasoned", "choose")]
)
def test_an_engine_that_lacks_what_a_method_needs_is_refused_before_the_run(
    tmp_path: Path, method: str, ability: Any
) -> None:
    (tmp_path / "c.yaml").write_text(to_yaml(constitution("kind")))
    config = RunConfig(
        model="m",
        run=tmp_path / "run",
        constitution=str(tmp_path / "c.yaml"),
        label=LabelConfig(method=method),
    )
    engine = Counting()
    engine.lacks = {ability: "it gives no such thing; serve it with vLLM"}
    with pytest.raises(UsageError, match="label cannot run with scripted: it gives no such thing"):
        run_stages(config, ["label"], pairs=[PAIR], engine=engine)
    assert not engine.asked
    with Store.open(config.run, readonly=True) as store:
        assert store.counts("label")["ok"] == 0 and store.meta("stage:label") is None


@pytest.mark.parametrize(
    ("against", "per"), [("none", "token"), ("none", "sum"), ("opposite", "token"), ("opposite", "sum")]
)
async def test_a_vote_is_that_of_the_models_own_logits(tiny_model: Path, against: Any, per: Any) -> None:
    """Every number from one unpadded forward pass, text by text, over ids that are put together here."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)

    def said(instruction: str, answer: str) -> tuple[float, int]:
        """(log P of the answer, its tokens)."""
        system = f"<|im_start|>system\n{instruction}<|im_end|>\n" if instruction else ""
        turns = f"{system}<|im_start|>user\nHello?<|im_end|>\n<|im_start|>assistant\n"
        context, whole = (
            tokenizer(text, add_special_tokens=False).input_ids for text in (turns, turns + answer)
        )
        assert whole[: len(context)] == context
        with torch.no_grad():
            logits = model(torch.tensor([whole])).logits[0].double()
        total = sum(
            float(logits[at - 1, whole[at]] - logits[at - 1].logsumexp(-1))
            for at in range(len(context), len(whole))
        )
        return total, len(whole) - len(context)

    kind = principle("kind")
    instructions = {
        "follow": "Follow this principle in your answer: Be kind.",
        "none": "",
        "opposite": render("follow_opposite", principle=kind),
    }
    logit = 0.0
    for sign, answer in ((1, "Hi."), (-1, "Go away.")):
        for part, name in ((1, "follow"), (-1, against)):
            total, n = said(instructions[name], answer)
            logit += sign * part * (total / n if per == "token" else total)
    engine = open_engine(str(tiny_model), EngineConfig(kind="transformers"))
    try:
        how = LikelihoodConfig(against=against, per=per, beta=0.5)
        vote = await likelihood(PAIR, kind, 1.0, Straight(engine), LabelConfig(likelihood=how))  # type: ignore[arg-type]
    finally:
        await engine.close()
    assert abs(logit) > 0.02
    assert math.log(vote.p_a / (1 - vote.p_a)) == pytest.approx(0.5 * logit, abs=4 * 12 * LOGPROB["abs"])
    assert (vote.p_a > 0.5) == (logit > 0)


class Straight:
    """Hands questions to an engine, without a store."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def score(self, request: Request, text: str, **_: Any) -> Score:
        return await self.engine.score(request, text)


def test_reasoned_labels_end_to_end_on_the_fake_engine(tmp_path: Path) -> None:
    """`constitute label`: the reasoning is in the store and in the question that follows it."""
    (tmp_path / "c.yaml").write_text(to_yaml(constitution("kind")))
    rows = [{"prompt": f"Q{n}?", "a": f"yes {n}", "b": f"no {n}"} for n in range(8)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = (
        f"label --model m --set engine.kind=fake --constitution {tmp_path}/c.yaml "
        f"--pairs {tmp_path}/pairs.jsonl --run {tmp_path}/run --set label.method=reasoned "
        "--set label.clamp=[0.3,0.7] --set label.reasoning_tokens=64"
    )
    done = CliRunner().invoke(cli, line.split(), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    with Store.open(tmp_path / "run", readonly=True) as store:
        labelled = [LabelledPair.model_validate(row.data) for row in store.outcomes("label", "ok")]
        assert len(labelled) == 8
        for row in labelled:
            (vote,) = row.label.votes
            assert 0.3 <= vote.p_ab <= 0.7 and 0.3 <= (vote.p_ba or 0) <= 0.7
            assert vote.mass_ab == pytest.approx(0.9)
            asked = {request["step"]: (request, answer) for _, request, answer in store.answers_of(row.id)}
            assert set(asked) == {"reason-ab", "reason-ba", "reasoned-ab", "reasoned-ba"}
            for order in ("ab", "ba"):
                said = asked[f"reason-{order}"][1]["text"]
                begun = f"Let's think step by step: {said}\n\nThe answer is:"
                assert said and asked[f"reasoned-{order}"][0]["prefill"] == begun
    assert len({vote for row in labelled for vote in (row.label.votes[0].p_ab,)} - {0.3, 0.7}) > 1
