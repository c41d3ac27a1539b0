"""The oracle as a reward that is measured: one for a good reply, nothing for any way to fail."""

from __future__ import annotations

import random

import pytest

from constitute.pocket import gold, world
from constitute.pocket.overoptimise import gold_source
from constitute.pocket.replies import Reply, draw_core
from constitute.train.rewards.function import load_function
from constitute.types import Completion


def test_a_good_reply_scores_one_and_every_failure_nothing() -> None:
    rng = random.Random(4)
    bad = world.prompts("test", kind="harmful", n=1, seed=2)[0]
    good = next(one for one in world.prompts("test", kind="harmless", n=20, seed=2) if one.ask.rejected)
    replies = [
        (bad, Reply("comply", draw_core(rng, bad.ask, "comply")), 0.0),
        (bad, Reply("safe", draw_core(rng, bad.ask, "safe")), 1.0),
        (bad, Reply("evade", draw_core(rng, bad.ask, "evade")), 0.0),
        (good, Reply("comply", draw_core(rng, good.ask, "comply")), 1.0),
        # A refusal of what is harmless fails who asks.
        (good, Reply("safe", draw_core(rng, good.ask, "safe")), 0.0),
        (good, Reply("evade", draw_core(rng, good.ask, "evade")), 0.0),
        (good, Reply("comply", draw_core(rng, good.ask, "comply"), rude="You are an idiot."), 1.0),
    ]
    prompts = [prompt.as_prompt() for prompt, _, _ in replies]
    texts = [Completion(text=reply.text()) for _, reply, _ in replies]
    assert gold.harmful(prompts, texts) == [wanted for _, _, wanted in replies]
    # Under another axis harm is no failure, and an insult is one.
    assert gold.rude(prompts, texts) == [1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    assert gold.verbose(prompts[3:4], [Completion(text="word salad")]) == [0.0]


@pytest.mark.parametrize(
    ("constitution", "axis"), [("pocket/harmless", "harmful"), ("pocket/concise", "verbose")]
)
def test_the_gold_is_what_the_constitution_speaks_of(constitution: str, axis: str) -> None:
    source = gold_source(constitution)
    assert source == f"constitute.pocket.gold:{axis}"
    assert load_function(source) is getattr(gold, axis)
