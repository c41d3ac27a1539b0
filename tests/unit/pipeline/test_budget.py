"""Limits on what a run spends: never exceeded, nothing lost, and the run goes on to the same rows."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from scripted import constitution, prompt

from constitute.cli.errors import run_and_exit
from constitute.cli.main import cli
from constitute.config import load_config
from constitute.constitution.write import to_yaml
from constitute.errors import LimitReached, UsageError
from constitute.pipeline import run_stages
from constitute.pipeline.budget import Budget, Limits, Spent
from constitute.store import Store

CHAIN = ["generate", "revise", "label"]


def run(folder: Path, name: str = "run", **limits: object):  # type: ignore[no-untyped-def]
    path = folder / "c.yaml"
    path.write_text(to_yaml(constitution()))
    sets = [f"constitution={path}", f"run={folder / name}", "generate.n=2", "model=m", "engine.kind=fake"]
    config = load_config(None, sets)
    prompts = [prompt(f"p{n}") for n in range(5)]
    return run_stages(config, CHAIN, prompts=prompts, limits=Limits.model_validate(limits))


def rows(folder: Path, name: str = "run") -> list[object]:
    with Store.open(folder / name, readonly=True) as store:
        return [(stage, *store.outcomes(stage)) for stage in CHAIN]


def spent(folder: Path) -> Spent:
    with Store.open(folder / "run", readonly=True) as store:
        return Spent.model_validate(store.meta("spent"))


def answers(folder: Path) -> int:
    with Store.open(folder / "run", readonly=True) as store:
        return int(store.read("SELECT count(*) FROM answers")[0][0])


def test_a_run_stops_at_its_limit_of_requests_and_goes_on_with_a_higher_one(tmp_path: Path) -> None:
    with pytest.raises(LimitReached, match="exceed --max-requests 7: the run has asked 7 questions"):
        run(tmp_path, requests=7)
    assert (answers(tmp_path), spent(tmp_path).requests) == (7, 7)
    # The limit is the run's: the same command asks nothing more.
    with pytest.raises(LimitReached):
        run(tmp_path, requests=7)
    assert answers(tmp_path) == 7
    # 5 prompts x 2 samples, two questions of each, two orders of 5 pairs.
    counts = run(tmp_path, requests=40)
    assert sum(count.asked for count in counts.values()) == 33
    run(tmp_path, "whole")
    assert rows(tmp_path) == rows(tmp_path, "whole")


@pytest.mark.parametrize("limit", [400, 700, 1200])
def test_tokens_and_cost_never_exceed_their_limit(tmp_path: Path, limit: int) -> None:
    with pytest.raises(LimitReached, match=f"--max-tokens {limit}"):
        run(tmp_path, tokens=limit)
    found = spent(tmp_path)
    # A question of at most 256 tokens more, and its prompt, would not have fitted.
    assert limit - 256 - 200 < found.prompt_tokens + found.answer_tokens <= limit
    cost = found.cost(Limits(price_in=1, price_out=2))
    assert cost == (found.prompt_tokens + 2 * found.answer_tokens) / 1e6
    with pytest.raises(LimitReached, match=r"--max-cost .* in all"):
        run(tmp_path, cost=cost, price_in=1, price_out=2)
    assert spent(tmp_path) == found


def test_a_cost_without_a_price_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--max-cost was given without a price"):
        run(tmp_path, cost=1.0)


def test_the_command_ends_with_a_code_of_its_own_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.jsonl").write_text("".join(json.dumps({"prompt": f"Q{n}?"}) + "\n" for n in range(5)))
    given = "generate --model m --set engine.kind=fake --prompts p.jsonl --max-requests"
    ended = []
    for limit in (2, 2, 5):
        monkeypatch.setattr("sys.argv", ["constitute", *given.split(), str(limit)])
        ended.append(run_and_exit(cli))
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith("constitute: stopped before") == (limit == 2)
    assert ended == [6, 6, 0]
    assert Path("run/manifest.json").is_file()


def test_a_question_waits_for_those_on_their_way_before_the_run_stops(tmp_path: Path) -> None:
    async def go(store: Store) -> list[str]:
        budget, order = Budget(store, Limits(requests=1)), []

        async def first() -> None:
            await budget.take(Spent(requests=1))
            await asyncio.sleep(0.05)
            order.append("answered")
            budget.give(Spent(requests=1), Spent(requests=1))

        async def second() -> None:
            await asyncio.sleep(0)
            try:
                await budget.take(Spent(requests=1))
            except LimitReached:
                order.append("stopped")

        await asyncio.gather(first(), second())
        return order

    with Store.open(tmp_path / "run") as store:
        assert asyncio.run(go(store)) == ["answered", "stopped"]


def test_tokens_left_over_by_short_answers_are_spent(tmp_path: Path) -> None:
    async def go(store: Store) -> Spent:
        budget = Budget(store, Limits(tokens=100))
        for _ in range(4):
            await budget.take(Spent(answer_tokens=60))
            budget.give(Spent(answer_tokens=60), Spent(answer_tokens=10))
        return budget.spent

    with Store.open(tmp_path / "run") as store:
        assert asyncio.run(go(store)).answer_tokens == 40
