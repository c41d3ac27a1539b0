"""`constitution diff` on runs of the fake engine: stored votes stand for what would be asked, exactly."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from scripted import ScriptedEngine, constitution, principle, prompt

from constitute.cli.constitution.diff import diff
from constitute.config import LabelConfig, RunConfig
from constitute.constitution.write import to_yaml
from constitute.editing.diff.run import Diff, diff_constitutions
from constitute.editing.votes import vote
from constitute.errors import UsageError
from constitute.pipeline import run_stages
from constitute.store import Store
from constitute.types import Comparison, Constitution, LabelledPair, Principle

K, N = 4, 12
BASE = constitution("kind", "brief", "safe", "calm")


def labelled_run(
    folder: Path, principles: Any = "all", base: Constitution = BASE, spoil: str = ""
) -> RunConfig:
    """A run of N own pairs, labelled under `base` by a scripted engine; the first pair holds `spoil`."""
    path = folder / "base.yaml"
    path.write_text(to_yaml(base))
    config = RunConfig(
        model="m", run=folder / "run", constitution=str(path), label=LabelConfig(principles=principles)
    )
    pairs = [
        Comparison(
            id=f"p{n}",
            prompt=prompt(f"q{n}").model_copy(update={"source": f"s{n % 2}"}),
            a=f"yes {n}" + (spoil if n == 0 else ""),
            b=f"no {n}",
        )
        for n in range(N)
    ]
    run_stages(config, ["label"], pairs=pairs, engine=ScriptedEngine())
    return config


def edited(**updates: dict[str, Any]) -> Constitution:
    """`BASE` with fields of principles replaced, by id; None removes one."""
    kept = [p for p in BASE.principles if updates.get(p.id, {}) is not None]
    return BASE.model_copy(
        update={"principles": tuple(p.model_copy(update=updates.get(p.id, {})) for p in kept)}
    )


def from_scratch(config: RunConfig, side: Constitution, folder: Path) -> dict[str, float]:
    """P(A) by pair, labelled under `side` in a store of its own."""
    with Store.open(config.run, readonly=True) as store:
        rows = [LabelledPair.model_validate(row.data).comparison for row in store.outcomes("label", "ok")]
    with Store.open(folder) as store:
        votes = asyncio.run(vote(rows, side, ScriptedEngine(), store, config.label))
    return {row.id: row.label.p_a for row in votes.labelled}


def check_against_scratch(done: Diff, config: RunConfig, b: Constitution, folder: Path) -> None:
    fresh = from_scratch(config, b, folder)
    assert {pair.comparison.id: pair.after for pair in done.pairs} == fresh
    with Store.open(config.run, readonly=True) as store:
        rows = [LabelledPair.model_validate(row.data) for row in store.outcomes("label", "ok")]
    assert {pair.comparison.id: pair.before for pair in done.pairs} == {r.id: r.label.p_a for r in rows}


def test_the_same_constitution_has_no_effect_and_opens_no_model(tmp_path: Path) -> None:
    config = labelled_run(tmp_path)
    turned = BASE.model_copy(update={"principles": BASE.principles[::-1], "description": "Other."})
    for b in (BASE, turned):
        done = diff_constitutions(config.model_copy(update={"model": None}), BASE, b)
        assert done.effect is not None
        assert (done.questions, done.asked, done.reused, done.stored) == (0, 0, 0, K * N)
        assert (done.effect.all.flipped, done.effect.all.moved.value, done.effect.movers) == (0, 0.0, ())


@pytest.mark.parametrize("principles", ["all", "one", 2])
def test_new_weights_equal_labelling_from_scratch(tmp_path: Path, principles: Any) -> None:
    config = labelled_run(tmp_path, principles)
    b = edited(kind={"weight": 5.0}, safe={"weight": 0.25})
    engine = ScriptedEngine()
    done = diff_constitutions(config, BASE, b, engine=engine)
    check_against_scratch(done, config, b, tmp_path / "scratch")
    if principles == "all":
        assert (done.questions, engine.asked.total()) == (0, 0)
    else:
        # A weight moves some draws, and what was drawn before is not asked again.
        assert 0 < engine.asked.total() == done.questions < 2 * N * (1 if principles == "one" else 2)


def test_a_removed_principle_asks_nothing(tmp_path: Path) -> None:
    config = labelled_run(tmp_path)
    b = edited(brief=None)
    engine = ScriptedEngine()
    done = diff_constitutions(config, BASE, b, engine=engine)
    assert engine.asked.total() == 0 and done.stored == K * N
    check_against_scratch(done, config, b, tmp_path / "scratch")
    assert done.effect is not None and [g.name for g in done.effect.by_principle] == []


def test_one_reworded_principle_asks_two_questions_a_pair_and_once(tmp_path: Path) -> None:
    config = labelled_run(tmp_path)
    b = edited(calm={"compare": "Which is calmer?", "tags": ("tone",)})
    before = (config.run / "config.yaml").read_text()
    engine = ScriptedEngine()
    done = diff_constitutions(config, BASE, b, engine=engine)
    assert (done.questions, done.asked, engine.asked.total()) == (2 * N, 2 * N, 2 * N)
    check_against_scratch(done, config, b, tmp_path / "scratch")
    assert done.effect is not None
    assert [(g.name, g.flips.n) for g in done.effect.by_principle] == [("calm", N)]
    assert [g.name for g in done.effect.by_tag] == ["tone"]
    assert [(g.name, g.flips.n) for g in done.effect.by_source] == [("s0", N // 2), ("s1", N // 2)]
    again = diff_constitutions(config, BASE, b, engine=ScriptedEngine())
    assert (again.asked, again.reused, again.effect) == (0, 2 * N, done.effect)
    back = diff_constitutions(config, b, BASE, engine=ScriptedEngine())
    assert [pair.change for pair in back.pairs] == [-pair.change for pair in done.pairs]
    # The run is as it was: its rows are votes of the old wording, though its store knows both.
    assert (config.run / "config.yaml").read_text() == before
    same = diff_constitutions(config, BASE, BASE)
    assert same.effect is not None and same.effect.all.moved.value == 0.0


def test_edits_that_leave_the_compare_form_ask_nothing(tmp_path: Path) -> None:
    config = labelled_run(tmp_path)
    b = edited(kind={"text": "Other.", "revise": "Other."}, calm={"id": "calmer"})
    engine = ScriptedEngine()
    done = diff_constitutions(config, BASE, b, engine=engine)
    assert engine.asked.total() == 0
    assert [pair.change for pair in done.pairs] == [0.0] * N


def test_votes_of_a_file_that_changed_since_are_not_taken_for_it(tmp_path: Path) -> None:
    config = labelled_run(tmp_path)
    a = edited(kind={"compare": "Since then?"})
    engine = ScriptedEngine()
    done = diff_constitutions(config, a, a.model_copy(update={"name": "b"}), engine=engine)
    assert engine.asked.total() == 2 * N and done.stored == (K - 1) * N
    assert {pair.comparison.id: pair.before for pair in done.pairs} == from_scratch(config, a, tmp_path / "s")


def test_another_model_is_asked_for_every_vote(tmp_path: Path) -> None:
    config = labelled_run(tmp_path)
    b = edited(kind={"compare": "Kinder?"})
    engine = ScriptedEngine("other")
    done = diff_constitutions(config, BASE, b, model="other", engine=engine)
    assert engine.asked.total() == done.questions == 2 * N * (K + 1) and done.stored == 0


def test_pairs_that_abstain_on_a_side_are_counted(tmp_path: Path) -> None:
    config = labelled_run(tmp_path)
    # The scripted engine spoils a label where the question says so.
    b = edited(kind={"compare": "Which [no mass]?"})
    done = diff_constitutions(config, BASE, b, engine=ScriptedEngine())
    effect = done.effect
    assert effect is not None
    assert (effect.only_before, effect.only_after, effect.all.flips.n) == (N, 0, 0)
    assert [(side, n) for side, _, n in effect.reasons] == [("B", N)]
    assert "below" in effect.reasons[0][1]


def test_pairs_without_a_label_in_the_run_are_said(tmp_path: Path) -> None:
    config = labelled_run(tmp_path, spoil=" [no mass]")
    done = diff_constitutions(config, BASE, BASE)
    assert (len(done.pairs), done.unlabelled) == (N - 1, (1, 0))


def test_own_pairs_need_no_run_before(tmp_path: Path) -> None:
    config = RunConfig(model="m", run=tmp_path / "new", label=LabelConfig(principles="all"))
    pairs = [Comparison(id=f"p{n}", prompt=prompt("q"), a=f"x{n}", b="y") for n in range(3)]
    b = edited(kind={"compare": "Kinder?"})
    done = diff_constitutions(config, BASE, b, pairs=pairs, engine=ScriptedEngine())
    assert (done.asked, done.stored, len(done.pairs)) == (2 * 3 * (K + 1), 0, 3)


def test_a_dry_run_asks_nothing_and_no_model_is_one_sentence(tmp_path: Path) -> None:
    config = labelled_run(tmp_path).model_copy(update={"model": None})
    b = edited(kind={"compare": "Kinder?"})
    done = diff_constitutions(config, BASE, b, dry_run=True)
    assert (done.questions, done.effect) == (2 * N, None)
    with pytest.raises(UsageError, match="no model given"):
        diff_constitutions(config, BASE, b)
    with pytest.raises(UsageError, match="no run in"):
        diff_constitutions(config.model_copy(update={"run": tmp_path / "none"}), BASE, b)


def call(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(diff, list(words), standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.return_value or 0, done.stdout


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a.yaml, b.yaml (one principle reworded, one new weight) and a run of the fake engine."""
    monkeypatch.chdir(tmp_path)
    b = edited(kind={"compare": "Which of both is kinder?"}, safe={"weight": 2.0})
    Path("a.yaml").write_text(to_yaml(BASE))
    Path("b.yaml").write_text("# A comment.\n" + to_yaml(b))
    config = RunConfig.model_validate(
        {"model": "m", "constitution": "a.yaml", "engine": {"kind": "fake"}, "label": {"principles": "all"}}
    )
    pairs = [Comparison(id=f"p{n}", prompt=prompt("q"), a=f"x\x1b[31m{n}", b="y") for n in range(5)]
    run_stages(config, ["label"], pairs=pairs)
    return tmp_path


def test_words_alone(files: Path) -> None:
    _, out = call("a.yaml", "b.yaml")
    assert "2 changed, of 4 principles" in out
    assert "  compare: Which {+of both +}is [-more kind-]{+kinder+}?" in out
    assert "~ safe: weight 1 -> 2" in out and "label questions of 1 of 4 principles" in out
    Path("c.yaml").write_text("# Other comment.\n" + to_yaml(BASE))
    assert call("a.yaml", "c.yaml")[1].endswith("no principle differs\n")
    row = json.loads(call("a.yaml", "b.yaml", "--json")[1])
    assert [change["fields"] for change in row["changes"]] == [["compare"], ["weight"]]
    assert "".join(text for kind, text in row["changes"][0]["words"]["compare"] if kind != "gone") == (
        "Which of both is kinder?"
    )


def test_effect_as_text_rows_and_json(files: Path) -> None:
    _, out = call("a.yaml", "b.yaml", "--run", "run", "--out", "moved.jsonl")
    assert "effect on 5 pairs" in out and "moved most:" in out and "\x1b" not in out
    assert "20 votes from stored rows; 10 questions asked" in out
    rows = [json.loads(line) for line in Path("moved.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [f"p{n}" for n in range(5)]
    assert all(row["change"] == row["p_after"] - row["p_before"] for row in rows)
    found = json.loads(call("a.yaml", "b.yaml", "--run", "run", "--json")[1].splitlines()[-1])
    assert (found["asked"], found["reused"], found["effect"]["all"]["flips"]["n"]) == (0, 10, 5)
    assert found["effect"]["all"]["flipped"] == sum(row["flips"] for row in rows)
    moved = sum(abs(row["change"]) for row in rows) / 5
    assert found["effect"]["all"]["moved"]["value"] == pytest.approx(moved)
    with pytest.raises(UsageError, match=r"moved\.jsonl exists"):
        call("a.yaml", "b.yaml", "--run", "run", "--out", "moved.jsonl")


def test_dry_run_and_misuse(files: Path) -> None:
    assert "10 questions to ask of m, less" in call("a.yaml", "b.yaml", "--run", "run", "--dry-run")[1]
    with pytest.raises(UsageError, match="give --run DIR"):
        call("a.yaml", "b.yaml", "--dry-run")


def test_turning_a_principle_round_moves_the_embedded_model(tmp_path: Path, model_folder: Path) -> None:
    from constitute.pocket.replies import ANY, draw_reply
    from constitute.pocket.wordings import draw_principle, wordings
    from constitute.pocket.world import prompts
    from tools.pocket.opposites import turned

    rng = random.Random(0)
    rude: Principle = draw_principle(rng, "rude")
    wording = next(w for w in wordings("rude", "compare", True) if w.text() == rude.compare)
    round_ = rude.model_copy(update={"compare": turned(wording)})
    a, b = (BASE.model_copy(update={"principles": (each, principle("kind"))}) for each in (rude, round_))
    pairs = [
        Comparison(
            id=f"p{n}",
            prompt=ask.as_prompt(),
            a=draw_reply(rng, ask.ask, ANY).text(),
            b=draw_reply(rng, ask.ask, ANY).text() + " ",
        )
        for n, ask in enumerate(prompts("test", kind="mixed", n=3, seed=0))
    ]
    config = RunConfig.model_validate(
        {
            "model": str(model_folder),
            "run": tmp_path / "run",
            "engine": {"kind": "transformers", "dtype": "float32"},
            "label": {"principles": "all", "min_mass": 0.0},
        }
    )
    done = diff_constitutions(config, a, b, pairs=pairs)
    assert (done.asked, len(done.pairs)) == (2 * 3 * 3, 3)
    effect = done.effect
    assert effect is not None and (effect.all.flips.n, effect.all.moved.value or 0) > (2, 0)
    again = diff_constitutions(config, a, b, pairs=pairs)
    assert (again.asked, again.effect) == (0, effect)
