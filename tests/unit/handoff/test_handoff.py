"""A run in another trainer's words: values by hand, keys that the trainer knows, nothing lost unsaid."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from constitute.config import RunConfig
from constitute.config.ppo import GRPOConfig, PPOConfig
from constitute.handoff import TARGETS, nemo_rl, openrlhf, verl
from constitute.handoff.base import NOT_LEARNED, Cluster, Job, lost, number
from constitute.types import Message, Prompt

KEYS = Path(__file__).with_name("known_keys")
PROMPTS = [
    Prompt(
        id=f"p{n}",
        messages=(Message(role="system", content="Be kind."), Message(role="user", content=f"Ask {n}?")),
    )
    for n in range(10)
]


def job(tmp_path, method="ppo", native=False, nodes=2, gpus=4, engine=None, **settings):
    config = RunConfig(train={method: settings}, engine=engine or {}, seed=7)
    return Job(
        config=config,
        method=method,
        policy="/models/sft",
        critic="/models/reward",
        reward_model="/models/reward" if native else None,
        reward_url="http://head:5000/get_reward",
        prompts=10,
        prompt_tokens=100,
        cluster=Cluster(nodes, gpus),
        folder=tmp_path,
    )


def values(target, one):
    return {each.key: each.value for each in TARGETS[target].settings(one)}


EVERYTHING = {
    "clip_high": 0.28, "dual_clip": 3.0, "missing_eos_penalty": 0.5, "importance_cap": 2.0, "score_clip": 5.0,
    "lora_rank": 8, "gradient_checkpointing": True, "batch_size": 8, "samples_per_prompt": 2, "iterations": 9,
}  # fmt: skip
SEVERAL = [
    ("ppo", {}),
    ("ppo", EVERYTHING),
    ("ppo", {"kl_in": "loss", "kl_coef": 0.0, "critic": "shared", "loss_mean": "limit"}),
    ("grpo", {"group_std": False, "ratio": "sequence"}),
    ("grpo", {"advantage": "rloo", "loss_mean": "response", **EVERYTHING}),
    ("grpo", {"advantage": "reinforce++"}),
    ("grpo", {"advantage": "reinforce++baseline", "schedule": "linear"}),
]


@pytest.mark.parametrize("target", TARGETS)
def test_every_key_is_one_that_the_trainer_knows(target, tmp_path):
    known = set((KEYS / f"{target}.txt").read_text().split())
    # Hydra's and OmegaConf's own, and tables of ours.
    known |= {"data._override_", "env.constitute"} if target == "nemo-rl" else set()
    for method, settings in SEVERAL:
        for native in (False, True):
            used = set(values(target, job(tmp_path, method, native, **settings)))
            assert not used - known, (method, settings)


def test_openrlhf_by_hand(tmp_path):
    found = values("openrlhf", job(tmp_path, native=True, engine={"tensor_parallel": 2}, **EVERYTHING))
    # 8 responses are 4 prompts with 2 each; 10 prompts hold 2 whole batches, so 9 iterations need 5 passes.
    assert found["rollout.batch_size"] == 4 and found["rollout.n_samples_per_prompt"] == 2
    assert found["train.num_episodes"] == 5 and found["data.max_samples"] == 10
    assert found["train.batch_size"] == 8 and found["train.max_epochs"] == 4
    assert found["actor.eps_clip_low_high"] == (0.2, 0.28) and found["actor.dual_clip"] == 3.0
    assert found["algo.kl.init_coef"] == 0.05 and found["algo.kl.estimator"] == "k1"
    assert "algo.kl.use_loss" not in found
    assert found["reward.stop_properly_penalty_coef"] == -0.5 and found["reward.clip_range"] == (-5.0, 5.0)
    assert found["actor.adam.lr"] == 3e-6 and found["critic.adam.lr"] == 1e-5
    assert found["ds.lora.rank"] == 8 and found["ds.lora.alpha"] == 16
    assert found["data.max_len"] == 356 and found["vllm.num_engines"] == 4
    assert found["reward.model_name_or_path"] == "/models/reward" and "reward.remote_url" not in found
    served = values("openrlhf", job(tmp_path, "grpo", group_std=False))
    assert served["reward.remote_url"] == "http://head:5000/get_reward"
    assert served["algo.advantage.estimator"] == "dr_grpo" and served["algo.kl.use_loss"] is True
    assert served["algo.kl.estimator"] == "k3" and "critic.model_name_or_path" not in served


def test_verl_by_hand(tmp_path):
    found = values("verl", job(tmp_path, minibatches=2, **EVERYTHING))
    assert found["data.train_batch_size"] == 4 and found["actor_rollout_ref.actor.ppo_mini_batch_size"] == 2
    assert found["actor_rollout_ref.rollout.n"] == 2 and found["trainer.total_training_steps"] == 9
    assert found["actor_rollout_ref.actor.clip_ratio_c"] == 3.0
    assert found["algorithm.use_kl_in_reward"] is True and found["algorithm.kl_ctrl.kl_coef"] == 0.05
    assert found["actor_rollout_ref.actor.use_kl_loss"] is False
    assert found["critic.model.path"] == "/models/reward" and found["critic.optim.lr"] == 1e-5
    group = values("verl", job(tmp_path, "grpo", loss_mean="limit", ratio="sequence"))
    assert group["actor_rollout_ref.actor.kl_loss_coef"] == 0.04 and group["critic.enable"] is False
    assert group["actor_rollout_ref.actor.loss_agg_mode"] == "seq-mean-token-sum-norm"
    assert group["actor_rollout_ref.actor.loss_scale_factor"] == 256
    assert group["actor_rollout_ref.actor.policy_loss.loss_mode"] == "gspo"


def test_nemo_rl_by_hand(tmp_path):
    one = job(tmp_path, **EVERYTHING)
    tree = nemo_rl.configuration(one, nemo_rl.settings(one))
    assert tree["defaults"] == "examples/configs/ppo_math_1B.yaml"
    assert tree["ppo"]["num_prompts_per_step"] == 4 and tree["ppo"]["num_generations_per_prompt"] == 2
    assert (
        tree["loss_fn"]["reference_policy_kl_penalty"] == 0.05 and tree["loss_fn"]["use_kl_in_reward"] is True
    )
    assert tree["loss_fn"]["truncated_importance_sampling_ratio"] == 2.0
    linear = tree["policy"]["scheduler"][0]
    assert linear["kwargs"] == {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 9}
    assert tree["data"]["max_input_seq_length"] == 101 and tree["data"]["train"]["env_name"] == "constitute"
    group = job(tmp_path, "grpo", advantage="rloo")
    tree = nemo_rl.configuration(group, nemo_rl.settings(group))
    assert (
        tree["defaults"] == "examples/configs/grpo_math_1B.yaml" and "ppo" not in tree and "value" not in tree
    )
    assert tree["grpo"]["use_leave_one_out_baseline"] is True
    assert tree["loss_fn"]["reference_policy_kl_penalty"] == 0.0


CRITICS = ("lam", "critic", "critic_learning_rate", "value_clip", "value_coef")


def named_lost(target, one):
    told = lost(TARGETS[target], one, TARGETS[target].settings(one))
    return {line.partition("=")[0].rpartition(".")[2] for line in told}


# NeMo-RL alone has no such penalty for rewards below 0, verl none at all.
BARE = {"missing_eos_penalty": None}


@pytest.mark.parametrize("target", TARGETS)
def test_what_changes_nothing_is_not_called_lost(target, tmp_path):
    assert named_lost(target, job(tmp_path, "grpo", **BARE, loss_mean="token")) == set()
    assert named_lost(target, job(tmp_path, "ppo", **BARE, schedule="constant")) == {"value_coef"}
    # Two passes, a discount and a target are heeded where the algorithm is one that heeds them.
    two = job(tmp_path, "grpo", **BARE, epochs=2, target_kl=0.1, gamma=0.9, kl_target=6.0)
    lacking = {"kl_target", "kl_horizon", "target_kl"}
    assert named_lost(target, two) == lacking | ({"epochs"} if target == "nemo-rl" else set())
    whitened = job(tmp_path, "grpo", **BARE, advantage="reinforce++", gamma=0.9, kl_coef=0.0)
    assert named_lost(target, whitened) == ({"gamma"} if target == "nemo-rl" else set())
    engine = job(tmp_path, "grpo", **BARE, old_logprobs="engine")
    assert named_lost(target, engine) == {"old_logprobs"}


@pytest.mark.parametrize("target", TARGETS)
def test_each_key_stands_once(target, tmp_path):
    for method, settings in SEVERAL:
        keys = [each.key for each in TARGETS[target].settings(job(tmp_path, method, **settings))]
        assert len(set(keys)) == len(keys), (method, settings)


def test_nemo_rls_settings_come_from_what_they_say(tmp_path):
    from_ = {each.key: each.ours for each in nemo_rl.settings(job(tmp_path, "grpo"))}
    assert from_["grpo.val_at_end"] == ()
    assert from_["loss_fn.reference_policy_kl_penalty"] == ("kl_coef", "kl_in")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("section", [PPOConfig, GRPOConfig])
def test_no_setting_is_dropped_without_a_word(target, section, tmp_path):
    """Each setting alone, at a value of its own: a key's value changes, or a sentence names it."""
    others = {"ptx_coef": {"ptx_data": "x.jsonl"}, "kl_horizon": {"kl_target": 6.0}}
    changed = {
        "iterations": 33, "batch_size": 64, "epochs": 3, "minibatches": 2, "max_new_tokens": 99,
        "temperature": 0.7,
        "learning_rate": 2e-7, "critic_learning_rate": 2e-7, "schedule": "other", "critic": "shared",
        "gamma": 0.9, "lam": 0.8, "clip": 0.11, "clip_high": 0.3, "dual_clip": 5.0, "ratio": "sequence",
        "loss_mean": "limit",
        "mask_overlong": True, "value_clip": 0.4, "value_coef": 0.7, "kl_coef": 0.2, "kl_target": 6.0,
        "kl_horizon": 99, "missing_eos_penalty": 2.5, "target_kl": 0.02, "max_grad_norm": 0.3,
        "gradient_checkpointing": True, "group_std": False, "samples_per_prompt": 16, "score_clip": 3.0,
        "score_norm": "batch", "lora_rank": 4, "ptx_coef": 0.5, "importance_cap": 2.0,
        "old_logprobs": "engine", "resample_rounds": 2, "checkpoint_every": 7,
    }  # fmt: skip
    method = section.section
    before = job(tmp_path, method)
    for name, value in changed.items():
        if name == "group_std" and method == "ppo":
            # GAE has no groups.
            continue
        if value == "other":
            value = "constant" if before.settings.schedule == "linear" else "linear"
        more = {"samples_per_prompt": 2} if name == "resample_rounds" and method == "ppo" else {}
        after = job(tmp_path, method, **{name: value}, **others.get(name, {}), **more)
        mapped = TARGETS[target].settings(after)
        told, told_before = (
            [
                line
                for line in lost(TARGETS[target], one, TARGETS[target].settings(one))
                if f".{name}=" in line
            ]
            for one in (after, before)
        )
        moved = {each.key: each.value for each in mapped} != values(target, before)
        elsewhere = (
            # A critic's, and what GRPO's one update a batch with an undiscounted reward does not heed.
            (method == "grpo" and name in (*CRITICS, "gamma", "target_kl"))
            # PPO has its penalty in the reward, where there is one estimate.
            or (method == "ppo" and name == "kl_estimate")
            # It stands in reward.json, which the function that asks for rewards reads.
            or (target != "openrlhf" and name == "score_clip")
        )
        assert told != told_before or (moved and name not in NOT_LEARNED) or elsewhere, (name, value)
        assert not (told and "has no such setting" in told[0]), told


def test_a_new_setting_is_named_until_it_is_mapped(tmp_path):
    one = job(tmp_path, kl_target=6.0)
    told = list(lost(TARGETS["verl"], one, []))
    assert any(line.startswith("train.ppo.learning_rate=3e-06: verl has no such setting") for line in told)
    assert any("kl_target=6.0: verl's target counts nats a token" in line for line in told)


def test_numbers_survive_argparse():
    assert number(3e-6) == "0.000003" and number(-1e9) == "-1000000000.0" and number(-0.5) == "-0.5"


def test_openrlhf_files(tmp_path):
    one = job(tmp_path, **EVERYTHING)
    openrlhf.write(one, PROMPTS, openrlhf.settings(one))
    rows = [json.loads(line) for line in (tmp_path / "prompts.jsonl").read_text().splitlines()]
    assert rows[3]["prompt"][1] == {"role": "user", "content": "Ask 3?"}
    assert json.loads(rows[3]["label"]) == {"id": "p3", "messages": rows[3]["prompt"]}
    words = shlex.split((tmp_path / "launch.sh").read_text().replace("\\\n", " "), comments=True)
    assert words[2:5] == ["python3", "-m", "openrlhf.cli.train_ppo_ray"]
    at = words.index("--actor.eps_clip_low_high")
    assert words[at + 1 : at + 3] == ["0.2", "0.28"]


def test_verl_files_and_a_reward_function_that_asks_the_server(tmp_path):
    import asyncio

    from aiohttp import web

    from constitute.train.rewards.served import Rewarded
    from constitute.train.rewards.server import application

    seen = []

    def rewards(rows):
        seen.extend(rows)
        return [Rewarded(10.0 * len(row.answer), {"length": 10.0 * len(row.answer)}) for row in rows]

    async def ask():
        runner = web.AppRunner(application(["length"], rewards))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/get_reward"
        one = job(tmp_path, score_clip=45.0)
        verl.write(one, PROMPTS, verl.settings(one))
        told = json.loads((tmp_path / "reward.json").read_text())
        assert told == {"url": one.reward_url, "timeout_s": 600.0, "score_clip": 45.0}
        (tmp_path / "reward.json").write_text(json.dumps({**told, "url": url}))
        code = (
            "import constitute_reward as r, sys\n"
            "print(r.compute_score('constitute', 'Yes.', sys.argv[1], {'num_turns': None}))\n"
            "print(r.compute_score(data_source='c', solution_str='Yes, so.', ground_truth=sys.argv[1]))"
        )
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, truth, cwd=tmp_path, stdout=subprocess.PIPE
        )
        out, _ = await child.communicate()
        await runner.cleanup()
        return out.decode().split()

    import pyarrow.parquet as parquet

    one = job(tmp_path)
    verl.write(one, PROMPTS, verl.settings(one))
    row = parquet.read_table(tmp_path / "prompts.parquet").to_pylist()[4]
    truth = row["reward_model"]["ground_truth"]
    assert row["prompt"] == [message.model_dump() for message in PROMPTS[4].messages]
    # 4 letters are 40; 8 are 80, cut to 45.
    assert asyncio.run(ask()) == ["40.0", "45.0"]
    assert seen[0].prompt == PROMPTS[4] and seen[0].answer == "Yes."


def test_nemo_rl_files(tmp_path):
    one = job(tmp_path)
    names = {path.name for path in nemo_rl.write(one, PROMPTS, nemo_rl.settings(one))}
    assert names == {
        "prompts.jsonl", "nemo-rl.yaml", "constitute_environment.py", "constitute_reward.py", "launch.py",
        "reward.json", "script.txt",
    }  # fmt: skip
    assert (tmp_path / "script.txt").read_text() == "examples/run_ppo.py\n"
    assert json.loads((tmp_path / "prompts.jsonl").read_text().splitlines()[0])["id"] == "p0"
