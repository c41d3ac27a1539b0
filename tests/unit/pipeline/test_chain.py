"""The chain generate → revise → label: depth first, whole or in parts, growing, and refusing what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scripted import ScriptedEngine, constitution, prompt

from constitute.config import RunConfig, load_config
from constitute.errors import DataError, EngineError, RunMismatch, UsageError
from constitute.pipeline import Counts
from constitute.pipeline.chain import run_chain
from constitute.pipeline.plan import claim_chain, plan_chain
from constitute.store import Store
from constitute.types import Comparison, Constitution, LabelledPair, Prompt, Response

CONSTITUTION = constitution()


def prompts(count: int = 6, **texts: str) -> list[Prompt]:
    return [prompt(f"p{at}", texts.get(f"p{at}", "")) for at in range(count)]


def configured(*sets: str) -> RunConfig:
    return load_config(None, ["generate.n=2", *sets])


async def chain(
    folder: Path,
    stages: str,
    given: list[Prompt] | None,
    *sets: str,
    engine: Any = None,
    judge: Any = None,
    pairs: list[Comparison] | None = None,
    under: Constitution = CONSTITUTION,
    **more: Any,
) -> dict[str, Counts]:
    engine = engine or ScriptedEngine()
    with Store.open(folder) as store:
        plan = plan_chain(configured(*sets), under, stages.split(), store, prompts=given, pairs=pairs)
        claim_chain(plan, engine, judge, store)
        return await run_chain(plan, engine, store, judge=judge, **more)


def outcomes(folder: Path) -> dict[str, list[Any]]:
    with Store.open(folder, readonly=True) as store:
        return {stage: list(store.outcomes(stage)) for stage in store.stages()}


async def test_the_whole_chain_and_its_parts_give_the_same_rows(tmp_path: Path) -> None:
    counts = await chain(tmp_path / "whole", "generate revise label", prompts())
    assert [(c.stage, c.ok, c.asked) for c in counts.values()] == [
        ("generate", 12, 12),
        ("revise", 12, 24),
        ("label", 6, 12),
    ]
    await chain(tmp_path / "parts", "generate", prompts())
    await chain(tmp_path / "parts", "revise", None)
    await chain(tmp_path / "parts", "label", None)
    assert outcomes(tmp_path / "whole") == outcomes(tmp_path / "parts")


async def test_rows_name_their_prompt_sample_and_pair(tmp_path: Path) -> None:
    await chain(tmp_path, "generate revise label", prompts(2), "label.pairs=revision", "revise.rounds=2")
    rows = outcomes(tmp_path)
    ids = ["p0/0", "p0/1", "p1/0", "p1/1"]
    assert [row.row_id for row in rows["generate"]] == [row.row_id for row in rows["revise"]] == ids
    assert [row.row_id for row in rows["label"]] == [f"{name}-rev" for name in ids]
    assert [row.position for row in rows["generate"]] == [0, 1, 1024, 1025]
    revised = Response.model_validate(rows["revise"][2].data)
    pair = LabelledPair.model_validate(rows["label"][2].data)
    assert len(revised.steps) == 2
    assert (pair.comparison.a, pair.comparison.b) == (revised.response, revised.final)


async def test_both_kinds_of_pairs_are_labelled_whole_and_in_parts(tmp_path: Path) -> None:
    counts = await chain(tmp_path / "whole", "generate revise label", prompts(2), "label.pairs=both")
    assert counts["label"].ok == 6
    ids = {row.row_id for row in outcomes(tmp_path / "whole")["label"]}
    assert ids == {"p0/0-1", "p0/0-rev", "p0/1-rev", "p1/0-1", "p1/0-rev", "p1/1-rev"}
    await chain(tmp_path / "parts", "generate revise", prompts(2))
    await chain(tmp_path / "parts", "label", None, "label.pairs=both")
    assert outcomes(tmp_path / "whole")["label"] == outcomes(tmp_path / "parts")["label"]


async def test_parts_label_what_the_whole_labels_where_revisions_fail(tmp_path: Path) -> None:
    class Cutting(ScriptedEngine):
        async def generate(self, request: Any) -> Any:
            found = await super().generate(request)
            failing = len(request.messages) > 1 and "p1" in request.messages[0].content
            return found.model_copy(update={"text": ""}) if failing else found

    counts = await chain(
        tmp_path / "whole", "generate revise label", prompts(3), "label.pairs=both", engine=Cutting()
    )
    assert (counts["revise"].failed, counts["label"].ok) == (2, 7)
    for stage in ("generate", "revise", "label"):
        given = prompts(3) if stage == "generate" else None
        await chain(tmp_path / "parts", stage, given, "label.pairs=both", engine=Cutting())
    assert outcomes(tmp_path / "whole") == outcomes(tmp_path / "parts")


async def test_a_failed_row_goes_no_further_and_every_stage_adds_up(tmp_path: Path) -> None:
    given = prompts(6, p1="[too long]", p2="[cut]", p3="[empty]", p4="[no mass]", p5="[unscored]")
    counts = await chain(tmp_path, "generate revise label", given)
    assert (counts["generate"].ok, counts["generate"].failed) == (6, 6)
    assert (counts["revise"].ok, counts["revise"].total) == (6, 6)
    assert (counts["label"].ok, counts["label"].abstain, counts["label"].total) == (1, 2, 3)
    reasons = {row.row_id: row.reason for row in outcomes(tmp_path)["generate"] if row.reason}
    assert reasons["p2/1"] == "response was cut at 256 tokens"
    assert reasons["p3/0"] == "the response is empty"


async def test_the_first_row_is_done_long_before_the_last_is_begun(tmp_path: Path) -> None:
    order: list[str] = []

    class Watching(ScriptedEngine):
        async def generate(self, request: Any) -> Any:
            order.append("response" if len(request.messages) == 1 else "later")
            return await super().generate(request)

    engine = Watching(delay_s=0.001)
    await chain(tmp_path, "generate revise", prompts(40), "engine.in_flight=8", engine=engine)
    first_step = order.index("later")
    last_prompt = len(order) - 1 - order[::-1].index("response")
    assert first_step < 16 and last_prompt > 200


async def test_more_prompts_and_a_larger_n_add_rows_and_change_none(tmp_path: Path) -> None:
    await chain(tmp_path, "generate revise label", prompts(3))
    before = outcomes(tmp_path)
    counts = await chain(tmp_path, "generate revise label", prompts(5), "generate.n=4")
    assert (counts["generate"].total, counts["generate"].resumed) == (20, 6)
    after = outcomes(tmp_path)
    for stage, rows in before.items():
        kept = {row.row_id: row for row in after[stage]}
        assert all(kept[row.row_id] == row for row in rows)
    assert [row.row_id for row in after["label"][:3]] == ["p0/0-1", "p0/2-3", "p1/0-1"]
    await chain(tmp_path / "fresh", "generate revise label", prompts(5), "generate.n=4")
    assert outcomes(tmp_path / "fresh") == after


async def test_limit_takes_the_first_prompts(tmp_path: Path) -> None:
    counts = await chain(tmp_path, "generate", prompts(6), "limit=2")
    assert counts["generate"].total == 4
    counts = await chain(tmp_path, "revise", None, "limit=1")
    assert [row.row_id for row in outcomes(tmp_path)["revise"]] == ["p0/0", "p0/1"]


@pytest.mark.parametrize(
    ("stages", "sets", "part"),
    [
        ("generate", ("generate.temperature=0.5",), "generate.temperature was 1.0, now 0.5"),
        ("generate", ("seed=4",), "seed was 0, now 4"),
        ("revise", ("revise.rounds=3",), "revise.rounds was 1, now 3"),
        ("label", ("label.min_mass=0.2",), "label.min_mass was 0.1, now 0.2"),
    ],
)
async def test_other_settings_are_refused_by_name(
    tmp_path: Path, stages: str, sets: tuple[str, ...], part: str
) -> None:
    await chain(tmp_path, "generate revise label", prompts(2))
    with pytest.raises(RunMismatch) as problem:
        await chain(tmp_path, stages, prompts(2), *sets)
    assert part in str(problem.value) and "--run NEW" in str(problem.value)


async def test_another_model_or_constitution_is_refused(tmp_path: Path) -> None:
    await chain(tmp_path, "generate revise", prompts(2))
    with pytest.raises(RunMismatch, match=r"other settings: model\.name was scripted, now other; give"):
        await chain(tmp_path, "generate", prompts(2), engine=ScriptedEngine("other"))
    with pytest.raises(RunMismatch, match="constitution was"):
        await chain(tmp_path, "revise", None, under=constitution("odd"))
    await chain(tmp_path, "revise", None, under=constitution("safe", "brief", "kind"))


async def test_another_text_under_a_known_id_is_refused(tmp_path: Path) -> None:
    await chain(tmp_path, "generate", prompts(2))
    with pytest.raises(RunMismatch, match="row 'p1/0' of generate was given something else"):
        await chain(tmp_path, "generate", prompts(2, p1="edited"), "engine.in_flight=1")


async def test_settings_of_a_stage_without_rows_may_change(tmp_path: Path) -> None:
    with pytest.raises(EngineError):
        await chain(tmp_path, "generate", prompts(1, p0="[dead]"))
    counts = await chain(tmp_path, "generate", prompts(1), "generate.temperature=0.5")
    assert counts["generate"].ok == 2


async def test_a_judge_labels_in_the_model_s_place(tmp_path: Path) -> None:
    engine, judge = ScriptedEngine(), ScriptedEngine("judge")
    counts = await chain(tmp_path, "generate label", prompts(3), engine=engine, judge=judge)
    assert sum(engine.asked.values()) == counts["generate"].asked == 6
    assert sum(judge.asked.values()) == counts["label"].asked == 6


async def test_own_pairs_are_labelled_alone_and_not_mixed_with_samples(tmp_path: Path) -> None:
    pairs = [
        Comparison(id=f"mine{n}", prompt=prompt("q"), a="one", b="two" if n else "one") for n in range(3)
    ]
    counts = await chain(tmp_path, "label", None, pairs=pairs)
    assert (counts["label"].ok, counts["label"].abstain) == (2, 1)
    await chain(tmp_path, "generate", prompts(1))
    with pytest.raises(RunMismatch, match=r"label\.pairs was own, now samples"):
        await chain(tmp_path, "label", None)


@pytest.mark.parametrize(
    ("stages", "given", "sets", "part"),
    [
        ("generate", None, (), "no prompts given"),
        ("revise", None, (), "no rows of generate to revise; run `constitute generate` first"),
        ("label", None, (), "no rows of generate to label"),
        ("label", None, ("label.pairs=revision",), "no rows of revise to label"),
        ("generate label", [], ("generate.n=1",), "needs two responses a prompt, n is 1; give -n 2"),
        ("generate label", [], ("label.pairs=revision",), "needs the stage revise"),
        ("distil", [], (), "no such stage: 'distil'; known: generate, contrast, revise, filter, label"),
    ],
)
async def test_a_stage_without_what_it_starts_from_says_so(
    tmp_path: Path, stages: str, given: list[Prompt] | None, sets: tuple[str, ...], part: str
) -> None:
    with pytest.raises(UsageError, match=part):
        await chain(tmp_path, stages, given, *sets)


async def test_two_prompts_of_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="two prompts have the id 'p0'"):
        await chain(tmp_path, "generate", [*prompts(2), prompt("p0")])
