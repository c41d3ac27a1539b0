"""Planted preferences are found, stored votes are used again, and what cannot be explained is refused."""

from __future__ import annotations

import json
import math
import random
import re
from pathlib import Path

import pytest
from scripted import ScriptedEngine, constitution, principle

from constitute.config import RunConfig
from constitute.constitution.write import to_yaml
from constitute.editing.recover.answers import matched, read_answers
from constitute.editing.recover.moved import figures_of, movement
from constitute.editing.recover.run import Wanted, recover, run_pairs
from constitute.errors import UsageError
from constitute.pipeline import run_stages
from constitute.progress import Silent
from constitute.store import Store
from constitute.store.unfinished import begin
from constitute.types import Choice, Comparison, Completion, Message, Prompt, Request

NAMES = ("kind", "brief", "safe", "plain", "warm")
# What the planted preferences follow, as log-odds for each unit of (2p - 1).
TRUTH = {"kind": 6.0, "brief": 3.0}


class Reader(ScriptedEngine):
    """Votes by how often an answer names the quality a principle asks for: P = sigmoid(difference)."""

    async def choose(self, request: Request, labels, *, spelled: bool = False) -> Choice:
        text = request.messages[-1].content
        self.asked[text] += 1
        found = re.search(r"\(A\) (.*?)\n\n\(B\) (.*?)\n\nWhich is more (\w+)\?", text, re.S)
        assert found is not None, text
        first = tilt(found[1], found[2], found[3])
        p = (1 + first) / 2
        return Choice(labels=tuple(labels), logprobs=(math.log(p * 0.9), math.log((1 - p) * 0.9)))

    async def generate(self, request: Request) -> Completion:
        self.asked["rules"] += 1
        return Completion(text="Rule: Be odd in it.\nRule: Use even numbers in it.")


def tilt(a: str, b: str, name: str) -> float:
    """2p - 1 of an honest vote."""
    return math.tanh((a.split().count(name) - b.split().count(name)) / 2)


def planted(n: int, truth: dict[str, float] = TRUTH, seed: int = 0) -> list[Comparison]:
    """Two pairs a prompt, each answer with 0 to 3 of each quality; preferences drawn by the truth."""
    rng = random.Random(seed)
    pairs = []
    for at in range(n):
        a, b = (" ".join(name for name in NAMES for _ in range(rng.randint(0, 3))) for _ in "ab")
        odds = sum(weight * tilt(a, b, name) for name, weight in truth.items())
        human = float(rng.random() < 1 / (1 + math.exp(-odds)))
        prompt = Prompt(id=f"q{at // 2}", messages=(Message(role="user", content=f"Q{at // 2}?"),))
        pairs.append(Comparison(id=f"p{at}", prompt=prompt, a=f"x {a}", b=f"x {b}", human=human))
    return pairs


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return RunConfig(run=tmp_path / "cache")


def test_planted_principles_are_found_with_their_weights(config: RunConfig) -> None:
    """Other principles are not found, and have next to no weight."""
    done = recover(config, constitution(*NAMES), planted(600), Wanted(n=600), engine=Reader())
    found = done.figures
    by_name = {row.principle_id: row for row in found.alone}
    assert (found.train, found.held_out, found.prompts) == (300, 300, 300)
    assert [by_name[name].finding for name in NAMES] == ["explains", "explains", *["unclear"] * 3]
    assert found.together.weights["kind"] == pytest.approx(2 / 3, abs=0.1)
    assert found.together.weights["brief"] == pytest.approx(1 / 3, abs=0.1)
    assert all(found.together.weights[name] < 0.08 for name in NAMES[2:])
    assert [step.principle_id for step in found.together.steps[:2]] == ["kind", "brief"]
    fitted, own = found.together.fitted.accuracy.value, found.together.constitution.accuracy.value
    assert fitted is not None and own is not None and fitted > own + 0.05
    assert found.explained and done.asked == 2 * 5 * 600 and not done.reasons
    again = recover(config, constitution(*NAMES), planted(600), Wanted(n=600), engine=Reader())
    assert (again.asked, again.reused, again.figures) == (0, 2 * 5 * 600, found)


def test_noise_is_not_explained(config: RunConfig) -> None:
    done = recover(config, constitution(*NAMES), planted(200, {}), Wanted(n=200), engine=Reader())
    assert not done.figures.explained and "neither a principle nor all together" in done.figures.sentence
    assert {row.finding for row in done.figures.alone} == {"unclear"}


def test_a_principle_that_preferences_go_against_is_named(config: RunConfig) -> None:
    done = recover(config, constitution("kind", "safe"), planted(200, {"kind": -4.0}), engine=Reader())
    kind = done.figures.alone[0]
    assert kind.finding == "against" and kind.accuracy.high < 0.5
    # Weights turn no principle round, so nothing is explained.
    assert done.figures.together.weights["kind"] == 0.0 and not done.figures.explained


def test_one_principle_and_sides_turned_round_give_the_same(config: RunConfig) -> None:
    pairs = planted(100, {"kind": 4.0})
    done = recover(config, constitution("kind"), pairs, engine=Reader()).figures
    turned = recover(config, constitution("kind"), [pair.swap() for pair in pairs], engine=Reader()).figures
    assert done.together.weights == {"kind": 1.0}
    # Only the baseline of place and the sides differ.
    assert done.alone == turned.alone and done.unexplained == turned.unexplained


def test_a_judge_without_an_opinion_or_without_a_vote(config: RunConfig) -> None:
    class Dumb(Reader):
        async def choose(self, request: Request, labels, *, spelled: bool = False) -> Choice:
            return Choice(labels=tuple(labels), logprobs=(math.log(self.mass), math.log(self.mass)))

    judge = Dumb()
    judge.mass = 0.4
    done = recover(config, constitution("kind", "safe"), planted(40), engine=judge)
    assert done.figures.sentence == "the judge says nothing: every vote is exactly 1/2"
    assert not done.figures.explained and done.figures.unexplained.silent == 40
    assert set(done.figures.together.weights.values()) == {0.0}
    judge.mass = 0.01
    other = config.model_copy(update={"run": config.run.with_name("other")})
    with pytest.raises(
        UsageError,
        match=r"the judge gave no vote on any pair \(40 of 80: P\(A\) \+ P\(B\) = 0.02 is below 0.1",
    ):
        recover(other, constitution("kind", "safe"), planted(40), engine=judge)
    judge.lacks = {"choose": "it answers in text alone"}
    with pytest.raises(UsageError, match="cannot choose: it answers in text alone"):
        recover(other, constitution("kind", "safe"), planted(40), engine=judge)


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        (Wanted(margin=0.0), "--margin must lie above 0"),
        (Wanted(test_share=1.0), "--test-share must lie between 0 and 1"),
        (Wanted(n=10), "each side needs 8"),
    ],
)
def test_bad_settings(config: RunConfig, wanted: Wanted, part: str) -> None:
    with pytest.raises(UsageError, match=part):
        recover(config, constitution("kind"), planted(40), wanted, engine=Reader())


def test_a_run_is_explained_by_its_stored_votes(config: RunConfig, tmp_path: Path) -> None:
    """No question is asked of a run labelled by every principle, and a new principle is asked about alone."""
    (tmp_path / "c.yaml").write_text(to_yaml(constitution("kind", "safe")))
    run = config.model_copy(
        update={
            "run": tmp_path / "run",
            "constitution": str(tmp_path / "c.yaml"),
            "label": config.label.model_copy(update={"principles": "all"}),
        }
    )
    run_stages(run, ["label"], pairs=planted(60), engine=Reader())

    class Notes(Silent):
        def __init__(self) -> None:
            self.told: list[str] = []

        def note(self, text: str) -> None:
            self.told.append(text)

    notes = Notes()
    labels = run_pairs(run, "label")
    done = recover(run, constitution("kind", "safe"), labels, from_run=True, progress=notes)
    decided = sum(pair.human != 0.5 for pair in labels)
    assert (done.model, done.asked, done.stored) == (None, 0, 2 * decided) and decided > 40
    assert done.figures.together.constitution.accuracy.value == 1.0
    assert notes.told[-1].startswith(f"{run.run} was labelled under this constitution")
    with Store.open(run.run) as store:
        begin(store, "label", 90)
    people = run_pairs(run, "human", notes)
    assert notes.told[-1].startswith(
        "warning: label: 60 of 90 rows, unfinished: run `constitute label` again"
    )
    more = recover(run, constitution("kind", "safe", "warm"), people, from_run=True, engine=Reader())
    assert (more.asked, more.stored) == (120, 120)
    other = recover(run, constitution("kind"), people, from_run=True, engine=Reader("another"))
    assert (other.asked, other.stored) == (120, 0)
    with Store.open(run.run, readonly=True) as store:
        assert store.counts("label")["ok"] == 60
    with Store.open(config.run), pytest.raises(UsageError, match="has no labelled pairs"):
        run_pairs(config, "label")


def test_rules_that_hold_on_held_out_pairs_are_kept(config: RunConfig) -> None:
    """Preferences follow `odd`, which no principle asks for; the model names it, and noise."""
    rng = random.Random(3)
    pairs = []
    for at in range(120):
        words = [" ".join(rng.choice(("odd", "even", "x")) for _ in range(6)) for _ in "ab"]
        likes = tilt(words[0], words[1], "odd")
        prompt = Prompt(id=f"q{at}", messages=(Message(role="user", content=f"Q{at}?"),))
        human = 0.5 if likes == 0 else float(likes > 0)
        pairs.append(Comparison(id=f"p{at}", prompt=prompt, a=words[0], b=words[1], human=human))

    class Namer(Reader):
        async def choose(self, request: Request, labels, *, spelled: bool = False) -> Choice:
            text = request.messages[-1].content
            for word in ("odd", "even"):
                if word in text.rpartition("(B)")[2].partition("\n\n")[2]:
                    text = text.rpartition("\n\n")[0] + f"\n\nWhich is more {word}?"
            changed = Message(role="user", content=text)
            return await super().choose(request.model_copy(update={"messages": (changed,)}), labels)

    done = recover(config, constitution("kind"), pairs, Wanted(propose=True), engine=Namer())
    proposed = done.figures.proposed
    assert proposed is not None and proposed.batches == 8 and proposed.refused == {}
    odd, even = proposed.candidates
    assert (odd.principle.text, odd.kept, odd.tested.accuracy.value) == ("Be odd in it.", True, 1.0)
    assert odd.principle.draft and odd.principle.compare.startswith("Here is a principle for an assistant")
    assert not even.kept and proposed.kept == (odd.principle,)


def test_moved_principles(config: RunConfig, tmp_path: Path) -> None:
    """After training every answer is kinder by one word and longer by two; the rest is as it was."""
    lines = {"before": [], "after": []}
    for at in range(20):
        for side, text in (("before", "safe x"), ("after", "kind safe x y")):
            lines[side].append({"prompt": f"Q{at // 2}?", "response": text if at else "same"})
    for side, rows in lines.items():
        (tmp_path / f"{side}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    before, after = (str(tmp_path / f"{side}.jsonl") for side in lines)
    done = movement(config, constitution("safe", "kind"), (before, after), 100, engine=Reader())
    kind, safe = done.figures.moved
    assert (done.figures.pairs, done.figures.prompts, done.figures.equal) == (19, 10, 1)
    # sigmoid(1), at 10 of 10 prompts: 2 / 2^10 times 2.
    assert kind.preferred.value == pytest.approx(1 / (1 + math.exp(-1)))
    assert (kind.principle_id, kind.direction, kind.p) == ("kind", "towards", pytest.approx(4 / 1024))
    assert (safe.direction, safe.preferred.value, safe.wins.value) == ("unclear", 0.5, 0.5)
    figures = done.figures
    assert (figures.words_before.value, figures.words_after.value, figures.longer_by.value) == (2, 4, 2)
    back = movement(config, constitution("safe", "kind"), (after, before), 100, engine=Reader())
    assert back.figures.moved[-1].direction == "away" and back.figures.longer_by.value == -2


def test_many_weak_votes_against_few_strong_ones_are_no_direction() -> None:
    """15 of 20 votes are 0.51 for what is said after and 5 are 0.05: p = 0.041, and the mean is 0.395."""
    pairs = [pair.model_copy(update={"id": str(at)}) for at, pair in enumerate(planted(40)[::2])]
    votes = {(str(at), "kind"): 0.49 if at < 15 else 0.95 for at in range(20)}
    (row,) = figures_of(pairs, votes, ["kind"]).moved
    assert row.p == pytest.approx(2 * sum(math.comb(20, i) for i in range(6)) / 2**20)
    assert (row.preferred.value, row.direction) == (pytest.approx(0.395), "unclear")


def test_answers_are_matched_by_conversation_and_order(tmp_path: Path) -> None:
    def written(name: str, rows: list[tuple[str, str]]) -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps({"prompt": p, "answer": a}) + "\n" for p, a in rows))
        return str(path)

    before = read_answers(written("b.jsonl", [("p", "1"), ("q", "2"), ("p", "3"), ("r", "4")]))
    after = read_answers(written("a.jsonl", [("q", "5"), ("p", "6"), ("p", "3")]))
    pairs, equal, unmatched = matched(before, after)
    assert [(pair.a, pair.b) for pair in pairs] == [("1", "6"), ("2", "5")]
    assert (equal, unmatched) == (1, 1)


def test_answers_of_a_run_by_stage(config: RunConfig, tmp_path: Path) -> None:
    run = config.model_copy(update={"run": tmp_path / "run"})
    asked = [Prompt(id=f"q{at}", messages=(Message(role="user", content=f"{at}?"),)) for at in range(3)]
    run_stages(run, ["generate"], prompts=asked, engine=ScriptedEngine())
    assert len(read_answers(str(run.run))) == len(read_answers(f"{run.run}:generate")) == 3
    with pytest.raises(
        UsageError, match="holds no answers of the stage 'held-out/ppo'; name one as RUN:STAGE"
    ):
        read_answers(f"{run.run}:held-out/ppo")
    with pytest.raises(UsageError, match="no such file"):
        read_answers(str(tmp_path / "nothing"))


def test_levels_and_the_rule_of_labels_change_no_vote(config: RunConfig) -> None:
    named = [principle(name).model_copy(update={"priority": "law"}) for name in ("kind", "safe")]
    given = constitution("kind", "safe")
    ranked = given.model_copy(update={"priorities": ("law", "taste"), "principles": tuple(named)})
    by_rule = config.model_copy(update={"label": config.label.model_copy(update={"rule": "priority"})})
    first = recover(config, given, planted(40), engine=Reader())
    again = recover(by_rule, ranked, planted(40), engine=Reader())
    assert (again.asked, again.figures) == (0, first.figures)


def test_principles_of_weight_0_are_switched_off(config: RunConfig) -> None:
    given = constitution("kind").model_copy(
        update={"principles": (principle("kind"), principle("safe", weight=0.0))}
    )
    done = recover(config, given, planted(40), engine=Reader())
    assert [row.principle_id for row in done.figures.alone] == ["kind"]
    off = given.model_copy(update={"principles": given.principles[1:]})
    with pytest.raises(UsageError, match="every principle of test has weight 0"):
        recover(config, off, planted(40), engine=Reader())
