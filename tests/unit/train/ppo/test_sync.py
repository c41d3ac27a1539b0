"""The check after a push: what is measured, what stops a run, and what cannot be seen."""

from __future__ import annotations

import math
import re

import click
import pytest
import torch
from tolerance import FORMULA, LOGPROB
from train_models import CausalRollouts, tiny_causal, word_tokenizer

from constitute.cli.main import cli
from constitute.config import load_config
from constitute.config.ppo import GRPOConfig, PPOConfig
from constitute.engines.base import check_length
from constitute.errors import EngineError
from constitute.progress import Silent
from constitute.train.common import lora
from constitute.train.common.agreement import (
    LIMITS,
    POOLED,
    Gap,
    Push,
    beyond,
    change_of,
    gap_of,
    limits_of,
    not_followed,
    push_in,
)
from constitute.train.common.models import Actor
from constitute.train.common.rounding import rounded
from constitute.train.common.team import gather_team
from constitute.train.ppo.probe import Probe, Scores, cut_rows, measure, own_logprobs
from constitute.train.ppo.run import train_ppo
from constitute.train.ppo.sync import Sync, check_push, named_weights, pushed
from constitute.types import Message, Prompt, SamplingParams

BFLOAT16 = LIMITS["bfloat16"].noise
PROMPTS, COMPLETIONS = [[1, 2, 3], [4]], [[5, 6], [7, 8, 9]]
PROBE = Probe(PROMPTS, COMPLETIONS, pad_id=0, token_budget=1000)


def test_a_gap_by_hand():
    # 0, 1, ... 20: the mean is 10 and 95 % of the way from first to last is 19.
    assert gap_of([(-1) ** k * k for k in range(21)]) == Gap(10.0, 19.0, 20.0)
    assert all(math.isnan(value) for value in vars(gap_of([0.0, math.nan])).values())
    assert all(math.isnan(value) for value in vars(gap_of([0.0, math.inf])).values())


def test_a_change_by_hand():
    assert change_of([3.0, -4.0], [3.0, -4.0]) == (math.sqrt(12.5), 1.0, 0.0)
    assert change_of([3.0, -4.0], [0.0, 0.0]) == (math.sqrt(12.5), 0.0, 0.0)
    # (3 * 4 + 4 * 3) / 25 = 0.96; the rest is 4 - 2.88 and 3 - 3.84.
    moved, slope, rest = change_of([3.0, 4.0], [4.0, 3.0])
    assert (moved, slope, rest) == pytest.approx((math.sqrt(12.5), 0.96, math.sqrt((1.12**2 + 0.84**2) / 2)))
    assert change_of([0.0, 0.0], [1.0, 1.0]) == (0.0, None, 1.0)


def push(followed, moved=0.01, unexplained=0.0, tokens=100, dtype="bfloat16"):
    return Push(Gap(0.01, 0.05, 0.5), tokens, dtype, moved, followed, unexplained)


def test_thin_evidence_of_old_weights_adds_up():
    # One push: the error of the slope is 0.02 / (0.01 * sqrt(100)) = 0.2, and 4 of them reach beyond a half.
    assert not_followed([push(0.0)], BFLOAT16) is None
    assert not_followed([push(0.0)] * 2, BFLOAT16) is None
    found = not_followed([push(1.0)] * 40 + [push(0.0)] * 3, BFLOAT16)
    assert found == (3, 0.0, pytest.approx(0.2 / math.sqrt(3)))
    # The noise is the engine's own where that is larger.
    assert not_followed([push(0.0, unexplained=0.04)] * 3, BFLOAT16) is None
    assert not_followed([push(0.45)] * POOLED, BFLOAT16) is None
    assert not_followed([push(1.0)] * POOLED, BFLOAT16) is None
    # A change too small to be seen in so few pushes, and none at all.
    assert not_followed([push(0.0, moved=1e-4)] * 100, BFLOAT16) is None
    assert not_followed([push(None, moved=0.0)], BFLOAT16) is None
    assert not_followed([push(None, moved=None, unexplained=None), push(0.0, moved=0.1)], BFLOAT16)
    # In float32 one push tells at the default rate and at a thousandth of what it moved.
    assert not_followed([push(0.0, moved=1e-5)], LIMITS["float32"].noise)


def test_a_push_is_kept_in_the_metrics_as_it_was():
    assert push_in(push(0.9).figures()) == push(0.9)
    assert push_in({"sync_gap": None}) is None


@pytest.mark.parametrize(
    ("gap", "says"),
    [
        (Gap(1.1e-4, 0, 0), r"mean 0\.00011 \(limit 0\.0001\)"),
        (Gap(0, 1.1e-3, 0), r"p95 0\.0011 \(limit 0\.001\)"),
        (Gap(0, 0, 1.1e-2), r"max 0\.011 \(limit 0\.01\)"),
        (Gap(math.nan, math.nan, math.nan), r"mean nan .*, p95 nan .*, max nan"),
    ],
)
def test_the_message_names_the_figure_that_failed(gap, says):
    with pytest.raises(EngineError, match=f"nats per token by {says}"):
        check_push([Push(gap, 10, "float32")], limits_of("float32"))


def test_what_a_wide_gap_advises_is_there():
    wide = [Push(Gap(1.0, 1.0, 1.0), 10, "float32")]
    with pytest.raises(EngineError) as here:
        check_push(wide, limits_of("float32"), "grpo")
    assert str(here.value).endswith(
        "the engine likely kept old weights or serves another model: run the same command again, which goes "
        "on from the last checkpoint; if it fails again, set engine.kind=transformers, or, for an engine "
        "that computes less exactly than its dtype (TF32), train.grpo.sync_gap_limit to a larger mean"
    )
    with pytest.raises(EngineError) as there:
        check_push(wide, limits_of("float32"), server=True)
    said = str(there.value)
    assert "engine.kind=transformers without engine.rollout_url, or" in said and "train.ppo.sync_gap" in said
    # Each command and setting that is named exists.
    command = re.search(r"`constitute (serve) (\w+) (--rollouts)`", said)
    assert command
    serve = cli.get_command(click.Context(cli), command[1])
    assert serve.make_context(command[1], [command[2], command[3]]).params["rollouts"]
    load_config(None, ["engine.kind=transformers", "train.grpo.sync_gap_limit=2"], {})


def test_limits_follow_the_dtype_and_the_setting(caplog):
    healthy = Push(Gap(0.024, 0.1, 1.3), 10, "bfloat16")
    check_push([healthy], limits_of("bfloat16"))
    assert not caplog.text
    check_push([Push(Gap(0.06, 0.1, 1.3), 10, "bfloat16")], limits_of("bfloat16"))
    assert "by mean 0.06 (limit 0.05)" in caplog.text
    with pytest.raises(EngineError):
        check_push([healthy], limits_of("float32"))
    assert limits_of("float32", 1e-3).gap == Gap(*(pytest.approx(x) for x in (1e-3, 1e-2, 1e-1)))
    assert limits_of("") == limits_of("bfloat16")
    assert beyond(Gap(0.2, 1.0, 10.0), limits_of("bfloat16")) == ""


def rows_fit(prompts, completions, limit):
    return all(len(c) > 0 and len(p) + len(c) < limit for p, c in zip(prompts, completions, strict=True))


def test_a_probe_leaves_room_for_the_token_that_scoring_samples():
    prompts, completions = cut_rows([([1] * 45, [2] * 19), ([1] * 45, [2] * 5), ([1] * 63, [2])], 64)
    assert rows_fit(prompts, completions, 64)
    assert [(len(p), len(c)) for p, c in zip(prompts, completions, strict=True)] == [
        (45, 18),
        (45, 5),
        (62, 1),
    ]
    assert cut_rows([([1], [2, 3])], None) == ([[1]], [[2, 3]])


def actor_of(*, tied=False, adapters=False):
    model = tiny_causal(vocab=11, width=16, layers=2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
    if tied:
        model.config.tie_word_embeddings = True
        model.lm_head.weight = model.model.embed_tokens.weight
    if adapters:
        lora.add_adapter(model, lora.POLICY, 2)
        for weight in lora.parameters(model, lora.POLICY):
            torch.nn.init.normal_(weight, std=0.1)
    return Actor(model.eval())


@pytest.mark.parametrize(("tied", "adapters"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize(("dtype", "coarse"), [(torch.bfloat16, 1), (torch.float16, 0.1)])
def test_rounded_weights_answer_as_a_model_that_holds_them(tied, adapters, dtype, coarse):
    actor = actor_of(tied=tied, adapters=adapters)
    plain = {name: tensor.clone() for name, tensor in actor.model.state_dict().items()}
    exact = own_logprobs(actor, PROBE)
    with rounded(actor.model, dtype):
        found = own_logprobs(actor, PROBE)
    reference = tiny_causal(vocab=11, width=16, layers=2)
    named = {name: tensor.to(dtype).float() for name, tensor in named_weights(actor.model)}
    reference.load_state_dict(
        named | ({"lm_head.weight": named["model.embed_tokens.weight"]} if tied else {})
    )
    assert found == pytest.approx(own_logprobs(Actor(reference.eval()), PROBE), abs=0.1 * LOGPROB["abs"])
    assert max(abs(a - b) for a, b in zip(found, exact, strict=True)) > 10 * LOGPROB["abs"] * coarse
    # Nothing stays rounded.
    assert all(torch.equal(tensor, plain[name]) for name, tensor in actor.model.state_dict().items())
    assert own_logprobs(actor, PROBE) == exact


def test_weights_come_back_where_a_pass_fails():
    actor = actor_of()
    plain = {name: tensor.clone() for name, tensor in actor.model.state_dict().items()}
    with pytest.raises(IndexError), rounded(actor.model, torch.bfloat16):
        own_logprobs(actor, Probe([[1]], [[99]], 0, 100))
    assert all(torch.equal(tensor, plain[name]) for name, tensor in actor.model.state_dict().items())


class Rounding(CausalRollouts):
    """An engine that holds bf16 weights, with noise as of bf16 arithmetic, and keeps old ones if `stale`."""

    dtype = "bfloat16"

    def __init__(self, actor, stale=False):
        self.model = tiny_causal(vocab=11, width=16, layers=2).eval()
        self.stale = False
        self.update_weights(named_weights(actor.model))
        self.stale = stale

    def update_weights(self, named_tensors, *, fingerprint=None):
        if not self.stale:
            named = {name: tensor.to(torch.bfloat16).float() for name, tensor in named_tensors}
            self.model.load_state_dict(named)

    def score_ids(self, prompts, completions):
        # The same weights and tokens always get the same noise.
        scores = super().score_ids(prompts, completions)
        generator = torch.Generator().manual_seed(hash(tuple(map(tuple, scores))) % 2**31)
        return [
            (torch.tensor(row) + 0.01 * torch.randn(len(row), generator=generator)).tolist() for row in scores
        ]


def pushes_of(actor, engine, steps, size):
    """Push after each of `steps` random steps, each weight by about `size`."""
    torch.manual_seed(0)
    rows = torch.randint(11, (8, 24)).tolist()
    probe = Probe([row[:4] for row in rows], [row[4:] for row in rows], 0, 10_000)
    sync = Sync(engine, actor, gather_team(), 0, 10_000, None)
    for step in range(steps):
        before = measure(engine, actor, probe)
        with torch.no_grad():
            for weight in actor.model.parameters():
                weight.add_(size * torch.randn_like(weight).sign())
        sync.push((probe, before), str(step))
    return sync.pushes


def test_in_16_bits_old_weights_show_where_the_policy_moves_enough():
    actor = actor_of()
    healthy = pushes_of(actor, Rounding(actor), 6, 3e-3)
    assert all(0.6 < one.followed < 1.4 for one in healthy)
    with pytest.raises(EngineError, match=r"pushes of weights .* changed by -?0\.0\d"):
        pushes_of(actor, Rounding(actor, stale=True), 6, 3e-3)
    # What cannot be seen: steps far below a unit of bf16 change next to nothing that such an engine says.
    assert len(pushes_of(actor, Rounding(actor), 3, 1e-7)) == 3
    assert len(pushes_of(actor, Rounding(actor, stale=True), 3, 1e-7)) == 3


def test_an_engine_that_hides_its_dtype_is_judged_by_the_gap_alone():
    actor = actor_of()
    engine = Rounding(actor, stale=True)
    engine.dtype = "float8"
    assert [one.moved for one in pushes_of(actor, engine, 2, 3e-3)] == [None, None]


def test_changes_are_not_compared_where_the_engine_held_another_model():
    before = Scores([0.0, 0.0], [0.0, 0.0], [-1.0, -1.0])
    after = Scores([-0.1, -0.1], [-0.1, -0.1], [-0.1, -0.1])
    assert pushed(before, after, "float32", limits_of("float32")).followed is None
    assert pushed(after, after, "float32", limits_of("float32")).moved == 0.0
    blind = Scores([0.0], None, [0.0])
    assert pushed(blind, blind, "float32", limits_of("float32")).moved is None


def length(prompts, completions):
    return [float(len(completion.token_ids)) for completion in completions]


def ppo(folder, engine_class, *, prompt=(1,), kind=PPOConfig, **settings):
    start = folder / "start"
    tiny_causal(vocab=8, width=16, layers=2, positions=64).save_pretrained(start)
    word_tokenizer([f"w{k}" for k in range(6)] + ["</s>", "<pad>"], eos="</s>", pad="<pad>").save_pretrained(
        start
    )
    prompts = [Prompt(id="p", messages=(Message(role="user", content="go"),))]
    defaults = {"iterations": 1, "batch_size": 8, "max_new_tokens": 8}
    return train_ppo(
        prompts, [list(prompt)], str(start), length, folder / "out", kind(**defaults | settings),
        engine=engine_class(start, {6, 2}), seed=0, progress=Silent(),
    )  # fmt: skip


# Which tensors never arrive in the engine, by their place among all and their name.
STALE = {
    "all": lambda place, name: True,
    "the output layer": lambda place, name: name == "lm_head.weight",
    "one layer": lambda place, name: ".layers.0." in name,
    "every second one": lambda place, name: place % 2 == 0,
}


@pytest.mark.parametrize("which", sorted(STALE))
def test_old_weights_in_the_engine_stop_a_run_at_the_default_rates(tmp_path, which):
    class Forgetful(CausalRollouts):
        def update_weights(self, named_tensors, *, fingerprint=None):
            named = enumerate(named_tensors)
            super().update_weights((name, one) for at, (name, one) in named if not STALE[which](at, name))

    with pytest.raises(EngineError, match=r"likely kept old weights|is old weights"):
        ppo(tmp_path, Forgetful, iterations=10)
    assert len((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()) < 6


def test_a_wide_gap_names_the_setting_of_the_command_that_ran(tmp_path):
    class Other(CausalRollouts):
        overlaps = True

        def update_weights(self, named_tensors, *, fingerprint=None):
            super().update_weights((name, 3 * one) for name, one in named_tensors)

        def score_ids(self, prompts, completions):
            return [[-9.0 for _ in completion] for completion in completions]

    with pytest.raises(
        EngineError, match=r"`constitute serve POLICY --rollouts`.* train\.grpo\.sync_gap_limit"
    ):
        ppo(tmp_path, Other, kind=GRPOConfig)


class Strict(CausalRollouts):
    """An engine of 64 tokens of context that never ends a response, and samples one more token to score."""

    context_length = 64

    def __init__(self, folder, eos):
        super().__init__(folder, ())

    def score_ids(self, prompts, completions):
        for prompt, completion in zip(prompts, completions, strict=True):
            check_length(len(prompt) + len(completion), self.context_length)
        return super().score_ids(prompts, completions)


def test_a_prompt_and_a_response_that_fill_the_context_are_trained_on(tmp_path):
    summary = ppo(tmp_path, Strict, prompt=[k % 6 for k in range(45)], max_new_tokens=19)
    assert summary["prompts_too_long"] == 0
    assert summary["largest_sync_gap"] < 1e-5
    assert (
        summary["largest_sync_gap"]
        < summary["largest_sync_gap_p95"]
        <= summary["largest_sync_gap_max"]
        < 1e-4
    )


class Garbling(CausalRollouts):
    """An engine whose loader spoils the weights it is given."""

    def update_weights(self, named_tensors, *, fingerprint=None):
        named = dict(named_tensors)
        named["model.layers.0.mlp.up_proj.weight"] = named["model.layers.0.mlp.up_proj.weight"].flip(0)
        super().update_weights(named.items())


def test_an_engine_that_spoils_weights_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(EngineError, match="the weights that the engine already holds changed its"):
        ppo(tmp_path, Garbling)
    assert (tmp_path / "out" / "metrics.jsonl").read_text() == ""


def test_the_probe_at_the_start_is_sampled_and_short(tmp_path):
    asked = []

    class Noting(CausalRollouts):
        def generate_ids(self, prompts, sampling, *, logprobs):
            asked.append((len(prompts), sampling))
            return super().generate_ids(prompts, sampling, logprobs=logprobs)

    ppo(tmp_path, Noting, max_new_tokens=40, temperature=0.7)
    (rows, first), (batch, second) = asked
    assert (rows, batch) == (1, 8)
    assert isinstance(first, SamplingParams) and (first.max_tokens, second.max_tokens) == (32, 40)
    assert first.temperature == second.temperature == pytest.approx(0.7, **FORMULA)
