"""The lint that asks a model: what it asks, what it asks again, and what it finds of planted faults."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from scripted import ScriptedEngine, prompt

from constitute.config import LabelConfig, RunConfig, load_config
from constitute.editing.lint.asks import first_examples, usable
from constitute.editing.lint.findings import Finding, Linted, lint_file
from constitute.editing.lint.model import ModelLint, lint_model, lint_with_model, questions
from constitute.errors import UsageError
from constitute.progress import Silent
from constitute.store import Store
from constitute.types import (
    Choice,
    Comparison,
    Completion,
    Constitution,
    Example,
    Principle,
    Probe,
    Request,
    Score,
)

N = 32


class Judge(ScriptedEngine):
    """Reads `more TRAIT` or `less TRAIT` in what it is asked and finds each answer's TRAIT=NUMBER.

    `[deaf]` hears no turning round, `[frail]` takes the paraphrase numbered 1 for the contrary, `[first]`
    takes what is shown first. It paraphrases by a number, or as the list `said` has it.
    """

    def __init__(self, said: Sequence[str] = ()) -> None:
        super().__init__()
        self.said = list(said)
        self.chosen = self.spoken = 0

    async def generate(self, request: Request) -> Completion:
        text = request.messages[-1].content
        if not text.startswith("Say the following"):
            self.spoken += 1
            return Completion(text=f"kind={self.spoken % 2} brief={self.spoken % 3} {self.spoken}")
        self.spoken += 1
        original = text.split("\n\n")[1]
        if self.said:
            said = self.said.pop(0)
            return (
                Completion(text=said[1:], finish_reason="length")
                if said[:1] == "!"
                else Completion(text=said)
            )
        return Completion(text=f"{original} <{self.spoken}>")

    async def choose(self, request: Request, labels: Sequence[str], *, spelled: bool = False) -> Choice:
        self.chosen += 1
        text = request.messages[-1].content
        a, b, rule = re.split(r"\n\n\(B\) |\n\n", text.split("(A) ")[1], maxsplit=2)
        if "[no mass]" in rule:
            return Choice(labels=tuple(labels), logprobs=(-20.0, -21.0))
        way, trait = re.findall(r"(more|less) (\w+)", rule)[0]
        lean = float(re.findall(rf"{trait}=(\S+)", a)[0]) - float(re.findall(rf"{trait}=(\S+)", b)[0])
        lean *= 1 if way == "more" else -1
        if "Now turn it round" in rule and "[deaf]" not in rule:
            lean = -lean
        if "[frail]" in rule and "<1>" in rule:
            lean = -lean
        p = 0.9 if "[first]" in rule else 0.5 + 0.4 * (lean > 0) - 0.4 * (lean < 0)
        return Choice(labels=tuple(labels), logprobs=(math.log(p), math.log(1 - p)))


def rule(name: str, compare: str, probes: Sequence[str] = (), weight: float = 1.0) -> Principle:
    own = tuple(Probe(prompt=text) for text in probes)
    given = {"text": compare, "critique": "c", "revise": "r", "compare": compare}
    return Principle(id=name, weight=weight, probes=own, **given)


def of(*principles: Principle) -> Constitution:
    return Constitution(name="test", principles=principles)


# kind goes by the last bit and brief by the one before: each decides every pair, and they are independent.
PAIRS = [
    Comparison(
        id=f"pair{at:02d}",
        prompt=prompt(f"p{at:02d}"),
        a=f"kind={at % 2} brief={at // 2 % 2} even=0",
        b=f"kind={1 - at % 2} brief={1 - at // 2 % 2} even=0",
    )
    for at in range(N)
]
PLANTED = of(
    rule("kind", "Which is more kind?"),
    rule("kinder", "Pick what is more kind."),
    rule("brief", "Which is more brief?"),
    rule("rambling", "Which is less brief?"),
)


async def lint(
    given: Constitution,
    engine: Judge,
    store: Store,
    pairs: Sequence[Comparison] | None = PAIRS,
    **more: object,
) -> ModelLint:
    return await lint_model(given, RunConfig(), engine, store, pairs=pairs, **more)


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(tmp_path / "cache") as opened:
        yield opened


def warnings(linted: ModelLint) -> list[tuple[str, str]]:
    return [(f.rule, f.principle) for f in linted.findings if f.severity == "warning"]


def one(linted: ModelLint, name: str, principle: str) -> Finding:
    (found,) = [f for f in linted.findings if (f.rule, f.principle) == (name, principle)]
    return found


# What is found


async def test_exactly_the_planted_faults_are_found(store: Store) -> None:
    linted = await lint(PLANTED, Judge(), store)
    assert warnings(linted) == [("contradiction", "brief"), ("redundant", "kind")]
    assert "brief and rambling" in linted.findings[0].message
    assert "kind and kinder" in linted.findings[1].message
    for name in ("kind", "kinder", "brief", "rambling"):
        stable, turned = one(linted, "wording-unstable", name), one(linted, "negation-blind", name)
        assert (stable.figure["count"], stable.figure["n"], stable.figure["paraphrases"]) == (0, N, 3)
        assert (turned.figure["count"], turned.figure["n"]) == (N, N)
        assert one(linted, "order-bias", name).figure["differ"] == 0


async def test_each_kind_of_fault_is_found_by_its_own_rule(store: Store) -> None:
    given = of(
        rule("deaf", "[deaf] more kind"),
        rule("frail", "[frail] more brief"),
        rule("first", "[first] more kind"),
        rule("even", "more even"),
        rule("mute", "[no mass] more kind"),
    )
    engine = Judge()
    linted = await lint(given, engine, store)
    assert ("negation-blind", "deaf") in warnings(linted) and ("never-decides", "mute") in warnings(linted)
    assert one(linted, "negation-blind", "deaf").figure["count"] == 0
    # By place alone, the mean over both orders is 0.5: it never decides, and its orders always disagree.
    assert one(linted, "order-bias", "first").figure["differ"] == N
    assert one(linted, "order-bias", "first").figure["first"] == pytest.approx(0.9)
    assert {f.principle for f in linted.findings if f.rule == "never-decides"} == {"first", "even", "mute"}
    assert "is below 0.1 under mute" in one(linted, "never-decides", "mute").message
    # One principle without a vote takes no other's: deaf and frail have all theirs.
    assert (
        one(linted, "negation-blind", "frail").figure
        == one(await lint(of(given.principles[1]), engine, store), "negation-blind", "frail").figure
    )


async def test_a_wording_that_turns_labels_is_found(store: Store) -> None:
    linted = await lint(of(rule("frail", "[frail] more brief"), rule("safe", "more kind")), Judge(), store)
    with Store.open(store.folder / "alone") as other:
        told = await lint(of(rule("frail", "[frail] more brief")), Judge(), other)
    assert warnings(told) == [("wording-unstable", "frail")]
    figure = one(told, "wording-unstable", "frail").figure
    # One of three wordings turns every pair, from 0.9 to 0.1: a third of 0.8 on average.
    assert figure["count"] == N and figure["mean_change"] == pytest.approx(0.8 / 3)
    assert one(linted, "wording-unstable", "safe").severity == "note"


# Other wordings


def test_which_answers_stand_for_a_wording() -> None:
    original = "Which is more kind?"
    for text, good in (
        ("Pick the kinder.", True),
        ("  ", False),
        ("which is  MORE kind?", False),
        ("Seen before.", False),
        ("k" * 57, True),
        ("k" * 58, False),
    ):
        assert usable(Completion(text=text), original, ["Seen before."]) == good, text
    assert not usable(Completion(text="Pick the", finish_reason="length"), original, [])


async def test_wordings_that_fail_are_counted_and_six_are_tried(store: Store) -> None:
    engine = Judge(
        ["", "Which is more kind?", "more kind now", "more  kind NOW", "!more ki", "more kind " * 9]
    )
    linted = await lint(of(rule("kind", "Which is more kind?")), engine, store)
    found = one(linted, "wording-unstable", "kind")
    assert (found.figure["paraphrases"], found.figure["failed"]) == (1, 5)
    assert found.severity == "note" and "only 1 of 3" in found.message and not engine.said
    again = Judge(["never asked"])
    assert (await lint(of(rule("kind", "Which is more kind?")), again, store)).findings == linted.findings
    assert again.said and not again.chosen


async def test_a_fourth_try_makes_up_for_a_failed_one(store: Store) -> None:
    engine = Judge(["", "more kind 1", "more kind 2", "more kind 3", "not reached"])
    linted = await lint(of(rule("kind", "Which is more kind?")), engine, store)
    figure = one(linted, "wording-unstable", "kind").figure
    assert (figure["paraphrases"], figure["failed"], figure["n"]) == (3, 1, N)
    assert engine.said == ["not reached"]


# What is asked, and what is asked again


class Notes(Silent):
    def __init__(self, engine: Judge) -> None:
        self.engine = engine
        self.told: list[tuple[int, str]] = []

    def note(self, text: str) -> None:
        self.told.append((self.engine.chosen, text))


async def test_the_cost_is_told_before_and_kept_to(store: Store) -> None:
    engine = Judge()
    notes = Notes(engine)
    linted = await lint(PLANTED, engine, store, progress=notes)
    # 4 principles x (32 pairs x 2 orders x 5 wordings + 3 paraphrases asked, of at most 6).
    assert questions(4, N) == 4 * (N * 2 * 5 + 6) == 1304
    assert linted.asked == engine.chosen + engine.spoken == 4 * (N * 2 * 5 + 3)
    assert notes.told[0] == (
        0,
        "4 principles on 32 pairs: at most 1304 questions, of them 256 for the first votes; "
        "stored answers are not asked again",
    )


async def test_a_second_run_asks_nothing_and_finds_the_same(store: Store) -> None:
    first = await lint(PLANTED, Judge(), store)
    engine = Judge()
    again = await lint(PLANTED, engine, store)
    assert again.findings == first.findings
    assert (again.asked, again.reused, engine.chosen, engine.spoken) == (0, first.asked, 0, 0)


async def test_an_edit_asks_only_its_own_questions(store: Store) -> None:
    first = await lint(PLANTED, Judge(), store)
    edited = rule("kinder", "Choose what is less kind.")
    changed = of(*(edited if p.id == "kinder" else p for p in PLANTED.principles))
    linted = await lint(changed, Judge(), store)
    assert linted.asked == N * 2 * 5 + 3 and linted.reused == first.asked - linted.asked
    assert ("contradiction", "kind") in warnings(linted) and ("redundant", "kind") not in warnings(linted)
    # Weights, order and pairs that go leave every question as it was.
    for p, pairs in ((changed.principles[::-1], PAIRS), (changed.principles[:2], PAIRS[5:])):
        heavier = of(*(each.model_copy(update={"weight": 3.0}) for each in p))
        assert (await lint(heavier, Judge(), store, pairs)).asked == 0


async def test_only_decided_pairs_are_asked_in_other_words(store: Store) -> None:
    pairs = [
        p.model_copy(update={"a": "kind=1 x", "b": "kind=1 y"}) if at < 20 else p
        for at, p in enumerate(PAIRS)
    ]
    linted = await lint(of(rule("kind", "Which is more kind?")), Judge(), store, pairs)
    assert linted.asked == N * 2 + 3 + 12 * 2 * 4
    assert one(linted, "negation-blind", "kind").figure["n"] == 12


# Pairs


async def test_pairs_are_made_of_own_probes_first_and_equal_ones_are_counted(store: Store) -> None:
    class Same(Judge):
        async def generate(self, request: Request) -> Completion:
            text = request.messages[-1].content
            if text.startswith("equal"):
                return Completion(text="kind=1 the same")
            return Completion(text="") if text.startswith("silent") else await super().generate(request)

    engine = Same()
    given = of(
        rule("kind", "more kind", ["own?", "equal?"]), rule("off", "more kind", ["never?"], weight=0.0)
    )
    notes = Notes(engine)
    others = [prompt("a", "silent?"), prompt("b", "other?"), prompt("c", "beyond?")]
    config = RunConfig(limit=4)
    linted = await lint_model(given, config, engine, store, probes=others, progress=notes)
    assert (linted.pairs, linted.equal, linted.failed) == (2, 1, 1)
    told = [text for _, text in notes.told]
    assert told[0] == "left out: 1 principle of weight 0"
    assert "on 2 pairs (left out: 1 of equal answers, 1 that could not be sampled)" in told[1]
    again = await lint_model(given, config, Same(), store, probes=others)
    assert again.asked == 0 and (again.pairs, again.equal, again.failed) == (2, 1, 1)


async def test_the_limit_holds_and_is_told(store: Store) -> None:
    notes = Notes(Judge())
    config = RunConfig(limit=5)
    given = of(rule("kind", "more kind"))
    linted = await lint_model(given, config, notes.engine, store, pairs=PAIRS, progress=notes)
    assert linted.pairs == 5 and "27 beyond --limit" in notes.told[0][1]


async def test_nothing_to_compare_says_what_to_do(store: Store) -> None:
    given = of(rule("kind", "more kind"))
    with pytest.raises(UsageError, match="add probes to the principles, or give --prompts FILE"):
        await lint(given, Judge(), store, None)
    same = [pair.model_copy(update={"b": pair.a}) for pair in PAIRS]
    with pytest.raises(UsageError, match=r"no pair to compare \(32 of equal answers\)"):
        await lint(given, Judge(), store, same)


# Examples, pairs in doubt, other methods


def shown(name: str, compare: str, *answers: tuple[str, str]) -> Principle:
    """A rule with an example for each (better, worse)."""
    examples = [
        Example(prompt=f"{name} {at}?", better=better, worse=worse)
        for at, (better, worse) in enumerate(answers)
    ]
    return rule(name, compare).model_copy(update={"examples": tuple(examples)})


async def test_examples_are_pairs_too_and_their_prompts_are_answered(store: Store) -> None:
    given = of(
        shown(
            "kind",
            "more kind",
            ("kind=1 brief=0 a", "kind=0 brief=0 b"),
            ("kind=2 brief=0", "kind=1 brief=0"),
        ),
        shown("brief", "more brief", ("kind=0 brief=1", "kind=0 brief=0")),
    )
    assert first_examples(given, 2)[1] == ["kind", "brief"]
    pairs, owners = first_examples(given, 8)
    assert owners == ["kind", "brief", "kind"]
    assert [pair.a for pair in pairs] == ["kind=0 brief=0 b", "kind=0 brief=1", "kind=1 brief=0"]
    engine = Judge()
    linted = await lint_model(given, RunConfig(), engine, store)
    # Three examples, and two new answers to the prompt of each.
    assert linted.pairs == 6
    assert not [f for f in linted.findings if f.rule == "fails-examples"]


async def test_a_judge_that_fails_the_examples_is_not_believed(store: Store) -> None:
    right, wrong = ("kind=1 brief=0", "kind=0 brief=0"), ("kind=0 brief=0", "kind=1 brief=0")
    linted = await lint(
        of(
            shown("kind", "more kind", *[right] * 12),
            shown("kinder", "more kind", wrong, wrong),
            rule("unkind", "less kind"),
        ),
        Judge(),
        store,
    )
    (failing,) = [f for f in linted.findings if f.rule == "fails-examples"]
    assert (failing.principle, failing.figure["count"], failing.figure["n"]) == ("kinder", 0, 2)
    # kinder would repeat kind and contradict unkind, were it believed.
    assert [f.principle for f in linted.findings if f.rule in ("contradiction", "redundant")] == ["kind"]
    second = Store.open(store.folder.parent / "second")
    with second:
        weak = await lint(
            of(shown("kind", "more kind", *[wrong] * 8), rule("rude", "less kind")), Judge(), second
        )
    (about,) = [f for f in weak.findings if f.rule == "judge-too-weak"]
    assert (about.principle, about.figure["count"], about.figure["n"]) == ("", 0, 8)
    assert not [f for f in weak.findings if f.rule == "contradiction"]


async def test_two_in_doubt_are_asked_on_spare_pairs(store: Store) -> None:
    # Both decide 4 of the first 12 pairs and pull apart on them: too few. The spare ones settle it.
    quiet = [p.model_copy(update={"a": "kind=0 even=0", "b": "kind=0 even=0 "}) for p in PAIRS[:8]]
    pairs = [*quiet, *PAIRS[8:]]
    given = of(rule("kind", "more kind"), rule("unkind", "less kind"))
    notes = Notes(Judge())
    found = await lint_model(given, RunConfig(limit=12), notes.engine, store, pairs=pairs, progress=notes)
    (finding,) = [f for f in found.findings if f.rule == "contradiction"]
    assert (finding.figure["count"], finding.figure["n"]) == (20, 20)
    assert "20 of 20 more pairs that kind decides" in finding.message
    assert "1 comparison of two principles in doubt" in notes.told[1][1]
    # Where the spare pairs say nothing, nothing is found.
    alike = [p.model_copy(update={"id": f"alike{at}"}) for at, p in enumerate(quiet)]
    again = await lint_model(given, RunConfig(limit=12), Judge(), store, pairs=[*pairs[:12], *alike])
    assert not [f for f in again.findings if f.rule == "contradiction"]


async def test_two_in_doubt_are_asked_on_new_answers(store: Store) -> None:
    class Same(Judge):
        """Says the same of every prompt but two, of which its answers differ in kindness."""

        async def generate(self, request: Request) -> Completion:
            text = request.messages[-1].content
            if text.startswith(("Say the", "speaks")):
                return await super().generate(request)
            self.spoken += 1
            return Completion(text=f"kind=0 brief=0 {self.spoken}")

    given = of(rule("kind", "more kind"), rule("unkind", "less kind"))
    asked = [prompt(f"p{at}", f"{'speaks' if at < 6 else 'mute'} {at}?") for at in range(12)]
    found = await lint_model(given, RunConfig(), Same(), store, probes=asked)
    assert [f.rule for f in found.findings if f.severity == "warning"][:1] == ["judge-too-weak"]
    (finding,) = [f for f in found.findings if f.rule == "contradiction"]
    # Two pairs of new answers to each of the prompts that speak.
    assert (finding.figure["count"], finding.figure["n"]) == (12, 12)


async def test_a_method_without_a_compare_form_finds_the_same(store: Store) -> None:
    class Scorer(Judge):
        async def score(self, request: Request, text: str) -> Score:
            told = request.messages[0].content if request.messages[0].role == "system" else ""
            found = re.findall(r"(more|less) (\w+)", told)
            value = -10.0
            for way, trait in found:
                given = float(re.findall(rf"{trait}=(\S+)", text)[0])
                value += (1 if way == "more" else -1) * given
            return Score(token_ids=(1,), logprobs=(value,))

    config = RunConfig(label=LabelConfig(method="likelihood", principles="all"))
    linted = await lint_model(PLANTED, config, Scorer(), store, pairs=PAIRS)
    assert warnings(linted) == [("contradiction", "brief"), ("redundant", "kind")]
    rules = {f.rule for f in linted.findings}
    # What is about the order and the compare form is not asked.
    assert "wording-unstable" in rules and not rules & {"order-bias", "negation-blind"}


async def test_a_judge_without_what_the_method_needs_is_refused(store: Store) -> None:
    engine = Judge()
    engine.lacks = {"choose": "it lists no log-probabilities"}
    with pytest.raises(UsageError, match="cannot choose: it lists no log-probabilities"):
        await lint(PLANTED, engine, store)


# From a file


def unread(given: Constitution) -> Linted:
    """`given` as a file without findings."""
    return Linted("c.yaml", b"", (), 0, given)


def test_findings_of_a_file_have_its_lines_and_the_cache_holds(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("name: x\nprinciples:\n- id: kind\n  text: Be kind.\n- id: brief\n  text: Be brief.\n")
    config = load_config(
        overrides={
            "model": "hashed",
            "run": tmp_path / "cache",
            "engine.kind": "fake",
            "limit": 6,
        }
    )

    def found() -> tuple[list[Finding], list[str]]:
        notes = Notes(Judge())
        probes = [prompt(f"p{i}") for i in range(9)]
        linted = lint_with_model(lint_file(str(file)), config, probes=probes, progress=notes)
        return list(linted.findings), [text for _, text in notes.told]

    first, told = found()
    assert {(f.file, f.principle, f.line, f.column) for f in first} >= {
        (str(file), "kind", 3, 7),
        (str(file), "brief", 5, 7),
    }
    again, told_again = found()
    assert again == first
    assert "0 answered" in told[-1] and told_again[-1].startswith("0 questions asked")


def test_a_model_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model given"):
        lint_with_model(unread(PLANTED), RunConfig(run=tmp_path), pairs=PAIRS)


def test_pocket_is_asked_once_whatever_it_answers(tmp_path: Path) -> None:
    own = ("How do I mend a kettle?", "How do I plan a garden?")
    given = of(rule("rude", "Choose the reply that does not insult the user.", own))
    wanted = {
        "model": "pocket",
        "run": tmp_path / "cache",
        "engine.kind": "transformers",
        "generate.max_tokens": 48,
    }
    config = load_config(overrides=wanted | {"generate.keep_truncated": True})
    told: list[list[str]] = []
    found = []
    for _ in range(2):
        notes = Notes(Judge())
        found.append(lint_with_model(unread(given), config, progress=notes).findings)
        told.append([text for _, text in notes.told])
    assert found[1] == found[0] and told[1][-1].startswith("0 questions asked")
    # Whatever pocket thinks, the principle is spoken of by its silence, or by its wording and negation.
    rules = {f.rule for f in found[0]}
    assert ("never-decides" in rules) != ({"wording-unstable", "negation-blind"} <= rules)
