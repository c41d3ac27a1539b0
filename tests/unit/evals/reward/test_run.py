"""Reward models on files: what is read, how rows end, what is saved, and comparing two of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from evals_fakes import FakeEngine, FakeSample
from places import SHARED

from constitute.config import RunConfig
from constitute.config.data import ReadConfig
from constitute.errors import DataError, GateFailed, UsageError
from constitute.evals.compare import compare_parts, compare_sets, pair_results
from constitute.evals.reward.items import read_reward_items, reward_items_hash
from constitute.evals.reward.pairwise import judge_of, run_pairwise
from constitute.evals.reward.run import read_reward_sets, run_reward
from constitute.evals.run import load_results
from constitute.progress import Silent
from constitute.types import AnswerReward

HH = SHARED / "hh-rlhf" / "harmless-base-test-even.jsonl.gz"


class Heard(Silent):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path, notes: list[str] | None = None, **reading: Any):
    return read_reward_items(str(path), ReadConfig(**reading), [].append if notes is None else notes.append)


def pair(question: str, right: str, wrong: str, **more: Any) -> dict[str, Any]:
    return {"prompt": question, "chosen": right, "rejected": wrong, **more}


def by_length(prompts, answers):
    return [AnswerReward(value=float(len(answer))) for answer in answers]


def by_shortness(prompts, answers):
    return [AnswerReward(value=-float(len(answer))) for answer in answers]


def run(config, path, rewards, name, progress=None):
    progress = progress or Heard()
    sets = read_reward_sets(config, [path], None, progress)
    model = {"name": name, "fingerprint": name}
    return run_reward(config, sets, rewards, model, policy=name, progress=progress)


V1 = [
    pair("Q1", "right one", "wrong", subset="alpacaeval-easy", id=0, chosen_model="m", rejected_model="n"),
    pair("Q2", "right", "wrong one", subset="math-prm", id=0, chosen_model="m", rejected_model="n"),
]
V2 = [
    {
        "id": "7",
        "prompt": "Q",
        "chosen": ["r"],
        "rejected": ["w", "x", "w"],
        "num_correct": 1,
        "subset": "Math",
    },
    {
        "id": "tied:3",
        "prompt": "R",
        "chosen": ["r", "s"],
        "rejected": ["w"],
        "num_correct": 2,
        "subset": "Ties",
    },
]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("as_messages", [False, True])
def test_rewardbench_in_both_shapes(tmp_path, kind, as_messages):
    rows = V1
    if as_messages:
        rows = [
            {
                **row,
                "prompt": [{"role": "user", "content": row["prompt"]}],
                **{s: [{"role": "assistant", "content": row[s]}] for s in ("chosen", "rejected")},
            }
            for row in V1
        ]
    path = tmp_path / f"bench.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        lines(path, rows)
    first, second = read(path)
    assert (first.id, first.answers, first.right) == ("1", ("right one", "wrong"), 1)
    assert (first.subset, second.subset, second.place) == ("alpacaeval-easy", "math-prm", "0")
    assert first.prompt[0].content == "Q1" and first.context == ""


def test_rewardbench_2_keeps_all_answers_and_its_ids(tmp_path):
    four, tied = read(lines(tmp_path / "two.jsonl", V2))
    assert (four.answers, four.right, four.place) == (("r", "w", "x", "w"), 1, "7")
    assert (tied.answers, tied.right, tied.place, tied.subset) == (("r", "s", "w"), 2, "tied:3", "Ties")


def test_own_rows_ties_equal_answers_and_shared_prompts(tmp_path):
    rows = [
        pair("Q", "a", "b", chosen_prob=0.2),
        pair("Q", "c", "d"),
        pair("R", "e", "f", chosen_prob=0.5),
        pair("S", "same", "same"),
    ]
    notes: list[str] = []
    first, second = read(lines(tmp_path / "own.jsonl", rows), notes)
    assert first.answers == ("b", "a"), "P(chosen) below a half: rejected is the better one"
    assert first.context == second.context != ""
    assert [note.partition(": ")[2] for note in notes] == [
        "left out 1: a tie: neither answer is better",
        "left out 1: the answers are equal",
    ]


def test_what_names_no_better_answer_is_an_error_with_its_line(tmp_path):
    path = lines(tmp_path / "pairs.jsonl", [pair("Q", "a", "b"), {"prompt": "R", "a": "x", "b": "y"}])
    with pytest.raises(
        DataError, match=r"pairs\.jsonl:2: chosen and rejected are needed .* found 'prompt', 'a', 'b'"
    ):
        read(path)
    notes: list[str] = []
    assert len(read(path, notes, skip_bad=True)) == 1
    assert "skipped 1 bad line" in notes[0]
    with pytest.raises(DataError, match="holds no answers of which one is better"):
        read(lines(tmp_path / "ties.jsonl", [pair("Q", "a", "b", chosen_prob=0.5)]))


def test_the_hash_is_that_of_what_is_asked(tmp_path):
    one, two = lines(tmp_path / "one.jsonl", V1), lines(tmp_path / "two.jsonl", V1[:1])
    assert reward_items_hash(read(one)) == reward_items_hash(read(one))
    assert reward_items_hash(read(one)) != reward_items_hash(read(two))


def test_results_are_saved_and_two_models_are_compared(tmp_path):
    """Each likes what the other does not: on 6 items, 5 right for the long one; McNemar 2 * 7 / 64."""
    rows = [pair(f"Q{n}", "long answer", "no", subset="math-prm") for n in range(5)]
    rows.append(pair("Q9", "no", "long answer", subset="hep-go"))
    path, config = lines(tmp_path / "set.jsonl", rows), RunConfig(run=tmp_path / "run")
    (long,) = run(config, path, by_length, "long")
    run(config, path, by_shortness, "short")
    assert (long.share.value, long.share.n) == (5 / 6, 6)
    assert long.parts["subset: math-prm"].value == 1.0 and long.parts["subset: hep-go"].value == 0.0
    assert long.figures["Reasoning"].value == pytest.approx(984 / (984 + 164))
    assert long.p_matching.value == pytest.approx(
        (5 / (1 + math.exp(-9)) + 1 / (1 + math.exp(9))) / 6, abs=1e-12
    )
    assert [result.policy for result in load_results(config.run)] == ["long", "short"]
    pairs = pair_results(config, "long", "short")
    (whole,) = compare_sets(pairs, config.evals)
    assert (whole.only_first, whole.only_second, whole.p) == (5, 1, 14 / 64)
    assert {one.part for one in compare_parts(pairs, config.evals)} == {"subset: math-prm", "subset: hep-go"}


def test_items_without_a_reward_are_counted_with_their_reason(tmp_path):
    rows = [pair(f"Q{n}", "long answer", "no") for n in range(6)]
    path, config = lines(tmp_path / "set.jsonl", rows), RunConfig(run=tmp_path / "run")

    def rewards(prompts, answers):
        values = by_length(prompts, answers)
        values[0] = AnswerReward(value=None, reason="the template refuses it")
        values[3] = AnswerReward(value=math.nan)
        values[4] = AnswerReward(value=9.0, truncated=True)
        return values

    progress = Heard()
    (result,) = run(config, path, rewards, "model", progress)
    assert result.unparsed == {"the template refuses it": 1, "a reward is nan, not a finite number": 1}
    assert (result.share.n, result.failed, result.answered.value) == (4, 2, 4 / 6)
    assert (result.figures["truncated answers"].value, result.figures["truncated answers"].n) == (1 / 8, 8)
    assert progress.notes == [
        "set: 1 of 8 conversations are longer than model reads, so it saw only their ends; raise "
        "--max-length, or take a model with a longer context"
    ]


def test_a_model_that_says_nothing_is_refused(tmp_path):
    path, config = lines(tmp_path / "set.jsonl", V1), RunConfig(run=tmp_path / "run")
    with pytest.raises(GateFailed, match="all answers of set got the same reward"):
        run(config, path, lambda prompts, answers: [AnswerReward(value=1.0)] * len(answers), "model")
    with pytest.raises(GateFailed, match="2 of 2 items of set have no score"):
        run(config, path, lambda p, answers: [AnswerReward(value=None, reason="no")] * len(answers), "model")
    assert load_results(config.run) == []


def test_another_models_result_is_not_replaced(tmp_path):
    path, config = lines(tmp_path / "set.jsonl", V1), RunConfig(run=tmp_path / "run")
    sets = read_reward_sets(config, [path], None, Silent())
    for name in ("one", "other"):
        model = {"name": name, "fingerprint": name}
        if name == "one":
            run_reward(config, sets, by_length, model, policy="same", progress=Silent())
            continue
        with pytest.raises(UsageError, match="is the result of one, and other would take its place"):
            run_reward(config, sets, by_length, model, policy="same", progress=Silent())


def prefers_kind(request, step, label):
    """0.8 for the letter of the answer that holds `kind`, whichever is shown first."""
    text = request.messages[-1].content
    first = "A" if text.index("kind") < text.index("rude") else "B"
    return 0.8 if first in label else 0.1


def test_a_judge_compares_in_both_orders(tmp_path):
    rows = [pair("Q", "kind", "rude"), pair("R", "rude", "kind"), pair("S", "kind", "rude")]
    config = RunConfig(run=tmp_path / "run", constitution="pocket/harmless", model="fake")
    sample = FakeSample(rate=prefers_kind)
    sets = read_reward_sets(config, [lines(tmp_path / "set.jsonl", [*rows, V2[0]])], None, Silent())
    (result,) = run_pairwise(config, sets, engine=FakeEngine(sample), progress=Silent())
    assert result.policy == "fake-pairs"
    assert [score.matching for score in result.scores] == [True, False, True]
    assert [score.p_matching for score in result.scores] == pytest.approx([8 / 9, 1 / 9, 8 / 9])
    assert result.figures["margin"].value == pytest.approx(7 / 27)
    (reason,) = result.unparsed
    assert "takes two answers" in reason and result.failed == 1
    assert len({request.model_dump_json() for _, request, _ in sample.asked}) == 6, "two orders a pair"


def test_pairwise_needs_a_judge_and_a_constitution(tmp_path):
    config = RunConfig(run=tmp_path / "run", model="base", judge="other")
    assert judge_of(config, "judge").model == "other"
    with pytest.raises(UsageError, match="give 'judge'"):
        judge_of(config, "run/reward")
    with pytest.raises(UsageError, match="--constitution"):
        run_pairwise(config, {}, progress=Silent())


@pytest.mark.skipif(not HH.exists(), reason=f"published pairs are not at {HH}")
def test_published_pairs_are_read(tmp_path):
    """1,156 pairs, of which three have answers of one length: a model that likes length ties on these."""
    (result,) = run(RunConfig(run=tmp_path / "run"), HH, by_length, "long")
    assert (result.share.n, result.share.value) == (1156, 549 / 1156)
    assert result.figures["ties"].value == 3 / 1156
    assert result.figures["accuracy, the right answer shorter"].n == 604
