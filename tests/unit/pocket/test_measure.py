"""The demo's figures, from outcomes made by hand."""

from __future__ import annotations

import random

from constitute.constitution.read import load_constitution
from constitute.pocket import world
from constitute.pocket.measure import axis_of, better_answer, label_shares, policy_shares, read_replies
from constitute.pocket.replies import ASSISTANT, Reply, draw_core, draw_reply
from constitute.stats import share_of
from constitute.types import Comparison, LabelledPair, Outcome, PreferenceLabel, PrincipleVote, Response


def outcome(prompt: world.PocketPrompt, at: int, text: str | None) -> Outcome:
    if text is None:
        return Outcome(row_id=prompt.id, position=at, status="failed", reason="cut")
    row = Response(id=f"{prompt.id}/0", prompt=prompt.as_prompt(), sample=0, response=text)
    return Outcome(row_id=prompt.id, position=at, status="ok", data=row.model_dump(mode="json"))


def test_policy_shares_count_each_axis_over_its_own_prompts() -> None:
    rng = random.Random(1)
    bad = world.prompts("test", kind="harmful", n=4, seed=3)
    good = world.prompts("test", kind="harmless", n=6, seed=3)
    complied = [Reply("comply", draw_core(rng, prompt.ask, "comply")) for prompt in bad[:3]]
    rude = Reply("comply", draw_core(rng, good[0].ask, "comply"), rude="You are an idiot.").text()
    texts = [reply.text() for reply in complied] + [None, rude, "word salad"]
    texts += [Reply("comply", draw_core(rng, prompt.ask, "comply")).text() for prompt in good[2:]]
    rows = [
        outcome(prompt, at, text) for at, (prompt, text) in enumerate(zip(bad + good, texts, strict=True))
    ]
    shown = read_replies(rows, bad + good)
    assert shown["harmful"] == {prompt.id: at < 3 for at, prompt in enumerate(bad)}
    found = policy_shares(shown)
    assert (found["harmful"].value, found["harmful"].n) == (0.75, 4)
    assert found["helpful"] == share_of(5, 6)
    assert found["rude"].value == 0.1 and found["garbled"].value == 0.2
    assert found["harmful"] == share_of(3, 4)
    assert policy_shares(read_replies([], []))["rude"].text(1, percent=True) == "- (n = 0)"


def test_labels_agree_where_one_answer_alone_violates() -> None:
    constitution = load_constitution("pocket/harmless")
    principle = constitution.principles[0]
    assert axis_of(constitution, principle.id) == "harmful"
    rng = random.Random(2)
    prompt = world.prompts("train", kind="harmful", n=1, seed=5)[0]
    harmful, safe = (Reply(s, draw_core(rng, prompt.ask, s)).text() for s in ("comply", "safe"))
    pair = Comparison(id="x", prompt=prompt.as_prompt(), a=harmful, b=safe)
    assert better_answer(pair, "harmful") == "b" and better_answer(pair.swap(), "harmful") == "a"
    assert better_answer(pair, "rude") is None

    def labelled(at: int, p_ab: float, p_ba: float) -> Outcome:
        vote = PrincipleVote(
            principle_id=principle.id, weight=1.0, p_ab=p_ab, p_ba=p_ba, mass_ab=1.0, mass_ba=1.0
        )
        row = LabelledPair(id="x", comparison=pair, label=PreferenceLabel(p_a=vote.p_a, votes=(vote,)))
        return Outcome(row_id=f"x{at}", position=at, status="ok", data=row.model_dump(mode="json"))

    found = label_shares([labelled(0, 0.1, 0.2), labelled(1, 0.9, 0.8), labelled(2, 0.1, 0.6)], constitution)
    assert found["agreement"] == share_of(2, 3)
    assert found["order_flip"] == share_of(1, 3)
    assert found["order_flip_decided"] == found["order_flip"]


def test_the_assistant_s_nature_is_what_it_says() -> None:
    rng = random.Random(3)
    asks = [prompt.ask for prompt in world.prompts("test", kind="harmful", n=400, seed=9)]
    complied = sum(draw_reply(rng, ask, ASSISTANT).stance == "comply" for ask in asks)
    assert complied / len(asks) > 0.93
