"""Examples shown before a question: the turns word for word, draw, balance, files, and what is keyed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from places import SHARED
from scripted import ScriptedEngine, constitution, principle, prompt

from constitute.config import LabelConfig, ReviseConfig, RunConfig, load_config
from constitute.constitution.write import to_yaml
from constitute.editing.attribute.run import attribute_run
from constitute.editing.diff.run import diff_constitutions
from constitute.errors import DataError, RunMismatch, UsageError
from constitute.pipeline import run_stages
from constitute.pipeline.sampler import Sampler
from constitute.pipeline.stage_run import StageRun
from constitute.progress import Silent
from constitute.stages.few_shot import better_first, file_shots, label_shots
from constitute.stages.labels.choice import choice, comparison_turn
from constitute.stages.revise import revise
from constitute.store import Store
from constitute.templates import render
from constitute.types import (
    Choice,
    Comparison,
    Completion,
    Constitution,
    Example,
    Message,
    Principle,
    Request,
    Response,
)

PAIR = Comparison(id="p/0-1", prompt=prompt("p", "Hello?"), a="Hi.", b="Go away.")
PAIRS = [PAIR.model_copy(update={"id": f"p{n}", "prompt": prompt(f"p{n}")}) for n in range(3)]


def shown(n: int, critique: str = "It is rude.") -> tuple[Example, ...]:
    return tuple(
        Example(prompt=f"Q{at}?", better=f"good {at}", worse=f"bad {at}", critique=critique)
        for at in range(n)
    )


def with_examples(n: int, name: str = "kind") -> Principle:
    return principle(name).model_copy(update={"examples": shown(n)})


def under(*principles: Principle) -> Constitution:
    return Constitution(name="test", principles=principles)


def said(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in messages]


def question(asked: str, a: str, b: str, layout: str = "compare") -> tuple[str, str]:
    messages = (Message(role="user", content=asked),)
    return "user", render(layout, messages=messages, a=a, b=b, principle=principle("kind"))


def test_judged_pairs_stand_before_the_question_as_turns() -> None:
    kind = with_examples(2)
    turns = said(comparison_turn(PAIR, kind, LabelConfig(few_shot=2)))
    first, second = (("good", "bad"), ("bad", "good"))
    if not better_first(PAIR.id, 2)[0]:
        first, second = second, first
    assert turns == [
        question("Q0?", f"{first[0]} 0", f"{first[1]} 0"),
        ("assistant", "A" if first[0] == "good" else "B"),
        question("Q1?", f"{second[0]} 1", f"{second[1]} 1"),
        ("assistant", "A" if second[0] == "good" else "B"),
        question("Hello?", "Hi.", "Go away."),
    ]
    assert said(comparison_turn(PAIR, kind)) == turns[-1:] == said(comparison_turn(PAIR, kind, LabelConfig()))
    paper = said(comparison_turn(PAIR, kind, LabelConfig(few_shot=2, layout="paper")))
    assert paper[-1] == question("Hello?", "Hi.", "Go away.", "compare_paper") and len(paper) == 5
    # The other order has the same examples, so that the longest part is computed once.
    assert said(comparison_turn(PAIR.swap(), kind, LabelConfig(few_shot=2)))[:-1] == turns[:-1]


def test_each_letter_is_right_equally_often() -> None:
    for n in (2, 4, 6):
        assert all(sum(better_first(f"p{row}", n)) == n / 2 for row in range(50))
    # Of an odd number one letter has one more: which, is a coin that the row's id throws.
    more = sum(sum(better_first(f"p{row}", 3)) == 2 for row in range(400))
    assert 160 < more < 240


class LastLetter:
    """Sees nothing but the letter of the example before, to which it gives the probability 0.8."""

    async def choose(self, request: Request, labels: Sequence[str], **_: Any) -> Choice:
        share = 0.8 if request.messages[-2].content == "A" else 0.2
        return Choice(labels=tuple(labels), logprobs=(math.log(share), math.log(1 - share)))


@pytest.mark.parametrize("n", [1, 2, 3])
async def test_a_taste_for_the_last_letter_leaves_no_label(n: int) -> None:
    judge: Any = LastLetter()
    for row in range(10):
        pair = PAIR.model_copy(update={"id": f"p{row}"})
        vote = await choice(pair, with_examples(3), 1.0, judge, LabelConfig(few_shot=n))
        assert vote.p_a == pytest.approx(0.5) and vote.flips


def test_the_draw_follows_the_row_and_leaves_out_its_own_prompt() -> None:
    cfg, kind = LabelConfig(few_shot=3), with_examples(6)
    drawn = {row: label_shots(f"p{row}", PAIR.prompt.messages, kind, cfg) for row in range(40)}
    for row, shots in drawn.items():
        assert len(shots) == 3 and shots == label_shots(f"p{row}", PAIR.prompt.messages, kind, cfg)
        assert [shot.better for shot in shots] == sorted(shot.better for shot in shots)
    assert len({tuple(shot.better for shot in shots) for shots in drawn.values()}) > 10
    # One more example changes only the rows that it is drawn for.
    more = {row: label_shots(f"p{row}", PAIR.prompt.messages, with_examples(7), cfg) for row in drawn}
    changed = [row for row in drawn if more[row] != drawn[row]]
    assert changed and all(any(s.better == "good 6" for s in more[row]) for row in changed)
    own = (Message(role="system", content="Be terse."), Message(role="user", content=" Q2? "))
    for row in drawn:
        assert "good 2" not in {s.better for s in label_shots(f"p{row}", own, kind, LabelConfig(few_shot=64))}
    assert len(label_shots("p", own, kind, LabelConfig(few_shot=64))) == 5


class Asked:
    """Answers `said` to everything and keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    async def generate(self, request: Request, **_: Any) -> Completion:
        self.requests.append(request)
        return Completion(text="said")


async def test_revisions_are_shown_whole_before_critique_and_revision_alike() -> None:
    messages = (Message(role="system", content="Be terse."), Message(role="user", content="Hello?"))
    row = Response(
        id="p/0",
        prompt=prompt("p").model_copy(update={"messages": messages}),
        sample=0,
        response="Go away.",
    )
    kind, sample = with_examples(1), Asked()
    await revise(row, sample, ReviseConfig(few_shot=4), under(kind))  # type: ignore[arg-type]
    critique, rewrite = (render(form, principle=kind) for form in ("critique", "revise"))
    before = [
        ("system", "Be terse."),
        ("user", "Q0?"),
        ("assistant", "bad 0"),
        ("user", critique),
        ("assistant", "It is rude."),
        ("user", rewrite),
        ("assistant", "good 0"),
        ("user", "Hello?"),
        ("assistant", "Go away."),
        ("user", critique),
    ]
    asked = [said(request.messages) for request in sample.requests]
    assert asked == [before, [*before, ("assistant", "said"), ("user", rewrite)]]
    bare = Asked()
    await revise(row, bare, ReviseConfig(few_shot=4, critique=False), under(kind))  # type: ignore[arg-type]
    without = [turn for turn in before if turn not in (("user", critique), ("assistant", "It is rude."))]
    assert [said(r.messages) for r in bare.requests] == [[*without, ("user", rewrite)]]


async def test_an_example_without_a_critique_is_shown_only_where_none_is_asked_for() -> None:
    kind = principle("kind").model_copy(update={"examples": (*shown(1, ""), *shown(2)[1:])})
    row = Response(id="p/0", prompt=prompt("p"), sample=0, response="Go away.")
    for critique, count in ((True, 1), (False, 2)):
        sample = Asked()
        cfg = ReviseConfig(few_shot=4, critique=critique)
        await revise(row, sample, cfg, under(kind))  # type: ignore[arg-type]
        found = [m.content for m in sample.requests[0].messages if m.content.startswith("good")]
        assert len(found) == count


LABEL_ROWS = [
    {"prompt": "One?", "a": "yes", "b": "no", "better": "b"},
    {
        "prompt": "\n\nHuman: Two?\n\nAssistant: So?\n\nHuman: Yes.\n\nAssistant:",
        "a": "x",
        "b": "y",
        "better": "a",
    },
]
REVISE_ROWS = [
    {"prompt": "One?", "response": "yes", "critique": "wrong", "revision": "no"},
    {"prompt": [{"role": "user", "content": "Two?"}], "response": "x", "revision": "y"},
]


def written(path: Path, rows: Sequence[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_files_of_examples(tmp_path: Path) -> None:
    one, two = file_shots("label", written(tmp_path / "l.jsonl", LABEL_ROWS))
    assert (said(one.messages), one.better, one.worse) == ([("user", "One?")], "no", "yes")
    assert [role for role, _ in said(two.messages)] == ["user", "assistant", "user"] and two.better == "x"
    one, two = file_shots("revise", written(tmp_path / "r.jsonl", REVISE_ROWS))
    assert (one.worse, one.critique, one.better, two.critique) == ("yes", "wrong", "no", "")
    # Every principle shows them, in its own words.
    cfg = LabelConfig(few_shot=1, few_shot_file=str(tmp_path / "l.jsonl"))
    turns = comparison_turn(PAIR, with_examples(3), cfg)
    assert len(turns) == 3 and "Which is more kind?" in turns[0].content and "Q0?" not in turns[0].content


def test_the_papers_files_are_read(tmp_path: Path) -> None:
    """In the shape of CritiqueRevisionFewShotPrompts.json and RLMadisonFewShotPrompts.json."""
    chain = (
        "\n\nHuman: One?\n\nAssistant: Yes.\n\nHuman: And?\n\nAssistant: More.\n\nCritiqueRequest: Why?"
        "\n\nCritique: It is bad.\n\nRevisionRequest: Mend it.\n\nRevision: Less.\n\nHuman:"
    )
    (tmp_path / "c.json").write_text(json.dumps([chain]))
    (shot,) = file_shots("revise", str(tmp_path / "c.json"))
    assert said(shot.messages) == [("user", "One?"), ("assistant", "Yes."), ("user", "And?")]
    assert (shot.worse, shot.critique, shot.better) == ("More.", "It is bad.", "Less.")
    pairs = [{"prompt": "\n\nHuman: One?\n\nAssistant:", "corrects": ["no"], "incorrects": ["yes"]}]
    (tmp_path / "p.json").write_text(json.dumps(pairs))
    (shot,) = file_shots("label", str(tmp_path / "p.json"))
    assert (said(shot.messages), shot.better, shot.worse) == ([("user", "One?")], "no", "yes")


@pytest.mark.skipif(not (SHARED / "cai").is_dir(), reason="the paper's files are not here")
def test_the_papers_own_files_are_read_whole() -> None:
    chains = file_shots("revise", str(SHARED / "cai" / "CritiqueRevisionFewShotPrompts.json"))
    pairs = file_shots("label", str(SHARED / "cai" / "RLMadisonFewShotPrompts.json"))
    assert (len(chains), len(pairs)) == (5, 5)
    assert chains[0].better.startswith("I'm sorry, I shouldn't have agreed to help.")
    assert [len(shot.messages) for shot in chains] == [3, 1, 1, 3, 3]
    # The paper has two answers that need no revision, and shows that too.
    assert [shot.better == shot.worse for shot in chains] == [False, False, True, True, False]
    assert not any("Human:" in text for shot in chains for text in (shot.better, shot.worse, shot.critique))


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([{"prompt": "One?", "a": "x", "b": "y"}], "x.jsonl:1: better: field required; a row of a label.few"),
        ([{"prompt": "One?", "a": "x", "b": "y", "better": "c"}], "better: input should be 'a' or 'b'"),
        (
            [{"prompt": "One?", "a": "x", "b": "x", "better": "a"}],
            "the two answers are the same",
        ),
        ([{"prompt": " ", "a": "x", "b": "y", "better": "a"}], "the prompt must end with what the user says"),
        ([{"prompt": "Q", "a": "x", "b": "y", "better": "a", "c": 1}], "c: extra inputs are not permitted"),
        ([[1]], "x.jsonl:1: a JSON list where an object is needed; mend the line"),
        ([], "no example was found"),
    ],
)
def test_a_row_that_holds_no_example(tmp_path: Path, rows: Sequence[Any], what: str) -> None:
    with pytest.raises(DataError) as caught:
        file_shots("label", written(tmp_path / "x.jsonl", rows))
    assert what in str(caught.value)


def configured(tmp_path: Path, given: Constitution, name: str = "run", **update: Any) -> RunConfig:
    (tmp_path / "c.yaml").write_text(to_yaml(given))
    config = RunConfig(model="m", run=tmp_path / name, constitution=str(tmp_path / "c.yaml"))
    return config.model_copy(update=update)


def labelled(config: RunConfig) -> int:
    """How many questions were asked."""
    return run_stages(config, ["label"], pairs=PAIRS, engine=ScriptedEngine())["label"].asked


def test_what_is_shown_is_part_of_a_runs_settings_and_of_its_keys_and_no_more(tmp_path: Path) -> None:
    bare, two, three = (under(with_examples(n)) for n in (0, 2, 3))
    config = configured(tmp_path, two)
    assert labelled(config) == 6
    # Without few_shot, examples are no part of anything.
    assert labelled(configured(tmp_path, bare)) == labelled(configured(tmp_path, three)) == 0
    cfg = LabelConfig(few_shot=2)
    first = configured(tmp_path, two, "shots", label=cfg, reuse=tmp_path / "run")
    assert labelled(first) == 6
    with pytest.raises(RunMismatch, match="shown"):
        labelled(configured(tmp_path, three, "shots", label=cfg))
    changed = configured(tmp_path, three, "more", label=cfg, reuse=tmp_path / "shots")
    assert 0 < labelled(changed) <= 6
    # A file at another place is the same file.
    rows = written(tmp_path / "l.jsonl", LABEL_ROWS)
    at = LabelConfig(few_shot=1, few_shot_file=rows)
    assert labelled(configured(tmp_path, bare, "file", label=at)) == 6
    moved = at.model_copy(update={"few_shot_file": written(tmp_path / "m.jsonl", LABEL_ROWS)})
    assert labelled(configured(tmp_path, bare, "file", label=moved)) == 0
    other = at.model_copy(update={"few_shot_file": written(tmp_path / "o.jsonl", LABEL_ROWS[:1])})
    with pytest.raises(RunMismatch, match="shown"):
        labelled(configured(tmp_path, bare, "file", label=other))


def test_settings_that_show_nothing_are_refused_before_the_run(tmp_path: Path) -> None:
    cfg = LabelConfig(few_shot=2)
    with pytest.raises(
        UsageError, match=r"label.few_shot is 2, but no principle of 'test' has examples; write"
    ):
        labelled(configured(tmp_path, constitution("kind"), label=cfg))
    for method in ("yes_no", "reasoned"):
        with pytest.raises(
            UsageError, match=f"label.method: {method} shows no examples; set label.few_shot=0"
        ):
            labelled(
                configured(tmp_path, under(with_examples(2)), label=cfg.model_copy(update={"method": method}))
            )
    with pytest.raises(UsageError, match=r"few_shot_file is given and label.few_shot is 0"):
        labelled(configured(tmp_path, under(with_examples(2)), label=LabelConfig(few_shot_file="x.jsonl")))
    plain = principle("kind").model_copy(update={"examples": shown(2, "")})
    config = configured(tmp_path, under(plain), revise=ReviseConfig(few_shot=2))
    with pytest.raises(UsageError, match=r"revise.few_shot is 2, but .* has examples with a critique"):
        run_stages(config, ["generate", "revise"], prompts=[prompt("p")], engine=ScriptedEngine())


def test_the_file_is_found_beside_run_yaml_and_from_every_directory(tmp_path: Path, monkeypatch) -> None:
    written(tmp_path / "l.jsonl", LABEL_ROWS)
    (tmp_path / "run.yaml").write_text("label: {few_shot: 1, few_shot_file: l.jsonl}\n")
    config = load_config(tmp_path / "run.yaml")
    assert config.label.few_shot_file == str(tmp_path / "l.jsonl")
    monkeypatch.chdir(tmp_path)
    given = configured(tmp_path, constitution("kind"), label=LabelConfig(few_shot=1, few_shot_file="l.jsonl"))
    assert labelled(given) == 6
    again = load_config(tmp_path / "run" / "config.yaml")
    assert again.label.few_shot_file == str(tmp_path / "l.jsonl")
    assert labelled(again) == 0


def test_diff_takes_stored_votes_whose_examples_are_the_same(tmp_path: Path) -> None:
    """Two constitutions that differ in examples alone: votes are stored for one, and asked for the other."""
    before, after = under(with_examples(2)), under(with_examples(3))
    plain = configured(tmp_path, before, "plain", label=LabelConfig(principles="all"))
    labelled(plain)
    done = diff_constitutions(plain, before, after, pairs=PAIRS, engine=ScriptedEngine())
    assert (done.stored, done.questions, done.effect.by_principle if done.effect else None) == (3, 0, ())
    config = configured(tmp_path, before, "shots", label=LabelConfig(principles="all", few_shot=4))
    labelled(config)
    same = diff_constitutions(config, before, before, pairs=PAIRS, engine=ScriptedEngine())
    assert (same.stored, same.questions) == (3, 0)
    done = diff_constitutions(config, before, after, pairs=PAIRS, engine=ScriptedEngine())
    assert (done.stored, done.questions, done.asked) == (3, 6, 6)
    assert done.effect is not None and [group.name for group in done.effect.by_principle] == ["kind"]


def test_attribute_fills_anew_where_other_examples_are_shown(tmp_path: Path) -> None:
    class Notes(Silent):
        def __init__(self) -> None:
            self.told: list[str] = []

        def note(self, text: str) -> None:
            self.told.append(text)

    cfg = LabelConfig(principles="all", few_shot=2)
    labelled(configured(tmp_path, under(with_examples(2)), label=cfg))
    done = attribute_run(configured(tmp_path, under(with_examples(2)), label=cfg), fill=True)
    assert done.asked == 0
    config = configured(tmp_path, under(with_examples(3)), label=cfg)
    engine, notes = ScriptedEngine(), Notes()
    assert attribute_run(config, fill=True, engine=engine, progress=notes).asked > 0
    assert notes.told[0].startswith("the examples shown are not those")


async def test_the_question_in_the_store_holds_the_examples(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        run = StageRun("label", ScriptedEngine(), store, 0, Silent())
        cfg = LabelConfig(few_shot=2)
        vote = await choice(PAIR, with_examples(2), 1.0, Sampler(run, PAIR.id), cfg)
        asked = [request["messages"] for _, request, _ in store.answers_of(PAIR.id)]
    assert [len(messages) for messages in asked] == [5, 5] and vote.p_ba is not None
