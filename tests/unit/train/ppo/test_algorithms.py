"""The algorithms by hand, how the KL enters, and that a further one is an entry and nothing else."""

import json

import pytest
import torch
from e2e.train.test_gibbs import END, PROMPT
from registry_examples import add_module, example
from tolerance import FORMULA, LOGPROB, decimals
from train_models import CausalRollouts, tiny_causal, word_tokenizer

from constitute.config import RunConfig
from constitute.config.ppo import GRPOConfig, PPOConfig
from constitute.errors import UsageError
from constitute.progress import Silent
from constitute.train.common.rollout import Rollouts
from constitute.train.ppo import setup
from constitute.train.ppo.algorithms import ALGORITHMS, find_algorithm, minus_others
from constitute.train.ppo.experience import Algorithm, Experience, ScoredBatch, experience
from constitute.train.ppo.history import run_summary
from constitute.train.ppo.run import train_ppo
from constitute.train.ppo.start import run_ppo
from constitute.train.ppo.update import _piece_loss, loss_weights
from constitute.train.rewards.parts import RewardPart


def batch_of(algorithm, scores, mask, config, kl=0.0, kl_coef=0.0, values=0.0):
    """Responses whose log-probabilities are -1 a token and those of the reference `kl` less."""
    mask = torch.tensor(mask)
    rows = [[1] * (1 + int(row.sum())) for row in mask]
    rollouts = Rollouts([], [], rows, [1] * len(rows), [True] * len(rows), mask)
    logprobs = -mask
    score_B, values_BT, reference_BT = torch.tensor(scores), values * mask, logprobs - kl * mask
    return ScoredBatch(algorithm, rollouts, score_B, logprobs, mask, values_BT, reference_BT, kl_coef, config)


def test_leave_one_out_by_hand():
    # Two prompts, three samples each: 1 - (2 + 6) / 2 = -3, 2 - 3.5, 6 - 1.5; equal samples have none.
    advantages = minus_others(torch.tensor([1.0, 2.0, 6.0, 5.0, 5.0, 5.0]), 3)
    assert advantages.tolist() == [-3.0, -1.5, 4.5, 0.0, 0.0, 0.0]


def test_leave_one_out_needs_whole_groups():
    with pytest.raises(AssertionError, match="whole groups"):
        minus_others(torch.ones(4), 3)


def test_rloo_puts_the_whole_return_on_every_token():
    # Scores 3 and 1; KL 0.2 a token at 0.5 costs 0.2 (two tokens) and 0.1 (one): returns 2.8 and 0.9.
    config = PPOConfig(advantage="rloo", samples_per_prompt=2, batch_size=2)
    mask = [[1.0, 1.0], [1.0, 0.0]]
    learned = experience(batch_of(ALGORITHMS["rloo"], [3.0, 1.0], mask, config, kl=0.2, kl_coef=0.5))
    assert learned.advantages_BT.tolist() == [
        [pytest.approx(1.9, **FORMULA), pytest.approx(1.9, **FORMULA)],
        [pytest.approx(-1.9, **FORMULA), 0.0],
    ]


def test_gae_by_hand():
    # One response of two tokens: KL 0.1 a token at 0.5, score 1, values 0.3, lambda 1.
    batch = batch_of(
        ALGORITHMS["gae"], [1.0], [[1.0, 1.0]], PPOConfig(lam=1.0), kl=0.1, kl_coef=0.5, values=0.3
    )
    learned = experience(batch)
    assert learned.returns_BT[0].tolist() == pytest.approx([0.9, 0.95], **FORMULA)
    # Advantages 0.6 and 0.65 whiten to minus and plus one; so close, they lose two of fp32's seven digits.
    assert learned.advantages_BT[0].tolist() == pytest.approx([-1.0, 1.0], rel=1e-4)


@pytest.mark.parametrize("kl", ["reward", "loss"])
def test_the_kl_stands_in_the_reward_or_in_the_loss_and_never_in_both(kl):
    def plain(batch):
        return batch.rewards_BT, None

    config = PPOConfig(value_coef=0.1)
    algorithm = Algorithm(plain, needs_critic=False, kl=kl)
    learned = experience(batch_of(algorithm, [1.0], [[1.0, 1.0]], config, kl=0.5, kl_coef=0.2))
    # At the first pass the ratio is 1: each token's loss is minus its advantage.
    new = torch.tensor([-1.0, -1.0], requires_grad=True)
    weights = loss_weights(learned, [0], config)
    loss, sums = _piece_loss((new, new, torch.zeros(2)), learned, [0], config, weights)
    loss.backward()
    if kl == "reward":
        assert learned.advantages_BT.tolist() == [pytest.approx([-0.1, 0.9], **FORMULA)]
        assert loss.item() == pytest.approx(-0.8, **FORMULA)
        assert new.grad.tolist() == pytest.approx([0.1, -0.9], **FORMULA)
    else:
        assert learned.advantages_BT.tolist() == [[0.0, 1.0]]
        # k3 of a difference of 0.5: exp(-0.5) - 1 + 0.5; its slope is 1 - exp(-0.5).
        assert loss.item() == pytest.approx(-1.0 + 2 * 0.2 * 0.1065307, **FORMULA)
        assert new.grad.tolist() == pytest.approx([0.2 * 0.3934693, -1.0 + 0.2 * 0.3934693], **FORMULA)
    assert sums[0].item() == pytest.approx(loss.item(), **FORMULA)


def test_an_algorithm_may_bring_its_own_policy_loss():
    def unclipped(new_N, old_N, advantages_N, config):
        return -torch.exp(new_N - old_N) * advantages_N

    batch = batch_of(ALGORITHMS["gae"], [1.0], [[1.0, 1.0]], PPOConfig())
    new = torch.tensor([0.0, 0.0])
    for loss, expected in ((ALGORITHMS["gae"].policy_loss, -1.2 * 3), (unclipped, -2.7182817 * 3)):
        algorithm = Algorithm(lambda batch: (batch.mask_BT, None), needs_critic=False, policy_loss=loss)
        own = ScoredBatch(algorithm, *[getattr(batch, name) for name in list(batch.__dataclass_fields__)[1:]])
        learned = Experience(own, torch.tensor([[1.0, 2.0]]), own.values_BT)
        weights = loss_weights(learned, [0], PPOConfig())
        total, _ = _piece_loss((new, new, torch.zeros(2)), learned, [0], PPOConfig(), weights)
        assert total.item() == pytest.approx(expected, **FORMULA)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"advantage": "rlo"}, "no such algorithm (train.ppo.advantage): 'rlo'; did you mean 'rloo'?"),
        (
            {"advantage": "q"},
            "no such algorithm (train.ppo.advantage): 'q'; known: gae, rloo, grpo, reinforce++, "
            "reinforce++baseline, online_dpo, f_dpg",
        ),
        (
            {"advantage": "rloo"},
            "train.ppo: advantage=rloo compares samples of one prompt; set train.ppo.samples_per_prompt to 2 "
            "or more",
        ),
        (
            {"advantage": "f_dpg", "samples_per_prompt": 4, "kl_coef": 0.0},
            "train.ppo: advantage=f_dpg measures from the reference in units of kl_coef, which is 0; set "
            "train.ppo.kl_coef above 0",
        ),
        (
            {"advantage": "online_dpo", "samples_per_prompt": 4, "kl_in": "loss"},
            "train.ppo: advantage=online_dpo has the KL in its own target, and train.ppo.kl_in=loss would "
            "add it again; set train.ppo.kl_in=auto",
        ),
        (
            {"advantage": "online_dpo", "samples_per_prompt": 4, "mask_overlong": True},
            "train.ppo: advantage=online_dpo has one loss for several responses, which mask_overlong, "
            "importance_cap and off_by cannot weigh; set train.ppo.mask_overlong=false and "
            "train.ppo.off_by=0, and remove train.ppo.importance_cap",
        ),
    ],
)
def test_an_algorithm_that_cannot_be_used_is_told_before_a_model_is_loaded(tmp_path, settings, says):
    config = PPOConfig(**settings)
    with pytest.raises(UsageError) as told:
        train_ppo(
            [], [], "no-such-model", "no-such-reward", tmp_path, config,
            engine=None, seed=0, progress=Silent(),
        )  # fmt: skip
    assert str(told.value) == says
    run = RunConfig(run=tmp_path, model="no-such-model", train={"ppo": settings})
    with pytest.raises(UsageError) as told:
        run_ppo(run, [])
    assert str(told.value) == says


def ones(prompts, completions):
    return [float(completion.token_ids.count(1)) for completion in completions]


class Said(Silent):
    def __init__(self):
        self.texts = []

    def note(self, text):
        self.texts.append(text)

    def waiting(self, text):
        self.texts.append(text)
        return super().waiting(text)


def learn(folder, reference=None, kind=PPOConfig, reward=ones, progress=None, **changes):
    """Run PPO on the enumerable task; returns its metrics and summary."""
    model = tiny_causal(vocab=3, width=32, eos=END)
    torch.nn.init.zeros_(model.lm_head.weight)
    start = folder / "start"
    model.save_pretrained(start)
    word_tokenizer(["0", "1", "</s>"], eos="</s>", pad="0").save_pretrained(start)
    settings = {
        "iterations": 12, "batch_size": 64, "epochs": 2, "max_new_tokens": 3, "learning_rate": 3e-3,
        "critic_learning_rate": 1e-2, "kl_coef": 0.05, "missing_eos_penalty": None, "checkpoint_every": 5,
    }  # fmt: skip
    summary = train_ppo(
        [PROMPT], [[END]], str(start), reward, folder / "out", kind(**settings | changes),
        engine=CausalRollouts(start, {END}), seed=0, progress=progress or Silent(), reference=reference,
    )  # fmt: skip
    lines = (folder / "out" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines], summary


def test_grpo_names_its_own_models_its_command_and_what_its_batches_say(tmp_path, monkeypatch):
    monkeypatch.setattr("constitute.train.common.disk._WORTH_SAYING", 0)
    parts = (RewardPart("ones", ones), RewardPart("brevity", lambda p, c: [-x for x in ones(p, c)], 0.0))
    small = {"iterations": 2, "batch_size": 8, "samples_per_prompt": 4}
    said = Said()
    lines, summary = learn(tmp_path / "grpo", kind=GRPOConfig, reward=parts, progress=said, **small)
    assert "loading the policy and its reference" in said.texts
    assert any(text.startswith("training grpo writes up to ") for text in said.texts)
    (first, last), found = lines, summary["reward_parts"]["brevity"]
    assert [found[when]["value"] for when in ("before", "after")] == [
        -first["reward"], pytest.approx(-last["reward"])
    ]  # fmt: skip
    width = 1.96 * last["reward_stderr/brevity"]
    assert found["after"]["high"] - found["after"]["value"] == pytest.approx(width)
    assert summary["reward_doubt"] == (
        "reward_before is of 8 answers to 2 prompts and reward_after of 8 answers to 2 prompts, which may be "
        "other prompts, and below 20 prompts their difference may be chance; raise train.grpo.batch_size, or "
        "set train.grpo.held_out to measure the same prompts at both ends"
    )
    said = Said()
    _, summary = learn(tmp_path / "ppo", progress=said, kl_coef=0.0, iterations=1)
    assert "loading the policy and the critic" in said.texts and "reward_parts" not in summary
    assert summary["reward_doubt"].startswith("reward_before and reward_after are of the same batch")


def test_enough_answers_leave_no_doubt():
    def doubt(n, **settings):
        figures = {"iteration": 1, "n": n, "reward": 0.0, "reward_stderr": 1.0, "kl_coef": 0.0, "seconds": {}}
        figures |= dict.fromkeys(("kl", "entropy", "length", "eos_rate"))
        return run_summary([figures] * 2, PPOConfig(**settings)).get("reward_doubt", "")

    assert doubt(20) == "" and "of 19 answers and reward_after of 19 answers" in doubt(19)
    assert doubt(80, samples_per_prompt=4) == "" and "76 answers to 19 prompts" in doubt(
        76, samples_per_prompt=4
    )
    assert doubt(19, held_out=0.5).endswith("go by held_out, which is of the same prompts at both ends")


def test_a_further_algorithm_is_a_module_and_an_entry(tmp_path, monkeypatch):
    module = add_module(monkeypatch, "grouped", example("An algorithm"))
    monkeypatch.setitem(ALGORITHMS, "grouped", module.ALGORITHM)
    # Groups 1, 3 and 2, 2: deviation sqrt(2), and none.
    config = PPOConfig(advantage="grouped", samples_per_prompt=2, batch_size=4)
    by_hand = experience(batch_of(find_algorithm(config), [1.0, 3.0, 2.0, 2.0], [[1.0]] * 4, config))
    assert by_hand.advantages_BT.flatten().tolist() == pytest.approx(
        [-0.70706, 0.70706, 0.0, 0.0], **decimals(5)
    )
    lines, summary = learn(tmp_path, advantage="grouped", samples_per_prompt=8, kl_coef=0.1)
    # Uniform at first, 19 / 27 ones a response; no policy has more than 3.
    assert lines[0]["reward"] == pytest.approx(19 / 27, abs=0.35)
    assert lines[-1]["reward"] > lines[0]["reward"] + 1.0
    assert lines[0]["kl"] == pytest.approx(0.0, **LOGPROB) and lines[-1]["kl"] > 0.2
    assert summary["critic_from"] == "none: grouped needs no critic"
    assert lines[-1]["explained_variance"] is None and lines[-1]["value_mean"] is None


def test_without_a_kl_penalty_no_reference_is_loaded_or_run(tmp_path, monkeypatch):
    loaded = []
    load = setup.load_model

    def counted(auto, name, **options):
        loaded.append(auto.__name__)
        return load(auto, name, **options)

    monkeypatch.setattr(setup, "load_model", counted)
    lines, summary = learn(tmp_path, kl_coef=0.0, critic="shared", keep_policies=True)
    # The policy alone; a shared critic has no trunk of its own.
    assert loaded == ["AutoModelForCausalLM"]
    assert {line["kl"] for line in lines} == {None} and {line["kl_k3"] for line in lines} == {None}
    assert summary["kl"] is None and lines[-1]["reward"] > lines[0]["reward"] + 1.0
    # Each iteration's mean reward alone says which checkpoint is best.
    assert summary["best_policy"].startswith("checkpoints/iteration-0000")
    measured = tmp_path / "measured"
    measured.mkdir()
    again, _ = learn(measured, kl_coef=1e-9, critic="shared", iterations=3)
    assert loaded == ["AutoModelForCausalLM"] * 3 and again[-1]["kl"] > 0
    with pytest.raises(UsageError, match=r"a reference is given and train\.ppo\.kl_coef is 0"):
        learn(tmp_path, reference=str(tmp_path / "start"), kl_coef=0.0)
