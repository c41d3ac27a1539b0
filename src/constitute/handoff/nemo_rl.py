"""Hand over to NeMo-RL: its example scripts, a configuration on top of theirs, an environment of ours.

Keys as in its examples/configs/ppo_math_1B.yaml and grpo_math_1B.yaml at the commit below.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import Any

from constitute.data.formats import write_jsonl
from constitute.files import atomic, write_text
from constitute.handoff.base import Job, Mapped, Target
from constitute.handoff.verl import write_reward
from constitute.types import Prompt

# Beside config.yaml, which `serve-reward` reads.
CONFIGURATION = "nemo-rl.yaml"


def settings(job: Job) -> list[Mapped]:
    """The keys of a job, as paths."""
    return [*_loop(job), *_loss(job), *_policy(job), *_value(job), *_data(job)]


def _section(job: Job) -> str:
    """The part of their configuration that holds the loop: there is a script for each."""
    return "ppo" if job.settings.advantage == "gae" else "grpo"


def _loop(job: Job) -> list[Mapped]:
    cfg, at = job.settings, _section(job)
    found = [
        Mapped(f"{at}.num_prompts_per_step", job.prompts_a_batch, ("batch_size",), "counts prompts"),
        Mapped(f"{at}.num_generations_per_prompt", cfg.samples_per_prompt, ("samples_per_prompt",)),
        Mapped(f"{at}.max_num_steps", cfg.iterations, ("iterations",)),
        Mapped(f"{at}.max_num_epochs", job.passes, ("iterations",)),
        Mapped(f"{at}.seed", job.config.seed),
        Mapped(f"{at}.overlong_filtering", cfg.mask_overlong, ("mask_overlong",)),
        Mapped(f"{at}.val_period", 0),
        Mapped(f"{at}.val_at_start", False),
        Mapped(f"{at}.reward_scaling.enabled", False),
        Mapped(f"{at}.reward_shaping.enabled", False),
        Mapped("checkpointing.checkpoint_dir", str(job.folder / "checkpoints")),
        Mapped("checkpointing.save_period", cfg.checkpoint_every, ("checkpoint_every",)),
        Mapped("checkpointing.metric_name", None),
    ]
    return [*found, *(_gae(job) if at == "ppo" else _group(job))]


def _gae(job: Job) -> list[Mapped]:
    cfg = job.settings
    return [
        Mapped("ppo.ppo_epochs", cfg.epochs, ("epochs",)),
        Mapped("ppo.adv_estimator.name", "gae", ("advantage",)),
        Mapped("ppo.adv_estimator.gae_lambda", cfg.lam, ("lam",)),
        Mapped("ppo.adv_estimator.gae_gamma", cfg.gamma, ("gamma",)),
        Mapped("ppo.skip_reference_policy_logprobs_calculation", not cfg.kl_coef),
        Mapped("loss_fn.use_kl_in_reward", not job.kl_in_loss, ("kl_in",)),
    ]


def _group(job: Job) -> list[Mapped]:
    cfg = job.settings
    plus = cfg.advantage.startswith("reinforce++")
    found = [
        Mapped("grpo.adv_estimator.name", "reinforce_plus_plus" if plus else "grpo", ("advantage",)),
        Mapped("grpo.normalize_rewards", cfg.advantage == "grpo" and cfg.group_std, ("group_std",)),
        Mapped("grpo.use_leave_one_out_baseline", cfg.advantage == "rloo"),
    ]
    if plus:
        found.append(Mapped("grpo.adv_estimator.minus_baseline", cfg.advantage == "reinforce++baseline"))
    return [*found, Mapped("grpo.val_at_end", False)]


def _loss(job: Job) -> list[Mapped]:
    cfg = job.settings
    kept = job.kl_in_loss or _section(job) == "ppo"
    found = [
        Mapped(
            "loss_fn.reference_policy_kl_type", cfg.kl_estimate if job.kl_in_loss else "k1", ("kl_estimate",)
        ),
        Mapped("loss_fn.ratio_clip_min", cfg.clip, ("clip",)),
        Mapped("loss_fn.ratio_clip_max", cfg.clip_high or cfg.clip, ("clip_high",)),
        Mapped("loss_fn.ratio_clip_c", cfg.dual_clip, ("dual_clip",)),
        Mapped("loss_fn.sequence_level_importance_ratios", cfg.ratio == "sequence", ("ratio",)),
        Mapped(
            "loss_fn.token_level_loss",
            cfg.loss_mean == "token",
            ("loss_mean",) if cfg.loss_mean != "limit" else (),
        ),
    ]
    # Of PPO `use_kl_in_reward` says the place.
    ours = ("kl_coef", "kl_in") if _section(job) == "grpo" else ("kl_coef",)
    found.insert(
        0,
        Mapped("loss_fn.reference_policy_kl_penalty", cfg.kl_coef if kept else 0.0, ours if kept else ()),
    )
    if cfg.importance_cap is not None:
        found += [
            Mapped("loss_fn.use_importance_sampling_correction", True, ("importance_cap",)),
            Mapped("loss_fn.truncated_importance_sampling_type", "tis"),
            Mapped("loss_fn.truncated_importance_sampling_ratio", cfg.importance_cap, ("importance_cap",)),
        ]
    return found


def _policy(job: Job) -> list[Mapped]:
    cfg, engine = job.settings, job.config.engine
    return [
        Mapped("policy.model_name", job.policy),
        Mapped(
            "policy.train_global_batch_size",
            max(1, cfg.batch_size // cfg.minibatches),
            ("minibatches",),
            "counts responses",
        ),
        Mapped("policy.train_micro_batch_size", 1),
        Mapped("policy.max_total_sequence_length", job.length, ("max_new_tokens",)),
        Mapped("policy.max_grad_norm", cfg.max_grad_norm, ("max_grad_norm",)),
        Mapped(
            "policy.dtensor_cfg.activation_checkpointing",
            cfg.gradient_checkpointing,
            ("gradient_checkpointing",),
        ),
        Mapped("policy.dtensor_cfg.lora_cfg.enabled", cfg.lora_rank > 0, ("lora_rank",)),
        Mapped("policy.dtensor_cfg.lora_cfg.dim", cfg.lora_rank or 8),
        Mapped("policy.dtensor_cfg.lora_cfg.alpha", 2 * cfg.lora_rank or 32),
        *_adam("policy", cfg.learning_rate, "learning_rate"),
        _schedule("policy", job),
        Mapped("policy.generation.max_new_tokens", cfg.max_new_tokens),
        Mapped("policy.generation.temperature", cfg.temperature, ("temperature",)),
        Mapped("policy.generation.vllm_cfg.tensor_parallel_size", engine.tensor_parallel),
        Mapped("policy.generation.vllm_cfg.gpu_memory_utilization", engine.gpu_memory or 0.5),
        Mapped("cluster.num_nodes", job.cluster.nodes),
        Mapped("cluster.gpus_per_node", job.cluster.gpus),
    ]


def _value(job: Job) -> list[Mapped]:
    cfg = job.settings
    if _section(job) != "ppo":
        return []
    return [
        Mapped("value.model_name", job.critic, ("critic",) if cfg.critic == "separate" else ()),
        *_adam("value", cfg.critic_learning_rate, "critic_learning_rate"),
        _schedule("value", job),
        Mapped("value.max_grad_norm", cfg.max_grad_norm),
        Mapped("value_loss_fn.cliprange", cfg.value_clip, ("value_clip",)),
        Mapped("value_loss_fn.scale", 1.0),
    ]


def _adam(part: str, rate: float, name: str) -> list[Mapped]:
    at = f"{part}.optimizer.kwargs"
    return [Mapped(f"{at}.lr", rate, (name,)), Mapped(f"{at}.eps", 1e-5), Mapped(f"{at}.weight_decay", 0.0)]


def _schedule(part: str, job: Job) -> Mapped:
    """A constant rate, or one that falls to nothing by the last iteration; lists of torch's schedulers."""
    linear = job.settings.schedule == "linear"
    kwargs: dict[str, Any] = {"factor": 1.0, "total_iters": 10_000_000_000}
    if linear:
        kwargs = {"start_factor": 1.0, "end_factor": 0.0, "total_iters": job.settings.iterations}
    name = f"torch.optim.lr_scheduler.{'LinearLR' if linear else 'ConstantLR'}"
    return Mapped(f"{part}.scheduler", [{"name": name, "kwargs": kwargs}, {"milestones": []}], ("schedule",))


def _data(job: Job) -> list[Mapped]:
    train = {
        "dataset_name": "ResponseDataset",
        "data_path": str(job.folder / "prompts.jsonl"),
        "env_name": "constitute",
        "processor": "constitute",
    }
    return [
        # Else their example's own data would stay beside these.
        Mapped("data._override_", True),
        Mapped("data.shuffle", True),
        Mapped("data.num_workers", 1),
        Mapped("data.use_multiple_dataloader", False),
        # One more than the longest: a prompt as long as the limit is refused.
        Mapped("data.max_input_seq_length", job.prompt_tokens + 1),
        Mapped("data.train", train),
        Mapped("data.validation", None),
        Mapped("data.default", None),
        Mapped("env.constitute", {"url": job.reward_url}, ("score_clip",)),
        Mapped("logger.log_dir", str(job.folder / "logs")),
    ]


def configuration(job: Job, mapped: Sequence[Mapped]) -> dict[str, Any]:
    """The keys as nested tables on top of NeMo-RL's own example."""
    root: dict[str, Any] = {"defaults": f"examples/configs/{_section(job)}_math_1B.yaml"}
    for each in mapped:
        *path, last = each.key.split(".")
        table = root
        for name in path:
            table = table.setdefault(name, {})
        table[last] = each.value
    return root


def write(job: Job, prompts: Sequence[Prompt], mapped: Sequence[Mapped]) -> list[Path]:
    """Write prompts.jsonl, nemo-rl.yaml, the environment with the reward function, and launch.py."""
    from ruamel.yaml import YAML

    data = job.folder / "prompts.jsonl"
    with atomic(data) as stream:
        write_jsonl(stream, map(_row, prompts), "prompts")
    text = StringIO()
    # The round trip keeps the order of the keys.
    YAML(typ="rt", pure=True).dump(configuration(job, mapped), text)
    ours = files("constitute.handoff").joinpath("files")
    copied = [
        write_text(job.folder / name, ours.joinpath(name).read_text(encoding="utf-8"))
        for name in ("constitute_environment.py", "launch.py")
    ]
    script = write_text(job.folder / "script.txt", f"examples/run_{_section(job)}.py\n")
    return [
        data,
        write_text(job.folder / CONFIGURATION, text.getvalue()),
        *copied,
        script,
        *write_reward(job),
    ]


def _row(prompt: Prompt) -> dict[str, Any]:
    return {"id": prompt.id, "messages": [message.model_dump() for message in prompt.messages]}


def how(job: Job) -> list[str]:
    """What to do with the files."""
    return [
        f"Start the reward: `sh {job.word('serve-reward.sh')}`.",
        "In a checkout of NeMo-RL, in its container or with its uv environment, on a Ray cluster of its own:",
        f"`uv run python {job.word('launch.py')}`",
    ]


TARGET = Target(
    title="NeMo-RL",
    repository="https://github.com/NVIDIA-NeMo/RL",
    commit="7ea279abfbeb698b092856d0dab61e7cf39bc909",
    export_format="nemo-rl",
    settings=settings,
    write=write,
    how=how,
    lacks={
        "epochs": "its GRPO makes one pass over a batch",
        "critic": "NeMo-RL's critic has weights of its own",
        "value_coef": "its critic has an optimizer of its own",
        "kl_coef": "its GRPO has the penalty in the loss only, and here it stands in the reward",
        "kl_in": "its GRPO has the penalty in the loss only",
        "kl_target": "NeMo-RL's coefficient is fixed",
        "kl_horizon": "NeMo-RL's coefficient is fixed",
        "missing_eos_penalty": "NeMo-RL scales the reward of a cut-off response by 0 to 1, no penalty "
        "where rewards are below 0; raise max_new_tokens until few are cut off",
        "loss_mean": "NeMo-RL divides by tokens or by responses, not by the limit",
        "gamma": "its GRPO discounts nothing",
        "target_kl": "NeMo-RL makes all passes over a batch",
        "resample_rounds": "its dynamic sampling needs a range of scores that is known beforehand",
        "score_norm": "NeMo-RL scales scores by a range that is known beforehand, not by the batch",
        "ptx_coef": "NeMo-RL has no loss on other conversations in PPO",
        "ptx_data": "NeMo-RL has no loss on other conversations in PPO",
        "off_by": "NeMo-RL samples ahead by its own async settings, of its GRPO alone",
        "old_logprobs": "NeMo-RL computes them again in the trainer",
    },
)
