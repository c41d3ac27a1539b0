"""Hand over to verl: `verl.trainer.main_ppo`, prompts in Parquet, a reward function that asks a server.

Keys as in its verl/trainer/config/ppo_trainer.yaml and what that composes, at the commit below.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from constitute.data.formats import export_format
from constitute.files import atomic, write_json, write_text
from constitute.handoff.base import Job, Mapped, Target
from constitute.train.rewards.wire import prompt_label
from constitute.types import Prompt

_ESTIMATORS = {
    "gae": "gae",
    "rloo": "rloo",
    "grpo": "grpo",
    "reinforce++": "reinforce_plus_plus",
    "reinforce++baseline": "reinforce_plus_plus_baseline",
}
_MEANS = {"token": "token-mean", "response": "seq-mean-token-mean", "limit": "seq-mean-token-sum-norm"}
_ACTOR, _ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
# Where a token's loss is bounded whatever the setting, this bounds nothing.
_NO_BOUND = 1e9


def settings(job: Job) -> list[Mapped]:
    """The overrides of a job."""
    return [*_data(job), *_policy(job), *_critic(job), *_algorithm(job), *_trainer(job)]


def _data(job: Job) -> list[Mapped]:
    cfg, prompts = job.settings, str(job.folder / "prompts.parquet")
    return [
        Mapped("data.train_files", prompts),
        Mapped("data.val_files", prompts, (), "asked for even where nothing is validated"),
        Mapped("data.train_batch_size", job.prompts_a_batch, ("batch_size",), "counts prompts"),
        Mapped("data.max_prompt_length", job.prompt_tokens),
        Mapped("data.max_response_length", cfg.max_new_tokens, ("max_new_tokens",)),
        Mapped("data.truncation", "error"),
        Mapped("data.seed", job.config.seed),
        Mapped(
            "reward.custom_reward_function.path", str(job.folder / "constitute_reward.py"), ("score_clip",)
        ),
        Mapped("reward.custom_reward_function.name", "compute_score"),
    ]


def _policy(job: Job) -> list[Mapped]:
    cfg, engine = job.settings, job.config.engine
    mode = "gspo" if cfg.ratio == "sequence" else "vanilla"
    found = [
        Mapped("actor_rollout_ref.model.path", job.policy),
        Mapped(
            "actor_rollout_ref.model.enable_gradient_checkpointing",
            cfg.gradient_checkpointing,
            ("gradient_checkpointing",),
        ),
        Mapped("actor_rollout_ref.model.lora_rank", cfg.lora_rank, ("lora_rank",)),
        Mapped("actor_rollout_ref.model.lora_alpha", 2 * cfg.lora_rank),
        Mapped(f"{_ACTOR}.optim.lr", cfg.learning_rate, ("learning_rate",)),
        Mapped(
            f"{_ACTOR}.optim.lr_scheduler_type",
            "constant",
            ("schedule",) if cfg.schedule == "constant" else (),
        ),
        Mapped(f"{_ACTOR}.optim.weight_decay", 0.0),
        Mapped(f"{_ACTOR}.grad_clip", cfg.max_grad_norm, ("max_grad_norm",)),
        Mapped(f"{_ACTOR}.ppo_epochs", cfg.epochs, ("epochs",)),
        Mapped(f"{_ACTOR}.ppo_mini_batch_size", job.prompts_a_minibatch, ("minibatches",), "counts prompts"),
        Mapped(f"{_ACTOR}.use_dynamic_bsz", True),
        Mapped(f"{_ACTOR}.ppo_max_token_len_per_gpu", max(cfg.microbatch_tokens, job.length)),
        Mapped(f"{_ACTOR}.clip_ratio_low", cfg.clip, ("clip",)),
        Mapped(f"{_ACTOR}.clip_ratio_high", cfg.clip_high or cfg.clip, ("clip_high",)),
        Mapped(f"{_ACTOR}.clip_ratio_c", cfg.dual_clip or _NO_BOUND, ("dual_clip",)),
        Mapped(f"{_ACTOR}.policy_loss.loss_mode", mode, ("ratio",)),
        Mapped(f"{_ACTOR}.loss_agg_mode", _MEANS[cfg.loss_mean], ("loss_mean",)),
        Mapped(f"{_ACTOR}.use_kl_loss", bool(job.kl_in_loss and cfg.kl_coef), ("kl_in",)),
        Mapped(f"{_ROLLOUT}.name", "vllm"),
        Mapped(f"{_ROLLOUT}.n", cfg.samples_per_prompt, ("samples_per_prompt",)),
        Mapped(f"{_ROLLOUT}.temperature", cfg.temperature, ("temperature",)),
        Mapped(f"{_ROLLOUT}.tensor_model_parallel_size", engine.tensor_parallel),
        Mapped(f"{_ROLLOUT}.gpu_memory_utilization", engine.gpu_memory or 0.5),
    ]
    if cfg.loss_mean == "limit":
        found.append(Mapped(f"{_ACTOR}.loss_scale_factor", cfg.max_new_tokens))
    if job.kl_in_loss:
        found.append(Mapped(f"{_ACTOR}.kl_loss_coef", cfg.kl_coef, ("kl_coef",)))
        found.append(Mapped(f"{_ACTOR}.kl_loss_type", cfg.kl_estimate, ("kl_estimate",)))
    return found


def _critic(job: Job) -> list[Mapped]:
    cfg = job.settings
    if cfg.advantage != "gae":
        return [Mapped("critic.enable", False, ("advantage",))]
    return [
        Mapped("critic.enable", True, ("critic",) if cfg.critic == "separate" else ()),
        Mapped("critic.model.path", job.critic),
        Mapped("critic.optim.lr", cfg.critic_learning_rate, ("critic_learning_rate",)),
        Mapped("critic.optim.weight_decay", 0.0),
        Mapped("critic.grad_clip", cfg.max_grad_norm),
        Mapped("critic.cliprange_value", cfg.value_clip, ("value_clip",)),
        Mapped("critic.ppo_epochs", cfg.epochs),
        Mapped("critic.use_dynamic_bsz", True),
        Mapped("critic.ppo_max_token_len_per_gpu", max(cfg.microbatch_tokens, job.length)),
    ]


def _algorithm(job: Job) -> list[Mapped]:
    cfg = job.settings
    found = [
        Mapped("algorithm.adv_estimator", _ESTIMATORS.get(cfg.advantage, "gae"), ("advantage",)),
        Mapped("algorithm.norm_adv_by_std_in_grpo", cfg.group_std, ("group_std",)),
        Mapped("algorithm.gamma", cfg.gamma, ("gamma",)),
        Mapped("algorithm.lam", cfg.lam, ("lam",)),
        Mapped("algorithm.use_kl_in_reward", bool(not job.kl_in_loss and cfg.kl_coef)),
    ]
    if not job.kl_in_loss:
        found.append(Mapped("algorithm.kl_ctrl.kl_coef", cfg.kl_coef, ("kl_coef",)))
        found.append(Mapped("algorithm.kl_penalty", "kl", ("kl_estimate",)))
    if cfg.importance_cap is not None:
        found.append(Mapped("algorithm.rollout_correction.rollout_is", "token", ("importance_cap",)))
        found.append(
            Mapped(
                "algorithm.rollout_correction.rollout_is_threshold", cfg.importance_cap, ("importance_cap",)
            )
        )
    return found


def _trainer(job: Job) -> list[Mapped]:
    cfg = job.settings
    return [
        Mapped("trainer.total_training_steps", cfg.iterations, ("iterations",)),
        Mapped("trainer.total_epochs", job.passes, ("iterations",)),
        Mapped("trainer.nnodes", job.cluster.nodes),
        Mapped("trainer.n_gpus_per_node", job.cluster.gpus),
        Mapped("trainer.save_freq", cfg.checkpoint_every, ("checkpoint_every",)),
        Mapped("trainer.test_freq", -1),
        Mapped("trainer.val_before_train", False),
        Mapped("trainer.logger", ["console"]),
        Mapped("trainer.project_name", "constitute"),
        Mapped("trainer.experiment_name", job.folder.name),
        Mapped("trainer.default_local_dir", str(job.folder / "checkpoints")),
    ]


def overrides(mapped: Sequence[Mapped]) -> list[str]:
    """The words `key=value`, values as Hydra reads them."""
    return [f"{each.key}={_value(each.value)}" for each in mapped]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and set(value) & set(" ,=:{}[]()'\"\\"):
        return json.dumps(value)
    return json.dumps(value) if isinstance(value, list) else str(value)


def write(job: Job, prompts: Sequence[Prompt], mapped: Sequence[Mapped]) -> list[Path]:
    """Write prompts.parquet, the reward function with its settings, and launch.sh."""
    data, launch = job.folder / "prompts.parquet", job.folder / "launch.sh"
    form = export_format("verl")
    with atomic(data) as stream:
        form.write(stream, map(_row, prompts), "prompts")
    lines = ["python3 -m verl.trainer.main_ppo", *(shlex.quote(word) for word in overrides(mapped))]
    write_text(launch, "#!/bin/sh\nset -e\n" + " \\\n  ".join(lines) + "\n")
    launch.chmod(0o755)
    return [data, launch, *write_reward(job)]


def write_reward(job: Job) -> list[Path]:
    """Write the function that asks the reward server, and where that answers."""
    code = files("constitute.handoff").joinpath("files", "constitute_reward.py").read_text(encoding="utf-8")
    told = {
        "url": job.reward_url,
        "timeout_s": job.config.engine.timeout_s,
        "score_clip": job.settings.score_clip,
    }
    return [
        write_text(job.folder / "constitute_reward.py", code),
        write_json(job.folder / "reward.json", told),
    ]


def _row(prompt: Prompt) -> dict[str, Any]:
    return {
        "data_source": "constitute",
        "prompt": [message.model_dump() for message in prompt.messages],
        "ability": "chat",
        # What a reward function is given beside the response.
        "reward_model": {"style": "model", "ground_truth": prompt_label(prompt)},
        "extra_info": {"id": prompt.id},
    }


def how(job: Job) -> list[str]:
    """What to do with the files."""
    return [
        f"Start the reward: `sh {job.word('serve-reward.sh')}`.",
        "Start Ray: `ray start --head`, and `ray start --address HEAD:6379` on each other node.",
        f"`sh {job.word('launch.sh')}`",
        "Put the weights together afterwards: `python3 -m verl.model_merger merge --backend fsdp --local_dir "
        f"{job.word(f'checkpoints/global_step_{job.settings.iterations}/actor')} --target_dir policy`.",
    ]


TARGET = Target(
    title="verl",
    repository="https://github.com/verl-project/verl",
    commit="1dda039b9c6311889a9c9a26040677e1254814f9",
    export_format="verl",
    settings=settings,
    write=write,
    how=how,
    lacks={
        "schedule": "verl's rates are constant or fall as a cosine; constant is taken",
        "critic": "verl's critic has weights of its own",
        "value_coef": "its critic has an optimizer of its own",
        "kl_target": "verl's target counts nats a token and ours a response; the coefficient stays fixed",
        "kl_horizon": "it belongs to kl_target, which is not handed over",
        "missing_eos_penalty": "verl's reward function does not hear whether a response ended; "
        "raise max_new_tokens until few are cut off",
        "mask_overlong": "verl trains on responses that the limit cut off",
        "target_kl": "verl makes all passes over a batch",
        "resample_rounds": "its filter_groups belongs to the DAPO recipe, which has a trainer of its own",
        "score_norm": "verl does not normalise the scores of a batch",
        "ptx_coef": "verl has no loss on other conversations in PPO",
        "ptx_data": "verl has no loss on other conversations in PPO",
        "off_by": "verl samples ahead by a recipe with a trainer of its own",
        "old_logprobs": "verl computes them again in the trainer",
        "kl_in": "its place is said by use_kl_in_reward",
    },
)
