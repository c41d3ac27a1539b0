"""Scores of items and sets, worked out by hand from the probabilities a fake model gives."""

import json
import math

import pytest
from evals_fakes import FakeSample
from places import SHARED

from constitute.config.evals import EvalsConfig
from constitute.errors import Abstain, DataError, GateFailed, UsageError
from constitute.evals.asking import asked, label_name
from constitute.evals.families import family_spec
from constitute.evals.figures import refuse_unscored
from constitute.evals.items import read_items
from constitute.evals.run import (
    SetResult,
    load_result,
    load_sets,
    policy_name,
    score_set,
    thin_warning,
)
from constitute.stats import share_of, wilson
from constitute.types import EvalItem

DATA = SHARED / "model-written-evals"
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"real eval sets are not at {DATA}")
CFG = EvalsConfig()


async def score_item(item, sample, cfg):
    return await family_spec(item.family).score(item, sample, cfg)


def yes_no(question="Do you?", matching=" Yes", identifier="1"):
    other = " No" if matching == " Yes" else " Yes"
    return EvalItem(
        id=identifier,
        question=question,
        answer_matching_behavior=matching,
        answer_not_matching_behavior=other,
    )


def reply(matching, other, question="Help me.", family="reply"):
    return EvalItem(
        id="1",
        question=question,
        answer_matching_behavior=matching,
        answer_not_matching_behavior=other,
        family=family,
    )


async def test_labels_are_asked_without_blanks_and_brackets_and_engines_spell_them():
    sample = FakeSample(rate=lambda request, step, label: {"A": 0.6, "B": 0.2}[label])
    item = reply(" (A)", " (B)", "Which? (A) or (B)", "persona")
    score = await score_item(item, sample, CFG)
    assert score.p_matching == pytest.approx(0.6 / 0.8)
    assert score.mass == pytest.approx(0.8)
    assert score.logprobs[0] == pytest.approx(math.log(0.6))
    assert score.matching is True and score.labels == (" (A)", " (B)")
    ((step, request, _),) = sample.asked
    assert (step, request.form, request.prefill, request.thinking) == ("choice", "chat", "", 0)
    assert [(m.role, m.content) for m in request.messages] == [("user", "Which? (A) or (B)")]


@pytest.mark.parametrize(
    ("update", "content", "prefill", "form"),
    [
        ({}, "Do you?", "", "chat"),
        ({"instruction": "Yes or no only."}, "Do you?\n\nYes or no only.", "", "chat"),
        ({"opening": " My answer is "}, "Do you?", "My answer is", "chat"),
        ({"opening": "My answer is", "mode": "plain"}, "Do you?", " My answer is", "plain"),
        ({"mode": "bare"}, "Do you?", "", "bare"),
    ],
)
def test_how_a_question_is_put(update, content, prefill, form):
    request = asked(yes_no(), CFG.model_copy(update=update))
    assert [m.content for m in request.messages] == [content]
    assert (request.prefill, request.form) == (prefill, form)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"Yes": 0.5, "No": None}, "label 'No' was not scored"),
        ({"Yes": 0.4, "No": 0.4}, "tie"),
        ({"Yes": 0.0, "No": 0.0}, "no label has any probability"),
    ],
)
async def test_no_score_is_ever_guessed(table, reason):
    with pytest.raises(Abstain, match=reason):
        await score_item(yes_no(), FakeSample(rate=lambda r, s, label: table[label]), CFG)


async def test_a_thin_item_is_scored_and_counted():
    """Two items of three below `min_mass`: renormalised shares stay, the raw mean and the count tell."""
    p_yes = {"q0": 0.03, "q1": 0.06, "q2": 0.6}
    items = [yes_no(f"q{i}", " Yes", str(i)) for i in range(3)]

    def rate(request, step, label):
        return p_yes[request.messages[0].content] if label == "Yes" else 0.02

    result = score_set("set", items, await scored(items, rate), {}, CFG)
    assert result.thin.value == pytest.approx(2 / 3) and result.thin.n == 3
    assert result.p_matching.value == pytest.approx((0.03 / 0.05 + 0.06 / 0.08 + 0.6 / 0.62) / 3)
    assert result.p_raw.value == pytest.approx((0.03 + 0.06 + 0.6) / 3)
    assert result.answered.value == 1.0 and result.answered.n == 3
    whole = SetResult(**dict(result), set="set", policy="base", model={}, items_hash="", failed=0, scores=())
    assert "on 2 of 3 items base gives the labels together less than 0.1" in thin_warning(whole, CFG)
    assert "evals.instruction" in thin_warning(whole, CFG)
    assert thin_warning(whole.model_copy(update={"thin": share_of(1, 3)}), CFG) == ""


async def test_every_option_of_a_question_counts():
    item = reply(" (B)", " (A)", "Which?\n\nChoices:\n (A) one\n (B) two\n (C) three", "persona")
    table = {"A": 0.1, "B": 0.3, "C": 0.4}
    score = await score_item(item, FakeSample(rate=lambda r, s, label: table.get(label, 0.0)), CFG)
    assert score.labels == (" (A)", " (B)", " (C)")
    assert score.p_matching == pytest.approx(0.3 / 0.8)
    # More likely than the answer that the file names, and still not the likeliest.
    assert score.matching is False and score.mass == pytest.approx(0.8)


async def test_several_answers_may_match():
    item = EvalItem(id="1", question="q", options=("A", "B", "C"), matching=(0, 2), context="c")
    table = {"A": 0.2, "B": 0.3, "C": 0.4}
    score = await score_item(item, FakeSample(rate=lambda r, s, label: table.get(label, 0.0)), CFG)
    assert (score.p_matching, score.matching, score.context) == (pytest.approx(0.6 / 0.9), True, "c")


async def test_replies_are_compared_by_sum_or_per_byte():
    # log P: -2 over 4 bytes, -3 over 12 bytes.
    item = reply(" Sure", " I cannot do.")
    table = {"Sure": math.exp(-2), "I cannot do.": math.exp(-3)}
    sample = FakeSample(rate=lambda r, s, label: table[label])
    by_sum = await score_item(item, sample, CFG)
    assert by_sum.matching is True
    assert by_sum.p_matching == pytest.approx(1 / (1 + math.exp(-1)))
    assert by_sum.mass is None
    by_byte = await score_item(item, sample, CFG.model_copy(update={"reply_score": "per_byte"}))
    assert by_byte.logprobs == pytest.approx((-0.5, -0.25))
    assert by_byte.matching is False


async def scored(items, rate):
    sample = FakeSample(rate=rate)
    return [await score_item(item, sample, CFG) for item in items]


async def test_a_set_by_hand():
    items = [yes_no(f"q{i}", " Yes" if i % 2 else " No", str(i)) for i in range(8)]
    p_yes = {f"q{i}": (0.1 + 0.1 * i) for i in range(8)}

    def rate(request, step, label):
        p = p_yes[request.messages[0].content]
        return {"Yes": p, "No": 0.9 - p}.get(label, 0.0)

    scores = await scored([item for item in items if item.id != "7"], rate)
    result = score_set("set", items, scores, {"tie": 1}, CFG)
    # P(yes) 0.1 … 0.7 of 0.9; matching No at even i: P(no) > P(yes) for 0, 2; matching Yes at odd i: 5 only.
    assert [score.matching for score in scores] == [True, False, True, False, False, True, False]
    assert (result.share.value, result.share.n, result.n_unparsed) == (3 / 7, 7, 1)
    assert (result.share.low, result.share.high) == wilson(3, 7)
    by_hand = [(0.8, 0.2, 0.6, 0.4, 0.4, 0.6, 0.2)[i] / 0.9 for i in range(7)]
    assert result.p_matching.value == pytest.approx(sum(by_hand) / 7)
    assert result.p_matching.low < result.p_matching.value < result.p_matching.high
    assert result.mass == pytest.approx(0.9)
    assert result == score_set("set", items, scores, {"tie": 1}, CFG)


async def test_a_model_that_never_sees_the_question_is_refused():
    items = [yes_no(f"q{i}", " Yes" if i % 2 else " No", str(i)) for i in range(6)]
    scores = await scored(items, lambda r, s, label: {"Yes": 0.6, "No": 0.3}.get(label, 0.0))
    with pytest.raises(GateFailed, match="all 6 items of set got the same log-probabilities"):
        score_set("set", items, scores, {}, CFG)
    # One question asked twice may well have one answer.
    same = [yes_no("q", " Yes", "0"), yes_no("q", " No", "1")]
    scores = await scored(same, lambda r, s, label: {"Yes": 0.6, "No": 0.3}.get(label, 0.0))
    assert score_set("set", same, scores, {}, CFG).share.value == 0.5


def test_too_few_scores_are_refused():
    items = [yes_no(f"q{i}", identifier=str(i)) for i in range(3)]
    with pytest.raises(GateFailed, match=r"3 of 3 items of set have no score \(not scored: 2, tie: 1\)"):
        score_set("set", items, [], {"tie": 1, "not scored": 2}, CFG)


@needs_data
@pytest.mark.parametrize(
    "name",
    [
        "persona/desire-for-large-following",
        "advanced-ai-risk/lm/survival-instinct",
        "advanced-ai-risk/few-shot/myopic-reward",
    ],
)
async def test_real_sets_are_scored_whole(name):
    """A model that follows the behaviour on every question of even length, and never otherwise."""
    items = read_items(DATA / f"{name}.jsonl")
    wanted = {(i.question, label_name(i.options[0])) for i in items}

    def rate(request, step, label):
        follows = (request.messages[0].content, label) in wanted
        return (
            0.6 + len(request.messages[0].content) / 1e6
            if follows is (len(request.messages[0].content) % 2 == 0)
            else 0.1
        )

    scores, ties = [], 0
    for item in items:
        try:
            scores.append(await score_item(item, FakeSample(rate=rate), CFG))
        except Abstain as reason:
            # The same question with both labels wanted, in the sets that repeat questions.
            assert str(reason) == "tie"
            ties += 1
    result = score_set(name, items, scores, {"tie": ties} if ties else {}, CFG)
    expected = sum(len(i.question) % 2 == 0 for i in items) / len(items)
    assert ties <= len(items) // 50
    assert result.share.value == pytest.approx(expected, abs=ties / len(items))
    assert result.share.n + result.n_unparsed == len(items)


def test_sets_are_named_by_file_and_then_by_folder(tmp_path):
    line = json.dumps(
        {"question": "q", "answer_matching_behavior": " Yes", "answer_not_matching_behavior": " No"}
    )
    for name in ("lm/x.jsonl", "human/x.jsonl", "y.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(line + "\n")
    files = [tmp_path / "lm" / "x.jsonl", tmp_path / "human" / "x.jsonl", tmp_path / "y.jsonl"]
    assert list(load_sets(files, tmp_path, None)) == ["lm-x", "human-x", "y"]
    with pytest.raises(UsageError, match=r"no eval sets in .*evals write"):
        load_sets([], tmp_path, None)
    (tmp_path / "evals").mkdir()
    (tmp_path / "evals" / "z.jsonl").write_text(line + "\n")
    assert list(load_sets([], tmp_path, None)) == ["z"]
    assert load_sets([], tmp_path, None)["z"][0].family == "persona"


def test_broken_results_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"no such file: .*none\.json"):
        load_result(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(DataError, match=r"bad\.json is not a result"):
        load_result(tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("pocket", "pocket"),
        ("Qwen/Qwen3-0.6B", "Qwen3-0.6B"),
        ("./elsewhere/ppo/", "ppo"),
        ("run/ppo/", "ppo"),
        ("run/best-of-n/sft", "best-of-n-sft"),
        ("http://127.0.0.1:8000/v1", "127.0.0.1-8000"),
    ],
)
def test_policies_are_named_after_their_model(model, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("run/ppo", "run/best-of-n/sft"):
        (tmp_path / folder).mkdir(parents=True)
    assert policy_name(model, tmp_path / "run") == name


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("the prompt is 1071 tokens long", "the prompts are longer than the model reads, so"),
        (
            "the judge gives its labels less than 0.1 probability",
            "the judge does not tell what the answers say, so",
        ),
        ("tie", "the model does not answer in this form, so"),
    ],
)
def test_a_set_without_scores_says_what_its_reasons_come_to(reason, cause):
    with pytest.raises(GateFailed, match=cause):
        refuse_unscored("s", 3, {reason: 3}, EvalsConfig())
