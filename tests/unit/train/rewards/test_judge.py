"""The judge as a reward: hand-worked ratings, draws and weights, and rows that no rating can be had for."""

import asyncio
import math

import pytest

from constitute.config import LabelConfig, RunConfig
from constitute.constitution.draw import draw
from constitute.engines.base import ModelIdentity
from constitute.errors import DataError, EngineError, PromptTooLong, UsageError
from constitute.stages.labels.rating import RATINGS, score_turn
from constitute.train.rewards.judge import judge_identity, judge_rewards, open_judge, reward_of
from constitute.types import Choice, Completion, Constitution, Message, Principle, Prompt, Request


def principle(name, weight=1.0):
    return Principle(
        id=name, text=f"Be {name}.", critique="c", revise="r", compare="Which is better?", weight=weight
    )


def prompt(name, text="How do I mend a kettle?"):
    return Prompt(id=name, messages=(Message(role="user", content=text),))


def spread(**shares):
    """Ten probabilities from the few that are not 0, such as r1=0.2."""
    return [shares.get(f"r{rating}", 0.0) for rating in RATINGS]


def logs(probabilities):
    return tuple(math.log(p) if p else -math.inf for p in probabilities)


class Rater:
    """An engine that answers with the probabilities of the first key that the message holds."""

    context_length = None
    identity = ModelIdentity(engine="rater", name="rater", fingerprint="f")

    def __init__(self, rates, pause=0.0):
        self.rates, self.pause, self.heard = rates, pause, []
        self.now = self.most = 0

    def rendered(self, request):
        return f"{request.messages[0].content}\0{request.prefill}\0".encode()

    async def choose(self, request, labels, *, spelled=False):
        assert tuple(labels) == RATINGS and spelled
        text = request.messages[0].content
        self.heard.append(text)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self.pause)
        self.now -= 1
        found = next(rate for key, rate in self.rates.items() if key in text)
        if isinstance(found, Exception):
            raise found
        return Choice(labels=RATINGS, logprobs=found)

    async def close(self):
        pass


def rated(engine, rows, names=("kind",), weights=None, in_flight=64, **label):
    """Rewards of (prompt, answer) rows under principles of the given names."""
    principles = tuple(principle(name, (weights or {}).get(name, 1.0)) for name in names)
    prompts = [row[0] for row in rows]
    completions = [Completion(text=row[1]) for row in rows]
    constitution = Constitution(name="c", principles=principles)
    return asyncio.run(
        judge_rewards(prompts, completions, engine, constitution, LabelConfig(**label), in_flight)
    )


@pytest.mark.parametrize(
    ("probabilities", "reward"),
    [
        (spread(r1=1.0), -1.0),
        (spread(r10=0.3), 1.0),
        ([0.07] * 10, 0.0),
        # (0.2 * 1 + 0.6 * 10) / 0.8 = 7.75, and (7.75 - 5.5) / 4.5 = 0.5
        (spread(r1=0.2, r10=0.6), 0.5),
        # (0.1 * 4 + 0.3 * 8) / 0.4 = 7, and 1.5 / 4.5
        (spread(r4=0.1, r8=0.3), 1 / 3),
    ],
)
def test_expected_rating_by_hand(probabilities, reward):
    assert reward_of(probabilities) == pytest.approx(reward)


def test_each_row_has_its_own_rating():
    engine = Rater({"Reply: good": logs(spread(r1=0.2, r10=0.6)), "Reply: bad": logs(spread(r1=0.5))})
    rows = [(prompt("p"), "good"), (prompt("q"), "bad"), (prompt("r"), "good")]
    assert rated(engine, rows) == pytest.approx([0.5, -1.0, 0.5])


def test_all_principles_weigh_as_the_constitution_says():
    engine = Rater({"Be kind.": logs(spread(r1=0.2, r10=0.6)), "Be brief.": logs(spread(r1=0.9))})
    weights = {"kind": 1.0, "brief": 3.0, "mute": 0.0}
    found = rated(engine, [(prompt("p"), "x")], ("kind", "brief", "mute"), weights, principles="all")
    # (1 * 0.5 + 3 * -1) / 4; the principle of weight 0 is not asked about.
    assert found == pytest.approx([-0.625])
    assert len(engine.heard) == 2


def test_samples_of_a_prompt_share_the_drawn_principle():
    names = ("kind", "brief", "safe", "plain")
    constitution = Constitution(name="c", principles=tuple(principle(name) for name in names))
    values = {name: spread(**{f"r{place}": 0.9}) for place, name in zip((1, 4, 7, 10), names, strict=True)}
    engine = Rater({f"Be {name}.": logs(value) for name, value in values.items()})
    prompts = [prompt(f"p{number % 12}") for number in range(24)]
    found = rated(engine, [(each, f"answer {n}") for n, each in enumerate(prompts)], names)
    drawn = [draw(constitution, each.id, 0).id for each in prompts]
    assert found == pytest.approx([reward_of(values[name]) for name in drawn])
    assert found[:12] == found[12:]
    assert len(set(drawn)) > 1


def test_no_more_questions_at_once_than_allowed():
    engine = Rater({"Reply": logs(spread(r5=0.9))}, pause=0.005)
    rows = [(prompt(f"p{number}"), "x") for number in range(20)]
    assert rated(engine, rows, in_flight=3) == pytest.approx([-0.5 / 4.5] * 20)
    assert engine.most == 3


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (logs(spread(r3=0.05, r9=0.04)), r"P\(1\) \+ \.\.\. \+ P\(10\) = 0\.09 is below 0\.1 under kind"),
        (PromptTooLong("the prompt is 900 tokens long"), "900 tokens"),
        ((-1.0,) * 9 + (None,), "an option was not scored under kind"),
    ],
)
def test_a_row_without_a_rating_stops_the_run(trouble, said):
    engine = Rater({"Reply: bad": trouble, "Reply": logs(spread(r5=0.9))})
    rows = [(prompt("fine"), "good"), (prompt("odd"), "bad"), (prompt("odder"), "bad"), (prompt("z"), "ok")]
    with pytest.raises(DataError, match=said) as found:
        rated(engine, rows)
    assert "2 of 4 responses" in str(found.value)
    assert "'odd'" in str(found.value)


def test_min_mass_nought_still_refuses_no_mass_at_all():
    with pytest.raises(DataError, match="below"):
        rated(Rater({"Reply": (-math.inf,) * 10}), [(prompt("p"), "x")], min_mass=0.0)
    low = Rater({"Reply": logs(spread(r10=1e-6))})
    assert rated(low, [(prompt("p"), "x")], min_mass=0.0) == pytest.approx([1.0])


def test_a_dead_engine_is_an_engine_error():
    with pytest.raises(EngineError, match="gone"):
        rated(Rater({"Reply": EngineError("the server is gone")}), [(prompt("p"), "x")])


def test_the_judge_needs_a_model_and_a_constitution(tmp_path):
    with pytest.raises(UsageError, match="--judge"):
        open_judge(RunConfig(constitution="pocket/harmless", run=tmp_path))
    with pytest.raises(UsageError, match="--constitution"):
        open_judge(RunConfig(model="pocket", run=tmp_path))


def test_identity_follows_weights_constitution_and_draw():
    one, other = (Constitution(name="c", principles=(principle(name),)) for name in ("kind", "brief"))
    first = judge_identity("weights", one, LabelConfig())
    assert first != judge_identity("other weights", one, LabelConfig())
    assert first != judge_identity("weights", other, LabelConfig())
    assert first != judge_identity("weights", one, LabelConfig(principles="all"))
    # The threshold refuses rows and changes no reward.
    assert first == judge_identity("weights", one, LabelConfig(min_mass=0.2))
    sampled = judge_identity("weights", one, LabelConfig(votes="sampled"))
    assert len({first, sampled, judge_identity("weights", one, LabelConfig(votes="sampled", samples=4))}) == 3


def test_a_process_that_never_asks_opens_no_judge_and_knows_it_all_the_same(tiny_model, tmp_path):
    config = RunConfig(judge=str(tiny_model), constitution="pocket/harmless", run=tmp_path)
    silent, asking = open_judge(config, asks=False), open_judge(config)
    assert silent.engine is None
    assert asking.engine is not None
    assert asking.engine.identity.engine == "transformers"
    assert silent.identity == asking.identity


def test_a_judge_behind_a_url_keeps_its_connection_from_batch_to_batch(mock_server, tmp_path):
    from mock_openai import answer, chat

    from constitute.train.rewards.sources import open_rewards

    shares = dict.fromkeys(RATINGS, 0.01) | {"1": 0.2, " 10": 0.6, "10": 0.0001}
    mock_server.default = answer(chat("10", top={key: math.log(share) for key, share in shares.items()}))
    config = RunConfig(judge=mock_server.url, constitution="pocket/harmless", run=tmp_path)
    prompts, completions = [prompt("p"), prompt("q")], [Completion(text="x"), Completion(text="y")]
    with open_rewards(config, "judge") as (part,):
        found = [*part.source(prompts, completions), *part.source(prompts, completions)]
    # Mass 0.2 + 8 * 0.01 + 0.6001 and mean (0.2 + 0.01 * (2 + ... + 9) + 6.001) / mass.
    mean = (0.2 + 0.44 + 6.001) / 0.8801
    assert found == pytest.approx([(mean - 5.5) / 4.5] * 4)
    assert len(mock_server.requests) == 4
    shown = mock_server.requests[0]["messages"][0]["content"]
    assert "user: How do I mend a kettle?" in shown
    assert shown.endswith("Answer with the number alone.")

    # A rating that is not among the likeliest counts with the least share of those listed.
    del shares["4"]
    mock_server.default = answer(chat("10", top={key: math.log(share) for key, share in shares.items()}))
    with open_rewards(config, "judge") as (part,):
        bounded = part.source(prompts, completions)
    mean = (0.2 + 0.40 + 4 * 0.0001 + 6.001) / 0.8702
    assert bounded == pytest.approx([(mean - 5.5) / 4.5] * 2)
    # A list without any of them is no rating.
    mock_server.default = answer(chat("I", top={"I": -0.1, "We": -3.0}))
    with (
        open_rewards(config, "judge") as (part,),
        pytest.raises(DataError, match=r"2 of 2 responses, the first to prompt 'p': an option was not"),
    ):
        part.source(prompts, completions)


def test_ratings_of_a_real_model_are_disjoint_and_exact(tiny_model):
    """Against the model's own next-token probabilities; its byte tokenizer spells 10 with two tokens."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    from constitute.config import EngineConfig
    from constitute.engines import open_engine

    engine = open_engine(str(tiny_model), EngineConfig(kind="transformers"))
    request = Request(messages=score_turn(prompt("p"), "Ask a friend.", principle("kind")))
    choice = asyncio.run(engine.choose(request, RATINGS, spelled=True))
    found = [math.exp(value) for value in choice.logprobs]

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()

    def ids_of(begun):
        shown = engine.rendered(request.model_copy(update={"prefill": begun}))
        return torch.frombuffer(bytearray(shown), dtype=torch.int32).long()

    def p_of(ids):
        """P of the ids after the prompt's, from one pass over all of them."""
        with torch.no_grad():
            logprobs = model(ids[None]).logits[0].double().log_softmax(-1)
        return math.exp(sum(logprobs[at - 1, ids[at]].item() for at in range(len(start), len(ids))))

    start = ids_of("")
    spelled = [[ids_of(opening + rating) for opening in ("", " ", "(", " (", "**")] for rating in RATINGS]
    expected = [sum(map(p_of, each)) for each in spelled]
    # Every "10" is two tokens here, of which the first is "1": those answers are no 1.
    assert all(ten[:-1].equal(one) for one, ten in zip(spelled[0], spelled[-1], strict=True))
    expected[0] -= expected[-1]
    # Openings that hold less than a hundredth of what the options have are not read.
    assert found == pytest.approx(expected, rel=0.01)
