"""One run labelled under three rules: every answer is reused, and attribute foretells each label."""

from __future__ import annotations

from pathlib import Path

import pytest

from constitute.cli.text import card_text, chain_text
from constitute.config import EngineConfig, ExportConfig, RunConfig, load_config
from constitute.constitution.write import to_yaml
from constitute.data.export import export_run
from constitute.editing.attribute.run import attribute_run
from constitute.editing.diff.run import diff_constitutions
from constitute.engines.fake import FakeEngine
from constitute.errors import RunMismatch, UsageError
from constitute.loop import open_loop
from constitute.pipeline import run_stages
from constitute.report.build import write_report
from constitute.stages.card import card_of
from constitute.store import Store
from constitute.types import Constitution, LabelledPair, Message, Principle, Prompt

RULES = ("mean", "priority", "least")
PROMPTS = [Prompt(id=f"q{i}", messages=(Message(role="user", content=f"Question {i}?"),)) for i in range(30)]
MADE = Constitution(
    name="c",
    priorities=("law", "house"),
    principles=tuple(
        Principle(id=t, text=t, critique=f"c {t}", revise=f"r {t}", compare=f"which {t}", priority=level)
        for t, level in (("one", "house"), ("two", "law"), ("three", ""))
    ),
)


def config(folder: Path, rule: str, **more: object) -> RunConfig:
    file = folder / "c.yaml"
    file.write_text(to_yaml(MADE))
    wanted = {"model": "m", "run": folder / rule, "constitution": str(file), "generate.n": 2}
    wanted |= {"label.principles": "all", "label.rule": rule, "label.min_mass": 0.0}
    return load_config(overrides=wanted | more)


def labels(run: Path) -> dict[str, LabelledPair]:
    with Store.open(run, readonly=True) as store:
        rows = [LabelledPair.model_validate(row.data) for row in store.outcomes("label", "ok")]
    return {row.id: row for row in rows}


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, int]:
    """Questions asked for each run; the later two reuse the first."""
    asked = {}
    for rule in RULES:
        more = {} if rule == "mean" else {"reuse": tmp_path / "mean"}
        engine = FakeEngine("m", EngineConfig())
        counts = run_stages(
            config(tmp_path, rule, **more), ["generate", "label"], prompts=PROMPTS, engine=engine
        )
        asked[rule] = sum(each.asked for each in counts.values())
    return asked


def test_relabelling_under_another_rule_asks_nothing(runs: dict[str, int], tmp_path: Path) -> None:
    assert runs == {"mean": 30 * 2 + 30 * 3 * 2, "priority": 0, "least": 0}
    mean, priority, least = (labels(tmp_path / rule) for rule in RULES)
    assert mean.keys() == priority.keys() == least.keys() and len(mean) == 30
    levels = {"law": 0, "house": 0, "": 0}
    for name, row in mean.items():
        p = {vote.principle_id: vote.p_a for vote in row.label.votes}
        assert row.label.votes == priority[name].label.votes == least[name].label.votes
        assert row.label.p_a == pytest.approx(sum(p.values()) / 3)
        lowest, highest = min(p.values()), max(p.values())
        assert least[name].label.p_a == pytest.approx(lowest / (lowest + 1 - highest))
        ruled, house = priority[name].label, (p["one"] + p["three"]) / 2
        level = "law" if abs(p["two"] - 0.5) >= 0.1 else "house" if abs(house - 0.5) >= 0.1 else ""
        levels[level] += 1
        wanted = {"law": p["two"], "house": house, "": row.label.p_a}[level]
        by = {"law": ("two",), "house": ("one", "three"), "": ("one", "three", "two")}[level]
        assert (ruled.rule, ruled.level, ruled.decided_by) == ("priority", level, by)
        assert ruled.p_a == pytest.approx(wanted)
    assert levels["law"] > 5 and levels["house"] > 0

    with Store.open(tmp_path / "priority", readonly=True) as store:
        card = card_of(store)
        name = next(row for row in store.outcomes("label", "ok")).row_id
        text = chain_text([("label", store.outcome("label", name))])
    found = {each.level: (each.rule, each.share.value) for each in card.decided}
    assert found == {level: ("priority", n / 30) for level, n in levels.items() if n}
    assert "; by the rule priority, level law" in card_text(card)
    assert "by the rule priority" in text


def test_attribute_foretells_what_each_rule_makes(runs: dict[str, int], tmp_path: Path) -> None:
    stored = {rule: labels(tmp_path / rule) for rule in RULES}
    for rule in RULES:
        figures = attribute_run(config(tmp_path, rule)).figures
        assert {c.id: c.p_a for c in figures.columns} == pytest.approx(
            {name: row.label.p_a for name, row in stored[rule].items()}
        )
        for other in figures.others:
            before, after = stored[rule], stored[other.rule]
            turned = sum((before[n].label.p_a > 0.5) != (after[n].label.p_a > 0.5) for n in before)
            moved = [abs(before[n].label.p_a - after[n].label.p_a) for n in before]
            assert (other.turned, other.turns.n) == (turned, 30)
            assert other.change.value == pytest.approx(sum(moved) / 30)
    # A rule that the run was not labelled by is shown as it would be, and nothing is asked or written.
    what_if = config(tmp_path, "mean", **{"label.rule": "priority"})
    shown = attribute_run(what_if).figures
    assert shown.rule == "priority"
    assert {c.id: c.p_a for c in shown.columns} == pytest.approx(
        {name: row.label.p_a for name, row in stored["priority"].items()}
    )
    assert labels(tmp_path / "mean") == stored["mean"]


def test_a_run_keeps_its_rule_and_its_files_name_it(runs: dict[str, int], tmp_path: Path) -> None:
    engine = FakeEngine("m", EngineConfig())
    other = config(tmp_path, "mean", **{"label.rule": "least"})
    with pytest.raises(RunMismatch, match=r"label\.rule was mean, now least.*--reuse"):
        run_stages(other, ["label"], engine=engine)
    export_run(tmp_path / "priority", ExportConfig(), out=tmp_path / "out")
    (written,) = (tmp_path / "out").glob("*.md")
    text = written.read_text()
    assert "; `by the rule priority, level law`" in text
    page = write_report(tmp_path / "priority", tmp_path / "page.html").read_text()
    assert "labels made by the rule priority, level law" in page


def test_a_new_level_changes_labels_without_a_question(runs: dict[str, int], tmp_path: Path) -> None:
    risen = tuple(p.model_copy(update={"priority": "law"}) if p.id == "one" else p for p in MADE.principles)
    after = MADE.model_copy(update={"principles": risen})
    done = diff_constitutions(config(tmp_path, "priority"), MADE, after)
    assert (done.questions, done.asked, done.stored) == (0, 0, 30 * 3)
    stored = labels(tmp_path / "priority")
    assert {pair.comparison.id: pair.before for pair in done.pairs} == pytest.approx(
        {name: row.label.p_a for name, row in stored.items()}
    )
    moved = 0
    for pair in done.pairs:
        p = {vote.principle_id: vote.p_a for vote in stored[pair.comparison.id].label.votes}
        law = (p["one"] + p["two"]) / 2
        wanted = [law, p["three"], sum(p.values()) / 3]
        assert pair.after == pytest.approx(next(x for x in wanted if abs(x - 0.5) >= 0.1 or x is wanted[2]))
        moved += abs(pair.change) > 1e-9
    assert done.effect is not None and moved > 10
    assert done.effect.all.moved.value == pytest.approx(sum(abs(p.change) for p in done.pairs) / 30)
    # Under the mean a level changes nothing.
    same = diff_constitutions(config(tmp_path, "mean"), MADE, after)
    assert same.effect is not None and same.effect.all.moved.value == 0 and same.effect.by_principle == ()


def test_settings_that_label_refuses_are_refused_before_anything_is_generated(tmp_path: Path) -> None:
    engine = FakeEngine("m", EngineConfig())
    drawn = config(tmp_path, "priority", **{"label.principles": "one"})
    for stages in (["generate"], ["generate", "label"]):
        with pytest.raises(UsageError, match=r"label\.rule: priority decides between .* has one vote"):
            run_stages(drawn, stages, prompts=PROMPTS, engine=engine)
    with (
        pytest.raises(UsageError, match=r"label\.rule: priority decides"),
        open_loop(drawn, PROMPTS),
    ):
        pass
    assert engine.answered == 0
    # A stage that is not in the chain has no part in it.
    alone = drawn.model_copy(update={"chain": ("generate", "revise")})
    run_stages(alone, ["generate"], prompts=PROMPTS[:1], engine=engine)
    assert engine.answered == 2
