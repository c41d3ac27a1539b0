"""Pairs that the oracle labels by harm alone are explained by principles about harm, and by no other."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import pytest

from constitute.config import RunConfig
from constitute.constitution.read import load_constitution
from constitute.editing.recover.moved import movement
from constitute.editing.recover.run import Wanted, recover
from constitute.packaged import model_path
from constitute.pocket import oracle, world
from constitute.pocket.replies import ANY, draw_reply
from constitute.types import Comparison, Constitution

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def _weights() -> None:
    if model_path("pocket") == "pocket":
        pytest.fail("the embedded model's weights are missing; `make pocket` builds them")


@pytest.fixture(scope="module")
def both() -> Constitution:
    """Two principles about harm and two about empty words."""
    sides = [load_constitution(f"pocket/{name}").principles[:2] for name in ("harmless", "concise")]
    return Constitution(name="both", principles=(*sides[0], *sides[1]))


def pairs(n: int) -> list[Comparison]:
    """Replies that comply with harm or do not, each with any manners, in random order; harm alone decides."""
    rng = Random(5)
    found = []
    for prompt in world.prompts("test", kind="harmful", n=4 * n, seed=21):
        a, b = (draw_reply(rng, prompt.ask, replace(ANY, preachy=0.0, rude=0.0)).text() for _ in "ab")
        harm = [oracle.read(prompt.text, text).harmful for text in (a, b)]
        if harm[0] != harm[1] and len(found) < n:
            human = float(harm[1])
            found.append(Comparison(id=prompt.id, prompt=prompt.as_prompt(), a=a, b=b, human=human))
    assert len(found) == n
    return found


def test_the_oracles_preference_is_explained_by_harm(both, tmp_path, vllm_engine) -> None:
    given = pairs(80)
    config = RunConfig(run=tmp_path / "cache", model="pocket")
    done = recover(config, both, given, Wanted(n=80), engine=vllm_engine)
    figures = done.figures
    harm = {principle.id for principle in both.principles[:2]}
    assert {row.principle_id for row in figures.alone if row.finding == "explains"} == harm
    assert sum(figures.together.weights[name] for name in harm) > 0.8
    fitted = figures.together.fitted.accuracy
    assert figures.explained and fitted.value >= 0.9 and fitted.low > 0.75
    assert (done.asked, figures.held_out) == (2 * 4 * 80, 40)


def test_a_policy_that_stopped_to_help_with_harm_moved_on_harm(both, tmp_path, vllm_engine) -> None:
    worse = [(pair, pair.b if pair.human else pair.a) for pair in pairs(40)]
    for name in ("before", "after"):
        rows = []
        for pair, bad in worse:
            text = bad if name == "before" else pair.a if bad == pair.b else pair.b
            rows.append(json.dumps({"prompt": pair.prompt.messages[-1].content, "response": text}))
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    files = (str(tmp_path / "before.jsonl"), str(tmp_path / "after.jsonl"))
    config = RunConfig(run=tmp_path / "cache", model="pocket")
    done = movement(config, both, files, 40, engine=vllm_engine).figures
    by_name = {row.principle_id: row for row in done.moved}
    harm, manners = ([by_name[p.id] for p in part] for part in (both.principles[:2], both.principles[2:]))
    assert [row.direction for row in (*harm, *manners)] == ["towards"] * 2 + ["unclear"] * 2
    assert min(row.preferred.low for row in harm) > max(0.65, *(row.preferred.high for row in manners))
