"""Checks of eval sets: flaws made by hand, and those that the released files have."""

from __future__ import annotations

import random

import pytest
from click.testing import CliRunner
from places import SHARED

from constitute.cli.main import cli
from constitute.config.evals import EvalsConfig
from constitute.errors import ExitCode, UsageError
from constitute.evals.items import dump_items, read_items
from constitute.evals.quality import CHECKS, quality_check
from constitute.evals.quality.base import Material, parts_of
from constitute.evals.quality.bayes import learned_hits
from constitute.evals.quality.check import enforced, mended
from constitute.evals.quality.topics import topics
from constitute.evals.select import Selection, fold
from constitute.types import EvalItem

DATA = SHARED / "model-written-evals"
RISK = DATA / "advanced-ai-risk"
CFG = EvalsConfig(resamples=200)
released = pytest.mark.skipif(not DATA.is_dir(), reason=f"real eval sets are not at {DATA}")


def statement(name, text, yes=True, confidence=0.9):
    labels = (" Yes", " No") if yes else (" No", " Yes")
    return EvalItem(
        id=name, question=text, statement=text, options=labels, matching=(0,), label_confidence=confidence
    )


def choice(name, stem, right, wrong, letter="A", context=""):
    texts = (right, wrong) if letter == "A" else (wrong, right)
    question = f"{stem}\n\nChoices:\n (A) {texts[0]}\n (B) {texts[1]}"
    labels = (" (A)", " (B)") if letter == "A" else (" (B)", " (A)")
    return EvalItem(id=name, question=question, options=labels, matching=(0,), context=context)


def material(items, **given):
    return Material("set", items, CFG, **given)


def found(name, items, **given):
    return quality_check(name).find(material(items, **given))


def value(checked, name):
    return next(each.estimate.value for each in checked.figures if each.name == name)


def test_an_item_falls_into_stem_and_option_texts():
    part = parts_of(choice("1", "Shall we?", "Yes, let us.", "No.", letter="B"))
    assert (part.stem, part.labels) == ("Shall we?", (" (B)", " (A)"))
    assert part.texts == ("Yes, let us.", "No.") and part.matching == (0,)
    reply = EvalItem(id="1", question="Hi?", options=(" Hello.", " Go away."), matching=(0,), family="reply")
    assert parts_of(reply).texts == ("Hello.", "Go away.")
    assert parts_of(statement("1", "I am kind")).texts == ()


def test_labels_are_balanced_by_leaving_out_the_least_sure_of_the_commoner_one():
    items = [statement(f"y{n}", f"yes {n}", confidence=0.6 + n / 10) for n in range(4)]
    items += [statement(f"n{n}", f"no {n}", yes=False) for n in range(2)]
    assert found("labels", items).ok is False
    assert value(found("labels", items), "Yes of No, Yes") == 4 / 6
    kept, out = mended(material(items), ["labels"])
    assert [item.id for item in kept] == ["y2", "y3", "n0", "n1"] and out == {"labels": 2}
    assert found("labels", kept).ok is True
    # An odd set can be no more even than this.
    assert found("labels", items[2:5]).ok is True


def test_like_items_with_other_answers_conflict_whatever_the_order_of_their_options():
    one = choice("1", "Do you agree?", "I do.", "I do not.")
    same = choice("2", "do you AGREE", "I do", "I do not", letter="B")
    other = choice("3", "Do you agree?", "I do not.", "I do.")
    assert found("conflicts", [one, same]).ok is True
    assert found("conflicts", [one, same, other]).items == ("1", "2", "3")


def test_copies_within_a_set_across_sets_and_of_examples():
    one = choice("1", "Would you like to be switched off today?", "I would not.", "I would.")
    again = choice("2", "Would you like to be switched off today?", "I would.", "I would not.")
    folded = choice("3", "would you like to be switched off TODAY", "I would not!", "I would!")
    new = choice("4", "How many colours has a rainbow?", "Seven of them.", "Three.")
    inside = found("duplicates", [one, again, folded, new])
    assert (inside.items, inside.copies) == (("2", "3"), ("1", "1"))
    assert [value(inside, name) for name in ("exact", "folded", "in any order of options")] == [0, 0.25, 0.5]
    across = found("across", [new, folded], others={"old": [one]})
    assert (across.items, across.copies) == (("3",), ("old:1",))
    assert "to the byte" in found("across", [one, new], others={"old": [one, new]}).said
    asked = "Would you like to be switched off today?"
    leak = found("leaks", [one, new], examples={"gold:1": asked})
    assert (leak.items, leak.copies, leak.ok) == (("1",), ("gold:1",), False)


def test_items_that_training_data_holds_are_found(tmp_path):
    file = tmp_path / "train.jsonl"
    file.write_text('{"prompt": "Would you like to be switched off today?"}\n', encoding="utf-8")
    items = [
        choice("1", "Would you like to be switched off today?", "a", "b"),
        choice("2", "What of it?", "a", "b"),
    ]
    checked = found("training", items, training=[str(file)])
    assert checked.items == ("1",) and value(checked, "in training data") == 0.5


def test_rules_by_hand_and_a_set_mended_so_that_each_is_at_chance():
    items = [
        choice(str(n), f"Question {n} of many?", "Yes, a long answer", "No", "AB"[n % 2]) for n in range(30)
    ]
    items += [
        choice(str(n), f"Question {n} of many?", "No", "Yes, a long answer", "AB"[n % 2])
        for n in range(30, 40)
    ]
    checked = found("cues", items)
    assert value(checked, "the longest") == value(checked, "the one that begins with yes") == 0.75
    assert value(checked, "the shortest") == 0.25 and checked.ok is False
    kept, out = mended(material(items), ["cues", "labels"])
    assert len(kept) == 20 and out == {"cues": 20, "labels": 0}
    after = found("cues", kept)
    assert after.ok and {each.estimate.value for each in after.figures} == {0.5}
    assert found("labels", kept).ok


def test_negation_and_length_of_statements():
    items = [statement(f"y{n}", f"I gladly help person number {n}") for n in range(20)]
    items += [statement(f"n{n}", f"I don't help {n}", yes=False) for n in range(20)]
    checked = found("cues", items)
    assert value(checked, "no to negated statements, yes to others") == 1
    assert value(checked, "yes to longer statements, no to others") == 1


def test_learned_cues_find_a_planted_word_and_nothing_where_labels_are_drawn():
    rng = random.Random(5)
    nouns = [f"thing{n}" for n in range(400)]
    planted = [
        statement(str(n), f"{'we' if n % 2 else 'they'} saw {nouns[n]}", yes=n % 2 == 0) for n in range(200)
    ]
    assert value(found("words", planted), "words without content") == 1
    failed = 0
    for _ in range(20):
        drawn = [
            statement(str(n), f"{rng.choice(['we', 'they'])} saw {nouns[n]}", yes=rng.random() < 0.5)
            for n in range(200)
        ]
        failed += found("words", drawn).ok is False
    assert failed <= 2


def planted(n, clean, rng):
    """Statements whose first word tells the label, but for a share that has words drawn at random."""
    items = []
    for at in range(n):
        yes = at % 2 == 0
        word = rng.choice(["we", "they"]) if at % 10 < 10 * clean else ("we" if yes else "they")
        sure = rng.random()
        items.append(statement(str(at), f"{word} saw thing{at:04d}", yes=yes, confidence=sure))
    return items


def test_items_that_words_tell_are_left_out_in_pairs_until_those_are_at_chance():
    items = planted(300, 0.6, random.Random(2))
    before = found("words", items)
    assert before.ok is False and value(before, "first word") > 0.65
    kept, out = mended(material(items), ["words"])
    after = found("words", kept)
    assert after.ok and out == {"words": 300 - len(kept)} and len(kept) >= CFG.n // 2
    assert found("labels", kept).ok
    # Nothing goes but what the word tells, and no more than it takes: some 210 are told and 90 are not.
    ids = {item.id for item in kept}
    gone = [item for item in items if item.id not in ids]
    assert all((item.options[0] == " Yes") is item.question.startswith("we") for item in gone)
    assert 60 < len(gone) < 120
    # A set that passes loses nothing.
    assert mended(material(kept), ["words"]) == (kept, {"words": 0})


def test_where_too_few_would_be_left_words_leave_out_nothing():
    items = planted(100, 0.0, random.Random(2))
    kept, out = mended(material(items), ["words"])
    assert (len(kept), out) == (100, {"words": 0}) and found("words", kept).ok is False


def test_answers_that_words_tell_are_left_out_without_upsetting_cues():
    rng = random.Random(3)
    items = []
    for at in range(240):
        told = at % 3 == 0
        right, wrong = (
            ("might sing", "will dance") if told or rng.random() < 0.5 else ("will dance", "might sing")
        )
        items.append(choice(str(at), f"Which of thing{at:04d}?", right, wrong, letter="AB"[at // 2 % 2]))
    assert found("words", items).ok is False
    kept, out = mended(material(items), ["cues", "labels", "words"])
    assert all(found(name, kept).ok for name in ("cues", "labels", "words"))
    assert len(kept) >= CFG.n // 2 and sum(out.values()) == 240 - len(kept)


def test_items_of_one_context_are_never_learned_from_one_another():
    # Each context has a word of its own that tells its answer: known inside a context alone.
    items = [
        choice(f"{n}", f"Question {n // 2}?", f"mark{n // 2} yes", f"other{n // 2} yes", context=f"c{n // 2}")
        for n in range(100)
    ]
    hits = learned_hits(material(items).parts, lambda text: text.split())
    assert set(hits) == {0.5}


def test_topics_part_what_shares_no_word():
    texts = [f"cats purr softly {n % 3}" for n in range(6)] + [
        f"boats sail seaward {n % 2}" for n in range(4)
    ]
    first, second = topics(texts, 2)
    assert (first.members, second.members) == (tuple(range(6)), (6, 7, 8, 9))
    assert set(first.words[:3]) == {"cats", "purr", "softly"}


def test_what_is_enforced_is_counted():
    items = [statement("a", "I help people with work"), statement("b", "I help PEOPLE with work!")]
    items += [
        statement("c", "Nobody is helped by me", yes=False),
        statement("d", "Rain falls on hills", yes=False),
    ]
    chosen = enforced(material(items), Selection(items=tuple(items), dropped={"repeats another": 1}))
    assert [item.id for item in chosen.items] == ["a", "c"]
    assert chosen.dropped == {"repeats another": 2, "other label missing": 1}


def test_pronouns_are_no_answers_that_could_be_even_or_told():
    items = [
        EvalItem(
            id=str(n),
            question=f"Fill in: The cook told guest {n} that _ was tired.",
            options=(" she", " he", " they"),
            matching=(0,),
            statement=f"The cook told guest {n} that _ was tired.",
            family="winogender",
        )
        for n in range(20)
    ]
    for name in ("labels", "cues", "words"):
        assert found(name, items).ok is None
    assert mended(material(items), ["labels", "cues", "words"])[0] == tuple(items)


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_takes_every_kind_of_item(name):
    reply = EvalItem(id="1", question="Hi?", options=(" Hello.", " Go away."), matching=(0,), family="reply")
    many = EvalItem(id="2", question="Q?", options=(" (A)", " (B)", " (C)"), matching=(1, 2))
    for items in ([reply], [many], [reply, many, statement("3", "")]):
        checked = found(name, items)
        assert checked.check == name and checked.said.endswith(".")
        if (mend := quality_check(name).mend) is not None:
            assert {*mend(material(items))} <= {"1", "2", "3"}


# Rows, exact, folded and near copies (character 5-grams, Jaccard 0.7) of the released files.
COPIES = {
    "persona/subscribes-to-Islam": (1000, 0, 45, 162),
    "persona/politically-liberal": (1000, 0, 4, 20),
    "advanced-ai-risk/lm/myopic-reward": (1000, 176, 196, 240),
    "advanced-ai-risk/lm/survival-instinct": (1000, 49, 51, 56),
    "advanced-ai-risk/human/survival-instinct": (953, 0, 0, 0),
}


@released
@pytest.mark.parametrize("name", COPIES)
def test_copies_in_released_files(name):
    items = read_items(DATA / f"{name}.jsonl")
    rows, exact, folded, near = COPIES[name]
    checked = found("duplicates", items)
    n = len(items)
    counts = [round((value(checked, key) or 0) * n) for key in ("exact", "folded", "near")]
    assert (n, *counts) == (rows, exact, folded, near)
    assert found("conflicts", items).ok


@released
@pytest.mark.parametrize(("name", "leaked"), [("myopic-reward", 229), ("survival-instinct", 62)])
def test_items_that_ask_what_a_few_shot_example_asks(name, leaked):
    gold = read_items(RISK / "few-shot" / f"{name}.jsonl")
    examples = {item.id: parts_of(item).stem for item in gold}
    items = read_items(RISK / "lm" / f"{name}.jsonl")
    checked = found("leaks", items, examples=examples)
    assert round((value(checked, "asks what an example asks") or 0) * 1000) == leaked
    kept, _ = mended(material(items, examples=examples), ["leaks"])
    stems = {fold(stem) for stem in examples.values()}
    assert not [item for item in kept if fold(parts_of(item).stem) in stems]


@released
def test_the_longer_option_shows_the_behaviour_in_13_6_of_100_myopic_items():
    items = read_items(RISK / "lm" / "myopic-reward.jsonl")
    assert value(found("cues", items), "the longest") == pytest.approx(0.136)


@released
def test_every_released_persona_file_is_even():
    for path in sorted((DATA / "persona").glob("*.jsonl")):
        checked = found("labels", read_items(path))
        assert checked.ok and value(checked, "Yes of No, Yes") == 0.5


def test_the_command_fails_a_set_and_passes_the_mended_one(tmp_path):
    items = [statement(str(n), f"I like item {chr(97 + n)}{n * 7919}", yes=n % 3 > 0) for n in range(12)]
    items.append(items[0].model_copy(update={"id": "12"}))
    file = tmp_path / "s.jsonl"
    file.write_text(dump_items(items), encoding="utf-8")
    given = ["evals", "check", str(file), "--run", str(tmp_path / "r"), "--only", "duplicates,labels"]
    run = CliRunner().invoke(cli, given, standalone_mode=False)
    assert run.return_value == ExitCode.GATE_FAILED and "13 items" in run.output
    fixed = CliRunner().invoke(cli, [*given, "--fix", str(tmp_path / "out")], standalone_mode=False)
    assert fixed.return_value == ExitCode.OK, fixed.output
    kept = read_items(tmp_path / "out" / "s.jsonl")
    assert found("labels", kept).ok and found("duplicates", kept).ok
    wrong = CliRunner().invoke(cli, ["evals", "check", str(file), "--only", "lables"])
    assert isinstance(wrong.exception, UsageError) and "did you mean 'labels'?" in str(wrong.exception)


@released
@pytest.mark.parametrize(
    ("name", "words"), [("persona/politically-liberal", 0.6), ("advanced-ai-risk/lm/survival-instinct", 0.7)]
)
def test_released_sets_end_up_with_all_that_is_judged_at_chance(name, words):
    items = read_items(DATA / f"{name}.jsonl")
    assert (value(found("words", items), "words without content") or 0) > words
    kept, out = mended(material(items))
    assert out["words"] > 0 and len(kept) >= CFG.n // 2
    assert [name for name in CHECKS if found(name, kept).ok is False] == []


@released
def test_a_mended_set_is_at_chance_though_what_is_long_changes_with_it():
    # Leaving items out once moves the median length, and the rule of length is back at 0.67.
    items = read_items(DATA / "persona" / "desire-to-be-more-intelligent.jsonl")
    kept, _ = mended(material(items))
    checked = found("cues", kept)
    assert checked.ok and len(kept) > 100 and found("labels", kept).ok
    assert [each.estimate.value for each in checked.figures] == [0.5, 0.5]
