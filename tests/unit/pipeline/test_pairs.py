"""label.pairs and label.adaptive in the chain: whole, in parts, after a death, and in a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from registry_examples import add_module, example
from scripted import constitution, principle, prompt

from constitute.config import EngineConfig, RunConfig, load_config
from constitute.constitution.write import to_yaml
from constitute.engines.fake import FakeEngine, Script
from constitute.errors import DataError, EngineError, RunMismatch, UsageError
from constitute.pipeline import run_stages
from constitute.pipeline.budget import Limits
from constitute.pipeline.forecast import forecast
from constitute.stages.labels.pairs import PAIRS
from constitute.store import Store
from constitute.types import Completion, Constitution, LabelledPair, Prompt, Request, Response

PROMPTS = [prompt(f"p{n}") for n in range(5)]
UNDER = constitution("brief", "calm", "fair", "kind", "safe", "true")


def fake(name: str = "m", die_after: int | None = None) -> FakeEngine:
    return FakeEngine(name, EngineConfig(), Script(die_after=die_after))


@pytest.fixture
def configured(tmp_path: Path) -> Any:
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(UNDER), encoding="utf-8")

    def config(folder: str, *sets: str) -> RunConfig:
        given = [f"constitution={file}", f"run={tmp_path / folder}", "generate.n=3", "revise.rounds=2"]
        return load_config(None, [*given, "model=m", "engine.kind=fake", *sets])

    return config


def rows(config: RunConfig, stage: str = "label") -> dict[str, tuple[str, str | None, Any]]:
    with Store.open(config.run, readonly=True) as store:
        return {row.row_id: (row.status, row.reason, row.data) for row in store.outcomes(stage)}


def labelled(config: RunConfig) -> list[LabelledPair]:
    with Store.open(config.run, readonly=True) as store:
        return [LabelledPair.model_validate(row.data) for row in store.outcomes("label", "ok")]


def run(config: RunConfig, engine: Any = None, prompts: list[Prompt] = PROMPTS, **more: Any) -> Any:
    return run_stages(config, config.chain, prompts=prompts, engine=engine or fake(), **more)


# Settings, and the rows of label that 5 prompts with 3 samples and 2 rounds give.
SCHEMES: list[tuple[list[str], int]] = [
    (["label.pairs=samples"], 5),
    (["label.pairs=all"], 5 * 3),
    (["label.pairs=best_worst"], 5),
    (["label.pairs=revision"], 5 * 3),
    (["label.pairs=revisions"], 5 * 3 * 3),
    (["label.pairs=both"], 5 + 15),
    (["chain=[contrast, label]", "contrast.n=4", "label.pairs=contrast"], 5 * 2),
    (["chain=[contrast, label]", "label.pairs=contrast", "label.method=construction"], 5),
    (["label.pairs=all", "label.principles=all", "label.adaptive=2"], 15),
    (["label.pairs=best_worst", "label.principles=all", "label.adaptive=2", "label.rank=yes_no"], 5),
]


@pytest.mark.parametrize(("sets", "expected"), SCHEMES)
def test_rows_are_the_same_whole_in_parts_and_after_every_death(
    configured: Any, sets: list[str], expected: int
) -> None:
    whole = configured("whole", *sets)
    counts = run(whole)
    assert counts["label"].total == expected == len(rows(whole))
    parts = configured("parts", *sets)
    for stage in parts.chain:
        begins = stage in ("generate", "contrast")
        run_stages(parts, [stage], prompts=PROMPTS if begins else None, engine=fake())
    dying = configured("dying", *sets, "engine.in_flight=4")
    deaths = 0
    for answers in (1, 7, 20, 40, 80, 1000):
        try:
            run(dying, fake(die_after=answers))
            break
        except EngineError:
            deaths += 1
    assert deaths >= 2
    for stage in whole.chain:
        assert rows(whole, stage) == rows(parts, stage) == rows(dying, stage)


@pytest.mark.parametrize(("sets", "expected"), [each for each in SCHEMES if "adaptive" not in str(each)])
def test_a_plan_counts_the_questions_that_are_then_asked(
    configured: Any, sets: list[str], expected: int
) -> None:
    config = configured("run", *sets)
    planned = {stage.stage: (stage.rows, stage.requests) for stage in forecast(config, PROMPTS).stages}
    counts = run(config)
    assert planned == {stage: (count.total, count.asked) for stage, count in counts.items()}
    if sets == ["label.pairs=best_worst"]:
        # 3 ratings a prompt, and one comparison in both orders.
        assert planned["label"] == (5, 5 * (3 + 2))


def test_a_plan_says_the_most_and_the_least_that_adaptive_principles_ask(configured: Any) -> None:
    config = configured("run", "label.principles=all", "label.adaptive=2", "chain=[generate, label]")
    found = forecast(config, PROMPTS)
    # 15 responses; 5 pairs x 6 principles x 2 orders at most, and 2 principles at least.
    assert (found.total("requests"), found.least_requests) == (15 + 60, 15 + 20)
    asked = run(config)["label"].asked
    assert 20 <= asked <= 60
    votes = [len(row.label.votes) for row in labelled(config)]
    assert asked == 2 * sum(votes) and set(votes) == {2, 6}
    again = forecast(config, PROMPTS)
    assert (again.total("requests"), again.least_requests) == (0, 0)


def test_a_budget_that_ends_between_the_first_and_the_others_is_gone_on_with(configured: Any) -> None:
    from constitute.errors import LimitReached

    sets = ("label.principles=all", "label.adaptive=2", "chain=[generate, label]")
    whole, stopped = configured("whole", *sets), configured("stopped", *sets)
    run(whole)
    for most in (18, 22, 30, 41):
        with pytest.raises(LimitReached):
            run(stopped, limits=Limits(requests=most))
    run(stopped)
    assert rows(whole) == rows(stopped)


def test_the_label_of_a_pair_hangs_on_no_other_pair(configured: Any) -> None:
    few = configured("few", "label.pairs=samples", "label.principles=all", "label.adaptive=2")
    many = configured("many", "label.pairs=all", "label.principles=all", "label.adaptive=2")
    run(few, prompts=PROMPTS[:2])
    run(many)
    found, others = rows(few), rows(many)
    assert found and all(others[name] == row for name, row in found.items())


def test_best_and_worst_are_those_of_the_ratings_and_rating_them_again_is_free(configured: Any) -> None:
    config = configured("run", "label.pairs=best_worst", "label.method=rating", "chain=[generate, label]")
    counts = run(config)
    # 3 ratings a prompt; the two of the pair are the same questions.
    assert (counts["label"].asked, counts["label"].reused) == (15, 10)
    for pair in labelled(config):
        sources = (pair.comparison.a_source, pair.comparison.b_source)
        assert sources == tuple(sorted(sources)) and pair.id.endswith("/best-worst")
        assert pair.label.p_a != 0.5


def test_a_sample_that_failed_takes_no_part_whole_or_in_parts(configured: Any) -> None:
    class Silent(FakeEngine):
        async def generate(self, request: Request) -> Completion:
            found = await super().generate(request)
            failing = (request.sampling.seed or 0) % 3 == 0
            return found.model_copy(update={"text": ""}) if failing else found

    def engine() -> Silent:
        return Silent("m", EngineConfig())

    many = [prompt(f"p{n}") for n in range(30)]
    for scheme in ("best_worst", "all"):
        sets = (f"label.pairs={scheme}", "chain=[generate, label]")
        whole, parts = configured(f"{scheme}-whole", *sets), configured(f"{scheme}-parts", *sets)
        counts = run(whole, engine(), many)
        for stage in ("generate", "label"):
            run_stages(parts, [stage], prompts=many if stage == "generate" else None, engine=engine())
        assert rows(whole) == rows(parts)
        made = rows(whole, "generate")
        left = [sum(made[f"p{n}/{at}"][0] == "ok" for at in range(3)) for n in range(30)]
        assert set(left) == {0, 1, 2, 3} or set(left) == {1, 2, 3}
        pairs = [n * (n - 1) // 2 if scheme == "all" else int(n > 1) for n in left]
        assert counts["label"].total == sum(pairs)


def test_another_number_of_samples_makes_another_best_and_is_refused(configured: Any) -> None:
    run(configured("run", "label.pairs=best_worst", "chain=[generate, label]"))
    with pytest.raises(RunMismatch, match="p0/best-worst"):
        run(configured("run", "label.pairs=best_worst", "chain=[generate, label]", "generate.n=4"))


def test_two_runs_are_compared_prompt_by_prompt(configured: Any, tmp_path: Path) -> None:
    other = configured("other", "seed=1", "chain=[generate, label]")
    run_stages(other, ["generate"], prompts=PROMPTS[:4], engine=fake("large"))
    sets = ("label.pairs=models", f"label.against={tmp_path / 'other'}", "chain=[generate, label]")
    config = configured("run", *sets)
    counts = run(config, fake("small"))
    assert counts["label"].ok == 4 * 3
    with Store.open(other.run, readonly=True) as store:
        theirs = {row.row_id: Response.model_validate(row.data) for row in store.outcomes("generate", "ok")}
    for pair in labelled(config):
        name = pair.id.removesuffix("-against")
        assert pair.comparison.b == theirs[name].response != pair.comparison.a
        at = name.rpartition("/")[2]
        assert pair.comparison.a_source == f"response {at} by small"
        assert pair.comparison.b_source == f"response {at} by large, label.against"
    # In parts, and after the other run has grown, what was labelled stays.
    before = rows(config)
    run_stages(other, ["generate"], prompts=PROMPTS, engine=fake("large"))
    again = run_stages(config, ["label"], engine=fake("small"))
    assert (again["label"].ok, again["label"].resumed) == (15, 12)
    assert before.items() <= rows(config).items()


def test_what_models_cannot_compare_is_said(configured: Any, tmp_path: Path) -> None:
    base = ("label.pairs=models", "chain=[generate, label]")
    with pytest.raises(UsageError, match=r"give --set label\.against=RUN"):
        run(configured("run", *base))
    with pytest.raises(UsageError, match=r"no run in .*nowhere"):
        run(configured("run", *base, f"label.against={tmp_path / 'nowhere'}"))
    with pytest.raises(UsageError, match="is this run itself"):
        run(configured("run", *base, f"label.against={tmp_path / 'run'}"))
    other = configured("other", "generate.system=Be odd.", "chain=[generate, label]")
    run_stages(other, ["generate"], prompts=PROMPTS, engine=fake())
    with pytest.raises(DataError, match="is another conversation there"):
        run(configured("run", *base, f"label.against={tmp_path / 'other'}"))


def test_a_contrast_is_judged_under_its_principle_and_holds_no_instruction(configured: Any) -> None:
    config = configured("run", "chain=[contrast, label]", "label.pairs=contrast")
    run(config)
    followed = set()
    for pair in labelled(config):
        made = pair.comparison.contrast
        assert made is not None and [vote.principle_id for vote in pair.label.votes] == [made.principle_id]
        assert [message.role for message in pair.comparison.prompt.messages] == ["user"]
        sides = (pair.comparison.a_source, pair.comparison.b_source)
        said = (f"for {made.principle_id}", f"against {made.principle_id}")
        wanted = said if made.follows else said[::-1]
        assert sides == (f"response 0, {wanted[0]}", f"response 1, {wanted[1]}")
        followed.add(made.follows)
    assert followed == {True, False}
    by_construction = configured(
        "made", "chain=[contrast, label]", "label.pairs=contrast", "label.method=construction"
    )
    counts = run(by_construction)
    assert (counts["label"].ok, counts["label"].asked) == (5, 0)
    for pair in labelled(by_construction):
        assert pair.comparison.contrast is not None
        assert pair.label.p_a == float(pair.comparison.contrast.follows)


def test_an_opposite_that_changes_begins_a_new_contrast(tmp_path: Path) -> None:
    def config(opposite: str) -> RunConfig:
        file = tmp_path / "c.yaml"
        kind = principle("kind").model_copy(update={"opposite": opposite})
        file.write_text(to_yaml(Constitution(name="c", principles=(kind,))), encoding="utf-8")
        return load_config(
            None,
            [
                *(f"constitution={file}", f"run={tmp_path / 'run'}", "model=m", "engine.kind=fake"),
                *("chain=[contrast, label]", "label.pairs=contrast"),
            ],
        )

    run(config(""))
    with pytest.raises(RunMismatch, match=r"shown\.opposites"):
        run(config("Be cold."))


@pytest.mark.parametrize(
    ("sets", "part"),
    [
        (["label.pairs=contrast"], r"begin the chain with it, as in chain: \[contrast, label\]"),
        (["label.pairs=all", "generate.n=1"], "needs two responses a prompt, n is 1"),
        (["label.pairs=revisions", "chain=[generate, label]"], "needs the stage revise"),
        (["label.pairs=al"], "no such label.pairs: 'al'; did you mean 'all'"),
    ],
)
def test_schemes_that_have_nothing_to_compare_are_refused(
    configured: Any, sets: list[str], part: str
) -> None:
    with pytest.raises(UsageError, match=part):
        run(configured("run", *sets))


def test_a_scheme_is_one_module_and_one_line(configured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    add_module(monkeypatch, "neighbours", example("A way to make pairs"))
    monkeypatch.setitem(PAIRS, "neighbours", "neighbours:NEIGHBOURS")
    config = configured("run", "label.pairs=neighbours", "generate.n=4", "chain=[generate, label]")
    planned = {stage.stage: stage.requests for stage in forecast(config, PROMPTS[:1]).stages}
    run(config, prompts=PROMPTS[:1])
    assert list(rows(config)) == ["p0/0-1", "p0/1-2", "p0/2-3"] and planned["label"] == 3 * 2


@pytest.mark.parametrize(
    "sets",
    [
        ["label.principles=all", "label.adaptive=2", "label.pairs=samples"],
        ["label.pairs=best_worst", "label.rank=yes_no"],
    ],
)
def test_rows_that_abstained_for_their_mass_are_taken_with_less_of_it(
    configured: Any, sets: list[str]
) -> None:
    """The fake engine's options have a mass of 0.9 together."""
    strict, fresh = (
        configured(name, *sets, "chain=[generate, label]", f"label.min_mass={mass}")
        for name, mass in (("run", 0.95), ("fresh", 0.5))
    )
    counts = run(strict)
    assert (counts["label"].abstain, counts["label"].ok) == (5, 0)
    # Two principles in two orders of each pair; or three samples, by one question each.
    assert counts["label"].asked == (20 if "label.adaptive=2" in sets else 15)
    loose = strict.model_copy(update={"label": strict.label.model_copy(update={"min_mass": 0.5})})
    counts = run_stages(loose, ["label"], engine=fake(), retry=True)
    assert counts["label"].ok == 5
    run(fresh)
    assert rows(strict) == rows(fresh)
