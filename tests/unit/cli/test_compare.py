"""`constitution compare`: judges whose taste is known give the win rates they must."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from scripted import ScriptedEngine, constitution, prompt

from constitute.cli.constitution.compare import compare
from constitute.config import EngineConfig, LabelConfig, RunConfig
from constitute.constitution.write import to_yaml
from constitute.editing.compare.run import Compared, compare_constitutions, prompts_for
from constitute.engines.base import ModelIdentity
from constitute.errors import UsageError
from constitute.types import Choice, Completion, Constitution, Probe, Request

A, B = constitution("calm"), constitution("brief")


class Taste:
    """Revises to what the principle names, and prefers a revision by what the question asks.

    Asked by a principle it gives 0.8 to the revision that names it, and 0.6 to the brief one where no
    principle is named; `lean` is added to the log-odds of what is shown first.
    """

    context_length = None

    def __init__(self, lean: float = 0.0, name: str = "taste") -> None:
        self.identity = ModelIdentity(engine="taste", name=name)
        self.lean = lean
        self.drafts = self.asked = 0

    def rendered(self, request: Request) -> bytes:
        return json.dumps([[m.role, m.content] for m in request.messages]).encode()

    async def generate(self, request: Request) -> Completion:
        self.asked += 1
        last = request.messages[-1].content
        if last.startswith("Is it"):
            return Completion(text="It is not.")
        if not last.startswith("Make it"):
            self.drafts += 1
            return Completion(text="" if "mute" in last else "A draft.", token_ids=(1,))
        if "stay" in request.messages[0].content:
            return Completion(text="The same.")
        return Completion(text="A very calm reply." if "calm" in last else "A brief reply.")

    async def choose(self, request: Request, labels: Sequence[str], *, spelled: bool = False) -> Choice:
        self.asked += 1
        text = request.messages[-1].content
        first = text.index("(A)")
        calm_first = text.index("A very calm", first) < text.index("A brief", first)
        p_calm = {True: 0.8, False: 0.2}["more calm?" in text] if "Which is more" in text else 0.4
        if "faint" in text:
            return Choice(labels=tuple(labels), logprobs=(-20.0, -20.0))
        odds = math.log(p_calm / (1 - p_calm)) * (1 if calm_first else -1) + self.lean
        p = 1 / (1 + math.exp(-odds))
        return Choice(labels=tuple(labels), logprobs=(math.log(p), math.log(1 - p)))

    async def close(self) -> None:
        """Nothing is held."""


def run(
    folder: Path, engine: Taste | ScriptedEngine, *texts: str, a: Constitution = A, b: Constitution = B
) -> Compared:
    config = RunConfig(run=folder / "cache", label=LabelConfig(principles="all"))
    prompts = [prompt(f"p{n}", text) for n, text in enumerate(texts)]
    return compare_constitutions(config, a, b, prompts, engine=engine)


def wins(done: Compared) -> dict[str, float | None]:
    return {standing.judge: standing.win.value for standing in done.figures.standings}


def test_each_judge_s_known_taste_is_its_win_rate(tmp_path: Path) -> None:
    engine = Taste()
    done = run(tmp_path, engine, "One?", "Two?", "Three?")
    assert wins(done) == {"A": pytest.approx(0.2), "B": pytest.approx(0.8), "neutral": pytest.approx(0.6)}
    # One draft a prompt; two critiques and two revisions; three judges in two orders.
    assert engine.drafts == 3 and engine.asked == done.asked == 3 * (1 + 4 + 6)
    assert [(s.for_b, s.for_a, s.flips.value) for s in done.figures.standings] == [
        (0, 3, 0),
        (3, 0, 0),
        (3, 0, 0),
    ]
    assert done.figures.words == (2.0, 4.0, 3.0)
    assert all(s.p_first == pytest.approx(0.5) for s in done.figures.standings)
    again = run(tmp_path, engine, "One?", "Two?", "Three?")
    assert (again.asked, again.reused, again.figures) == (0, 33, done.figures)


def test_the_other_way_round_the_win_rates_turn(tmp_path: Path) -> None:
    done = run(tmp_path, Taste(), "One?", a=B, b=A)
    assert wins(done) == {"A": pytest.approx(0.2), "B": pytest.approx(0.8), "neutral": pytest.approx(0.4)}


def test_order_bias_is_seen_and_does_not_move_the_sides_apart(tmp_path: Path) -> None:
    done = run(tmp_path, Taste(lean=4.0), "One?", "Two?")
    neutral = done.figures.standings[2]
    first = [1 / (1 + math.exp(-(4.0 + side * math.log(0.4 / 0.6)))) for side in (1, -1)]
    assert neutral.p_first == pytest.approx(sum(first) / 2)
    assert neutral.win.value == pytest.approx(((1 - first[0]) + first[1]) / 2)
    assert neutral.flips.value == 1.0


def test_the_same_words_are_ties_that_nobody_is_asked_about(tmp_path: Path) -> None:
    engine = Taste()
    done = run(tmp_path, engine, "One?", "stay")
    assert (done.figures.same, done.figures.compared, done.figures.differ.value) == (1, 2, 0.5)
    assert wins(done)["A"] == pytest.approx((0.2 + 0.5) / 2)
    assert [s.ties for s in done.figures.standings] == [1, 1, 1]
    assert engine.asked == (1 + 4 + 6) + (1 + 4)


def test_the_same_constitution_twice_is_all_ties(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    done = run(tmp_path, engine, "One?", "Two?", a=A, b=A)
    assert wins(done) == {"A": 0.5, "B": 0.5, "neutral": 0.5}
    assert (done.figures.same, engine.asked.total()) == (2, 2 * 3)


def test_what_fails_is_counted_where_it_failed(tmp_path: Path) -> None:
    done = run(tmp_path, Taste(), "One?", "mute", "faint")
    assert done.figures.problems[0] == ("draft", "failed", "the response is empty", 1)
    judged = {(stage, status, n) for stage, status, _, n in done.figures.problems[1:]}
    assert judged == {(f"judge {judge}", "abstain", 1) for judge in ("A", "B", "neutral")}
    assert (done.figures.prompts, done.figures.compared) == (3, 2)
    assert [s.win.n for s in done.figures.standings] == [1, 1, 1]
    cut = run(tmp_path / "cut", ScriptedEngine(), "[too long] One?", "Two?")
    assert cut.figures.problems == (("draft", "failed", "the prompt has 5000 tokens, the limit is 4096", 1),)


def test_probes_stand_in_for_prompts(tmp_path: Path) -> None:
    probed = A.principles[0].model_copy(update={"probes": (Probe(prompt="One?"), Probe(prompt="Two?"))})
    a = A.model_copy(update={"principles": (probed,)})
    b = B.model_copy(update={"principles": (probed.model_copy(update={"id": "x"}), *B.principles)})
    found = prompts_for(RunConfig(), a, b)
    assert [each.messages[0].content for each in found] == ["One?", "Two?"]
    assert len(prompts_for(RunConfig(limit=1), a, b)) == 1
    with pytest.raises(UsageError, match="--prompts FILE"):
        prompts_for(RunConfig(), A, B)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(to_yaml(A))
    Path("b.yaml").write_text(to_yaml(B))
    Path("p.jsonl").write_text("".join(json.dumps({"prompt": f"Question {n}?"}) + "\n" for n in range(4)))
    return tmp_path


def call(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(compare, ["a.yaml", "b.yaml", *words], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.return_value, done.stdout


FAKE = ("--model", "m", "--set", "engine.kind=fake", "--prompts", "p.jsonl")


def test_the_command_prints_and_repeats_without_asking(files: Path) -> None:
    code, out = call(*FAKE)
    assert code == 0 and "4 prompts, 4 with both revisions" in out and "most in favour of" in out
    judges = [line for line in out.splitlines() if re.match("(A|B|neutral)  ", line)]
    assert len(judges) == 3 and all("n = 4)" in line for line in judges)
    asked = 4 * (1 + 4 + 6)
    assert f"{asked} questions asked, 0 answered from the store" in out
    found = json.loads(call(*FAKE, "--json")[1].splitlines()[-1])
    assert (found["asked"], found["reused"], found["prompts"]) == (0, asked, 4)
    mean_b = found["standings"][2]["win"]["value"]
    assert f"{mean_b:.3f}" in out
    assert len(found["for_a"]) + len(found["for_b"]) == 4
    assert all(row["favour"] > 0.5 for row in found["for_b"])


def test_another_judge_compares_alone(files: Path) -> None:
    call(*FAKE)
    found = json.loads(call(*FAKE, "--judge", "n", "--json")[1].splitlines()[-1])
    assert (found["asked"], found["reused"]) == (4 * 6, 4 * 5)


def test_failed_rows_give_3_and_no_prompts_is_one_sentence(files: Path) -> None:
    code, out = call(*FAKE, "--set", "generate.max_tokens=1", "--limit", "2")
    assert code == 3 and "response was cut at 1 tokens" in out and "2 prompts, 0 with both" in out
    with pytest.raises(UsageError, match="neither constitution holds probes"):
        call("--model", "m")
    with pytest.raises(UsageError, match="no model given"):
        call("--prompts", "p.jsonl")


def test_the_embedded_model_revises_and_judges(tmp_path: Path, model_folder: Path) -> None:
    from constitute.constitution.read import load_constitution
    from constitute.pocket.world import prompts

    config = RunConfig(
        model=str(model_folder),
        run=tmp_path / "cache",
        engine=EngineConfig(kind="transformers", dtype="float32"),
        label=LabelConfig(min_mass=0.0),
    )
    asked = [each.as_prompt() for each in prompts("test", kind="mixed", n=2, seed=0)]
    done = compare_constitutions(
        config, load_constitution("pocket/courteous"), load_constitution("pocket/plain"), asked
    )
    assert done.figures.prompts == 2
    failed = {row.id for row in done.rows if row.problems}
    assert all(row.id in failed or set(row.judgements) == {"A", "B", "neutral"} for row in done.rows)
    assert all(0 <= v.p_b <= 1 for row in done.rows for v in row.judgements.values())
