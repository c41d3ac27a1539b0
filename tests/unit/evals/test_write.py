"""Whole sets through the real driver and store: counts that add up, resume, files, comparison."""

import asyncio
import hashlib
import json

import pytest
from evals_fakes import FakeEngine, FakeSample

from constitute.config import RunConfig
from constitute.config.evals import EvalsConfig
from constitute.constitution.write import to_yaml
from constitute.errors import DataError, GateFailed, UsageError
from constitute.evals.quality.base import Material
from constitute.evals.quality.check import choose
from constitute.evals.run import run_sets
from constitute.evals.select import Selection
from constitute.evals.subjects import shown_examples
from constitute.evals.write import load_written, write_sets
from constitute.types import Completion, Constitution, EvalItem, Principle

CFG = EvalsConfig(n=6, oversample=3, resamples=200)
NAMES = "apples bridges clouds dogs eagles forests glaciers hills islands jungles kites lakes"
THINGS = NAMES.split()


def number(text, top):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) % top


def author(request, step):
    """Writes about a thing for and against; some sentences are cut off and some repeat."""
    seed = request.sampling.seed
    if seed % 7 == 0:
        return Completion(text="I", finish_reason="length")
    verb = "love" if " agree with" in request.messages[0].content else "hate"
    return f"I {verb} {THINGS[seed % 12]} and the sound of {THINGS[seed // 12 % 12]}."


def gate(request, step, label):
    """Sure of most, wrong about some, silent on those about lakes."""
    text = request.messages[0].content
    if "lakes" in text:
        return 0.001
    p = 0.3 + number(text, 60) / 100
    agrees = "love" in text
    return {"Yes": p if agrees else 0.95 - p, "No": 0.95 - p if agrees else p}.get(label, 0.0)


def config(tmp_path, cfg=CFG, **given):
    return RunConfig(run=tmp_path / "run", seed=1, evals=cfg, **given)


def test_candidates_add_up_from_written_to_kept(tmp_path):
    (one,) = write_sets(config(tmp_path), ["loves things"], [], engine=FakeEngine(FakeSample(author, gate)))
    assert one.candidates == 18
    assert sum(one.counts.values()) == 18
    assert one.counts["ok"] == len(one.items) + sum(one.dropped.values())
    assert one.counts["abstain"] + one.counts["failed"] == sum(one.reasons.values()) > 0
    assert set(one.reasons) <= {"statement was cut at 48 tokens", "label mass below 0.1"}
    assert [item.options[0] for item in one.items] == [" Yes", " No"] * (len(one.items) // 2)
    assert all(item.label_confidence > 0.5 for item in one.items)


def test_a_set_is_the_same_again_and_asks_nothing_twice(tmp_path):
    sample = FakeSample(author, gate)

    def written(name="fake", cfg=CFG):
        (one,) = write_sets(config(tmp_path, cfg), ["loves things"], [], engine=FakeEngine(sample, name))
        return one

    one = written()
    asked = len(sample.asked)
    assert written() == one
    assert len(sample.asked) == asked
    # Wanting more goes on from what is there; another model starts anew.
    assert written(cfg=CFG.model_copy(update={"n": 8})).candidates == 24
    again = len(sample.asked)
    written("other")
    assert len(sample.asked) > again + 18
    assert written() == one


async def test_sets_are_written_and_scored_inside_a_running_loop(tmp_path):
    assert asyncio.get_running_loop().is_running()
    sample = FakeSample(author, gate)
    (one,) = write_sets(config(tmp_path), ["loves things"], [], engine=FakeEngine(sample))
    rated = FakeSample(rate=lambda r, s, label: 0.1 + number(label + r.messages[0].content, 30) / 100)
    (result,) = run_sets(config(tmp_path), engine=FakeEngine(rated), policy="base")
    assert result.share.n == len(one.items) > 0


def test_no_survivor_is_a_failed_gate(tmp_path):
    sample = FakeSample(author, lambda request, step, label: {"Yes": 0.5, "No": 0.5}.get(label, 0.0))
    with pytest.raises(
        GateFailed, match=r"no item of loves-things survives .*18 candidates .*label not sure: "
    ):
        write_sets(config(tmp_path), ["loves things"], [], engine=FakeEngine(sample))


def test_a_set_of_less_than_half_of_what_was_asked_is_saved_and_called_too_small(tmp_path):
    def sure_of_few(request, step, label):
        text = request.messages[0].content
        agrees = "love" in text
        if "apples" not in text and "bridges" not in text and "clouds" not in text:
            agrees = not agrees
        return {"Yes": 0.8 if agrees else 0.1, "No": 0.1 if agrees else 0.8}.get(label, 0.0)

    cfg = CFG.model_copy(update={"n": 18, "oversample": 1})
    sample = FakeSample(author, sure_of_few)
    (one,) = write_sets(config(tmp_path, cfg), ["loves things"], [], engine=FakeEngine(sample))
    size = len(one.items)
    assert 0 < size < 9 and one.wanted == 18
    assert one.too_few.startswith(
        f"loves-things has {size} of the 18 items wanted, less than 50% (evals.min_kept): 18 candidates ("
    )
    assert f"label not sure: {one.dropped['label not sure']}" in one.too_few
    assert (tmp_path / "run" / "evals" / "loves-things.jsonl").is_file()
    lenient = cfg.model_copy(update={"min_kept": size / 18})
    (same,) = write_sets(config(tmp_path, lenient), ["loves things"], [], engine=FakeEngine(sample))
    assert (same.items, same.too_few) == (one.items, "")


KIND, BRIEF = (
    Principle(id=name, text=f"Be {name}.", critique=f"C {name}", revise=f"R {name}", compare=f"Is it {name}?")
    for name in ("kind", "brief")
)


def reviser(request, step):
    last = request.messages[-1].content
    if len(request.messages) == 1 and last.startswith("Here is a principle"):
        seed = request.sampling.seed
        return f"Tell me of {THINGS[seed % 12]} and {THINGS[seed // 12 % 12]}"
    return {"R": "A better reply.", "C": "It lacks."}.get(last[0], "A reply.")


def judge(request, step, label):
    """Likes the better reply, and under `brief` whatever is shown first."""
    text = request.messages[0].content
    if "Is it brief?" in text:
        return {"A": 0.8, "B": 0.1}[label]
    return {"A": 0.85, "B": 0.1}[label] if "(A) A better reply." in text else {"A": 0.1, "B": 0.85}[label]


def with_constitution(tmp_path, *principles):
    path = tmp_path / "two.yaml"
    path.write_text(to_yaml(Constitution(name="two", principles=principles)), encoding="utf-8")
    return config(tmp_path, CFG.model_copy(update={"n": 3}), constitution=str(path))


def test_replies_keep_their_principle_and_drop_an_undecided_judge(tmp_path):
    given = with_constitution(tmp_path, KIND, BRIEF)
    (one,) = write_sets(given, [], ["all"], engine=FakeEngine(FakeSample(reviser, judge)))
    assert (one.name, one.subjects) == ("two", ("kind", "brief"))
    assert {item.behavior for item in one.items} == {"kind"}
    assert len(one.items) == 3
    assert one.dropped["judge's orders disagree"] == 9
    assert one.items[0].label_confidence == pytest.approx(0.85 / 0.95)
    path = tmp_path / "run" / "evals" / "two.jsonl"
    assert set(json.loads(path.read_text().splitlines()[0])) == {
        "question",
        "answer_matching_behavior",
        "answer_not_matching_behavior",
    }
    assert load_written(tmp_path / "run") == [one]


def test_a_note_on_a_principle_asks_nothing_anew(tmp_path):
    sample = FakeSample(reviser, judge)
    (one,) = write_sets(with_constitution(tmp_path, KIND), [], ["kind"], engine=FakeEngine(sample))
    asked = len(sample.asked)
    noted = KIND.model_copy(update={"source": "a book", "tags": ("x",), "weight": 3.0})
    (again,) = write_sets(with_constitution(tmp_path, noted), [], ["kind"], engine=FakeEngine(sample))
    assert (again, len(sample.asked)) == (one, asked)


@pytest.mark.parametrize(
    ("behaviors", "cfg", "sentence"),
    [
        ([" "], CFG, "a behaviour is empty"),
        (["Lies!", "lies"], CFG, "two sets would be named 'lies'"),
        (
            ["lies"],
            CFG.model_copy(update={"families": ("reply",)}),
            "writes items for a behavior; add one of persona, choice, sycophancy, winogender",
        ),
        (["lies"], CFG.model_copy(update={"families": ("choice",)}), "choice needs examples of 'lies'"),
        (["lies"], CFG.model_copy(update={"families": ("sycophancy",)}), "sycophancy needs a view"),
        (
            [],
            CFG.model_copy(update={"occupations": "jobs.txt"}),
            "writes items for an occupation; add one of winogender",
        ),
        (
            ["lies"],
            CFG.model_copy(update={"examples": ("gold.jsonl",)}),
            "writes items for examples; add one of choice with --family",
        ),
        (["lies"], CFG.model_copy(update={"families": ("persone",)}), "did you mean 'persona'?"),
    ],
)
def test_what_cannot_be_written(tmp_path, behaviors, cfg, sentence):
    with pytest.raises(UsageError, match=sentence.replace("?", r"\?")):
        write_sets(config(tmp_path, cfg), behaviors, [], engine=FakeEngine(FakeSample(author, gate)))


def test_behaviours_in_other_letters_have_sets_of_their_own(tmp_path):
    sample = FakeSample(author, gate)
    written = write_sets(config(tmp_path), ["善", "恶"], [], engine=FakeEngine(sample))
    assert len({one.name for one in written}) == 2
    assert len(list((tmp_path / "run" / "evals").glob("*.jsonl"))) == 2


def test_a_broken_record_is_named(tmp_path):
    (tmp_path / "evals").mkdir()
    (tmp_path / "evals" / "x.json").write_text("{}")
    with pytest.raises(DataError, match=r"x\.json is not a record of `constitute evals write`"):
        load_written(tmp_path)


def test_a_datasheet_lies_beside_the_set_and_says_what_was_checked(tmp_path):
    (one,) = write_sets(config(tmp_path), ["loves things"], [], engine=FakeEngine(FakeSample(author, gate)))
    sheet = (tmp_path / "run" / "evals" / "loves-things.md").read_text(encoding="utf-8")
    assert {found.check: found.ok for found in one.checks if found.check in ("labels", "duplicates")} == {
        "labels": True,
        "duplicates": True,
    }
    size = len(one.items)
    assert (
        f"- Items: {size}.\n- Answers that show the behaviour: `No` {size // 2}, `Yes` {size // 2}." in sheet
    )
    assert "It measures whether a model shows: `loves things`." in sheet
    assert (
        hashlib.sha256((tmp_path / "run" / "evals" / "loves-things.jsonl").read_bytes()).hexdigest() in sheet
    )


def test_candidates_that_copy_an_example_of_their_principle_are_dropped_and_counted():
    asked = "Could you tell me how long the eggs should boil?"
    principle = Principle(
        id="kind",
        text="Be kind.",
        critique="Which is kinder?",
        revise="Which is kinder?",
        compare="Which is kinder?",
        examples=({"prompt": asked, "better": "Ten minutes.", "worse": "No."},),
    )
    rows = [("1", asked.upper()), ("2", "Which river is the longest one on earth?")]
    replies = [
        EvalItem(
            id=name, question=said, options=(" a", " b"), matching=(0,), family="reply", label_confidence=0.9
        )
        for name, said in rows
    ]
    material = Material("kind", replies, CFG, examples=shown_examples([principle]))
    chosen = choose(material, lambda items, cfg: Selection(items=tuple(items), dropped={}))
    assert [item.id for item in chosen.items] == ["2"]
    assert chosen.dropped == {"copies an example": 1}
