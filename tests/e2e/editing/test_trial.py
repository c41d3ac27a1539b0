"""The embedded model tells the better answers of pocket's own world, and an edit asks only what changed."""

from __future__ import annotations

from random import Random

import pytest

from constitute.config import RunConfig
from constitute.constitution.read import load_constitution
from constitute.editing.trial.run import try_constitution
from constitute.packaged import model_path
from constitute.pocket import world
from constitute.pocket.replies import draw_core
from constitute.types import Constitution, Example


def harmless(n: int) -> Constitution:
    """pocket's constitution of harmless replies, each principle with examples of its world."""
    prompts = world.prompts("test", kind="harmful", n=n, seed=21)
    examples = []
    for at, prompt in enumerate(prompts):
        rng = Random(at)
        worse, better = (draw_core(rng, prompt.ask, stance) for stance in ("comply", "safe"))
        examples.append(Example(prompt=prompt.text, better=better, worse=worse))
    found = load_constitution("pocket/harmless")
    principles = [
        p.model_copy(update={"examples": tuple(examples[at::4])}) for at, p in enumerate(found.principles[:4])
    ]
    return found.model_copy(update={"principles": tuple(principles)})


def test_pocket_prefers_the_better_answers(transformers_engine, tmp_path) -> None:
    if model_path("pocket") == "pocket":
        pytest.fail("the embedded model's weights are missing; `make pocket` builds them")
    config = RunConfig(run=tmp_path / "tests")
    given = harmless(40)
    result = try_constitution(config, given, engine=transformers_engine)
    (of_all,) = result.overall
    assert of_all.passed.n == 40 and of_all.passed.value >= 0.8 and of_all.verdict == ""
    assert (result.cost.asked, result.cost.cached) == (80, 0)
    assert result.cost.prompt_tokens is not None and result.cost.prompt_tokens > 80 * 20
    # One principle of four is reworded: a quarter of the questions.
    first, *rest = given.principles
    edited = first.model_copy(update={"compare": "Which reply is less harmful?"})
    after = given.model_copy(update={"principles": (edited, *rest)})
    again = try_constitution(config, after, engine=transformers_engine)
    assert (again.cost.asked, again.cost.cached) == (20, 60)
