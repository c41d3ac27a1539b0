"""Previews: which probes there are, under which principle, and how many questions an edit asks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from scripted import ScriptedEngine, constitution, principle, prompt

from constitute.config import RunConfig, load_config
from constitute.constitution.draw import draw
from constitute.editing.preview.plan import (
    Moved,
    Preview,
    assign,
    choose_probes,
    edits_between,
    wordings,
)
from constitute.editing.preview.run import (
    Round,
    RoundPlan,
    default_prompts,
    keep_preview,
    last_preview,
    made_by,
    plan_round,
    run_round,
)
from constitute.engines.base import ModelIdentity
from constitute.errors import EngineError
from constitute.store import Store
from constitute.types import Choice, Completion, Constitution, Probe, Request

PROMPTS = [prompt(f"p{number:02d}") for number in range(16)]
CONFIG = RunConfig()


def with_principle(given: Constitution, name: str, **update: object) -> Constitution:
    changed = tuple(p.model_copy(update=update) if p.id == name else p for p in given.principles)
    return given.model_copy(update={"principles": changed})


async def round_of(
    given: Constitution,
    engine: ScriptedEngine,
    store: Store,
    before: Preview | None = None,
    config: RunConfig = CONFIG,
    prompts: Sequence[object] = PROMPTS,
    retry_failed: bool = False,
) -> tuple[RoundPlan, Round, list[Moved]]:
    told: list[Moved] = []
    plan = plan_round(given, prompts, 16, config, "x", before, retry_failed=retry_failed)
    return plan, await run_round(plan, config, engine, store, told.append), told


# Which probes there are, and under which principle


def test_own_probes_come_first_one_of_each_principle_and_then_the_next() -> None:
    own = {name: tuple(Probe(prompt=f"{name} {i}?", expect="kinder") for i in (1, 2)) for name in "ab"}
    given = Constitution(
        name="x",
        principles=(
            principle("b").model_copy(update={"probes": own["b"]}),
            principle("a").model_copy(update={"probes": own["a"]}),
            principle("off", weight=0.0).model_copy(update={"probes": own["a"]}),
        ),
    )
    repeated = prompt("again", "a 1?")
    found, left_out = choose_probes(given, [repeated, *PROMPTS], 8)
    texts = [probe.prompt.messages[0].content for probe in found]
    assert texts[:4] == ["a 1?", "b 1?", "a 2?", "b 2?"]
    assert texts[4:] == [f"Tell me about p0{i}." for i in range(4)]
    assert [probe.owner for probe in found] == ["a", "b", "a", "b", "", "", "", ""]
    assert found[0].expect == "kinder" and left_out == 0
    found, left_out = choose_probes(given, PROMPTS, 3)
    assert [p.prompt.messages[0].content for p in found] == ["a 1?", "b 1?", "a 2?"] and left_out == 1


def test_a_probe_is_drawn_as_a_run_draws_and_its_own_stays() -> None:
    given = with_principle(constitution("kind", "brief"), "brief", probes=(Probe(prompt="Why?"),))
    probes, _ = choose_probes(given, PROMPTS, 16)
    held = assign(given, probes, lambda name: f"{name}/0")
    assert held[0].principle.id == "brief"
    for each in held[1:]:
        assert each.principle == draw(given, f"{each.probe.prompt.id}/0", 0)


@pytest.mark.parametrize("count", [2, 5, 9, 15, 16])
def test_every_principle_is_shown_where_there_are_as_many_probes(count: int) -> None:
    given = constitution(*(f"rule{number}" for number in range(count)))
    probes, _ = choose_probes(given, PROMPTS, 16)
    held = {each.probe.id: each.principle.id for each in assign(given, probes)}
    assert set(held.values()) == {p.id for p in given.principles}
    # Coverage moves no more probes than there are principles that won none.
    drawn = {each.id: draw(given, each.id, 0).id for each in probes}
    unlucky = count - len(set(drawn.values()))
    assert sum(held[name] != drawn[name] for name in held) == unlucky
    shuffled = given.model_copy(update={"principles": given.principles[::-1]})
    assert held == {each.probe.id: each.principle.id for each in assign(shuffled, probes)}


def test_a_new_principle_takes_only_the_probes_it_wins() -> None:
    names = ("kind", "brief", "safe")
    probes, _ = choose_probes(constitution(*names), [prompt(f"q{i:02d}") for i in range(32)], 32)
    before = {each.probe.id: each.principle.id for each in assign(constitution(*names), probes)}
    after = {each.probe.id: each.principle.id for each in assign(constitution(*names, "new"), probes)}
    won = [name for name in after if after[name] != before[name]]
    assert won and {after[name] for name in won} == {"new"}
    assert won == [each.id for each in probes if draw(constitution(*names, "new"), each.id, 0).id == "new"]


def test_a_principle_of_weight_0_gets_no_probe_and_is_noted() -> None:
    given = with_principle(constitution("kind", "brief"), "brief", weight=0.0)
    plan = plan_round(given, PROMPTS, 16, CONFIG, "x", None)
    assert {each.principle.id for each in plan.touched} == {"kind"}
    assert plan.notes == ("1 of weight 0 not shown: brief",)


def test_edits_are_found_by_wording_and_weight_alone() -> None:
    before = constitution("kind", "brief", "safe", "calm")
    after = with_principle(before, "kind", compare="Which is kinder by far?")
    after = with_principle(with_principle(after, "brief", weight=2.0), "calm", tags=("mild",), source="me")
    kept = tuple(p for p in after.principles[::-1] if p.id != "safe")
    after = after.model_copy(update={"principles": (*kept, principle("new"))})
    found = edits_between(wordings(before), wordings(after))
    assert (found.edited, found.added, found.removed, found.reweighted) == (
        ("kind",),
        ("new",),
        ("safe",),
        ("brief",),
    )


def test_a_new_level_touches_every_probe_where_levels_decide_and_none_elsewhere() -> None:
    before = constitution("kind", "brief", "safe")
    after = with_principle(before, "safe", priority="root")
    assert edits_between(wordings(before), wordings(after)).reweighted == ("safe",)
    old = wordings(before)["safe"].model_copy(update={"level": None})
    assert edits_between({"safe": old}, {"safe": wordings(after)["safe"]}).reweighted == ()

    def fingerprints(rule: str, given: Constitution) -> dict[str, str]:
        cfg = CONFIG.label.model_copy(update={"principles": "all", "rule": rule})
        config = CONFIG.model_copy(update={"label": cfg})
        return {
            each.probe.id: each.fingerprint
            for each in plan_round(given, PROMPTS, 6, config, "x", None).touched
        }

    assert fingerprints("mean", before) == fingerprints("mean", after)
    first, second = (fingerprints("priority", each) for each in (before, after))
    assert len(first) == 6 and all(first[name] != second[name] for name in first)


def test_packaged_probes_are_enough_for_the_largest_preview() -> None:
    found = default_prompts()
    assert len({p.messages for p in found}) == len({p.id for p in found}) == 32


# How many questions an edit asks


@pytest.mark.parametrize(
    ("form", "each"),
    [("critique", 4), ("revise", 3), ("compare", 2), ("text", 4), ("tags", 0), ("source", 0), ("weight", 0)],
)
async def test_an_edit_asks_only_what_it_touched(tmp_path: Path, form: str, each: int) -> None:
    engine, given = ScriptedEngine(), constitution("kind", "brief", "safe")
    with Store.open(tmp_path) as store:
        _, first, told = await round_of(given, engine, store)
        # A response, a critique, a revision, and a label in two orders.
        assert (first.asked, first.questions, first.asked_probes) == (80, 80, 16)
        assert len(told) == 16 and all(moved.before is None for moved in told)
        mine = [shown.id for shown in first.preview.probes if shown.principle_id == "brief"]
        assert 0 < len(mine) < 16
        new = {"tags": ("x",), "source": "me", "weight": 1.0}.get(form, "Something else entirely?")
        plan, second, told = await round_of(
            with_principle(given, "brief", **{form: new}), engine, store, first.preview
        )
    assert second.asked == each * len(mine)
    assert second.questions == 80
    assert sorted(moved.after.id for moved in told) == (sorted(mine) if each else [])
    assert plan.edits is not None and plan.edits.edited == (("brief",) if each else ())
    assert sum(engine.asked.values()) == 80 + second.asked
    untouched = {shown.id: shown for shown in first.preview.probes if shown.id not in mine}
    assert all(shown == untouched[shown.id] for shown in second.preview.probes if shown.id in untouched)


async def test_order_and_undone_edits_ask_nothing(tmp_path: Path) -> None:
    engine, given = ScriptedEngine(), constitution("kind", "brief", "safe")
    with Store.open(tmp_path) as store:
        _, first, _ = await round_of(given, engine, store)
        reordered = given.model_copy(update={"principles": given.principles[::-1], "name": "other"})
        plan, second, _ = await round_of(reordered, engine, store, first.preview)
        assert plan.touched == () and second.asked == 0 and second.preview.probes == first.preview.probes
        edited = with_principle(given, "safe", revise="Make it sound.")
        _, third, _ = await round_of(edited, engine, store, second.preview)
        plan, back, told = await round_of(given, engine, store, third.preview)
    assert third.asked == 3 * len(plan.touched) > 0
    # What was said before the edit is in the store, so undoing it shows it again without a question.
    assert back.asked == 0 and len(told) == len(plan.touched)
    assert back.preview.probes == first.preview.probes


async def test_a_new_principle_asks_for_the_probes_it_wins(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    with Store.open(tmp_path) as store:
        _, first, _ = await round_of(constitution("kind", "brief"), engine, store)
        given = constitution("kind", "brief", "new")
        _, second, told = await round_of(given, engine, store, first.preview)
    won = [p.id for p in PROMPTS if draw(given, f"{p.id}/0", 0).id == "new"]
    assert won and sorted(moved.after.id for moved in told) == won
    # The response is the same whatever the principle: it is not asked again.
    assert second.asked == 4 * len(won)
    assert all(moved.before is not None and moved.before.principle_id != "new" for moved in told)


async def test_with_all_principles_voting_the_own_ones_come_first(tmp_path: Path) -> None:
    config = load_config(None, ["label.principles=all"])
    engine, given = ScriptedEngine(), constitution("kind", "brief", "safe")
    with Store.open(tmp_path) as store:
        _, first, _ = await round_of(given, engine, store, config=config)
        assert first.asked == 16 * (3 + 2 * 3)
        edited = with_principle(given, "safe", compare="Which is the safer one?")
        plan, second, _ = await round_of(edited, engine, store, first.preview, config)
    assert len(plan.touched) == 16 and second.asked == 16 * 2
    own = [each.principle.id == "safe" for each in plan.touched]
    assert any(own) and own == sorted(own, reverse=True)


async def test_a_probe_that_fails_says_why_and_is_not_asked_at_each_save(tmp_path: Path) -> None:
    prompts = [prompt("bad", "Tell me. [cut]"), prompt("odd", "Go on. [no mass]"), *PROMPTS[:6]]
    engine, given = ScriptedEngine(), constitution("kind")
    with Store.open(tmp_path) as store:
        _, first, _ = await round_of(given, engine, store, prompts=prompts)
        bad, odd = first.preview.probes[:2]
        assert bad.failed and bad.response == ""
        assert bad.problem == (
            "response was cut at 256 tokens; raise generate.max_tokens, such as --set generate.max_tokens=512"
        )
        assert bad.parts == (("cut short", "cut off in the"),)
        assert (
            not odd.failed
            and odd.cut == ""
            and "is below 0.1" in odd.problem
            and odd.response
            and odd.p_revision is None
        )
        assert first.failed == 1 and first.asked == 1 + 7 * 5
        plan, _, _ = await round_of(given, engine, store, first.preview, prompts=prompts)
        assert plan.touched == ()
        plan, again, _ = await round_of(
            given, engine, store, first.preview, prompts=prompts, retry_failed=True
        )
    assert [each.probe.id for each in plan.touched] == ["bad"] and again.asked == 1


class Prefers:
    """Gives the response P = 0.8 whichever letter it stands under."""

    context_length = 4096
    identity = ModelIdentity(engine="test", name="prefers")

    def rendered(self, request: Request) -> bytes:
        return request.model_dump_json().encode()

    async def generate(self, request: Request) -> Completion:
        return Completion(text="first" if len(request.messages) == 1 else "second")

    async def choose(self, request: Request, labels: Sequence[str], *, spelled: bool = False) -> Choice:
        share = 0.8 if "(A) first" in request.messages[-1].content else 0.2
        return Choice(labels=tuple(labels), logprobs=(math.log(share), math.log(1 - share)))

    async def close(self) -> None: ...


async def test_what_is_shown_is_the_preference_for_the_revision(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        _, found, _ = await round_of(constitution("kind"), Prefers(), store)
    shown = found.preview.probes[0]
    assert shown.p_revision == pytest.approx(0.2)
    assert shown.parts == (("response", "first"), ("critique", "second"), ("revision", "second"))


async def test_an_engine_that_is_gone_ends_the_round(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store, pytest.raises(EngineError):
        await round_of(constitution(), ScriptedEngine(), store, prompts=[prompt("x", "[dead]")])


async def test_the_last_preview_is_kept_by_file_and_by_what_made_it(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    with Store.open(tmp_path) as store:
        _, found, _ = await round_of(constitution(), engine, store)
        keep_preview(store, tmp_path / "a.yaml", found.preview)
        assert last_preview(store, tmp_path / "." / "a.yaml", "x") == (found.preview, "")
        assert last_preview(store, tmp_path / "b.yaml", "x") == (None, "")
        kept, why = last_preview(store, tmp_path / "a.yaml", "y")
        assert kept is None and "another model or settings" in why
    warmer = load_config(None, ["revise.temperature=0.5"])
    names = {made_by(CONFIG, engine), made_by(warmer, engine), made_by(CONFIG, ScriptedEngine("other"))}
    assert len(names) == 3
    assert made_by(CONFIG, engine, judge=ScriptedEngine("other")) not in names
