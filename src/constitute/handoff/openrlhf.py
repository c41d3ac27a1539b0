"""Hand over to OpenRLHF: `openrlhf.cli.train_ppo_ray` with prompts in JSONL.

Flags as in its argparse parser at the commit below (openrlhf/cli/train_ppo_ray.py).
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from constitute.data.formats import write_jsonl
from constitute.files import atomic, write_text
from constitute.handoff.base import Job, Mapped, Target, number
from constitute.train.rewards.wire import prompt_label
from constitute.types import Prompt

_ESTIMATORS = {
    "gae": "gae",
    "rloo": "rloo",
    "grpo": "group_norm",
    "reinforce++": "reinforce",
    "reinforce++baseline": "reinforce_baseline",
}
# Scores are always cut there; by default at 10, which no setting of ours says.
_NO_CLIP = 1e9


def settings(job: Job) -> list[Mapped]:
    """The flags of a job; those without a value are switches."""
    return [*_models(job), *_sampling(job), *_algorithm(job), *_learning(job), *_machines(job)]


def _models(job: Job) -> list[Mapped]:
    found = [
        Mapped("actor.model_name_or_path", job.policy),
        Mapped("data.prompt_dataset", str(job.folder / "prompts.jsonl")),
        Mapped("data.input_key", "prompt"),
        Mapped("data.label_key", "label"),
        Mapped("data.apply_chat_template", True),
        Mapped("ckpt.output_dir", str(job.folder / "policy")),
        Mapped("ckpt.path", str(job.folder / "checkpoints")),
        Mapped("ckpt.save_steps", job.settings.checkpoint_every, ("checkpoint_every",)),
        Mapped("train.seed", job.config.seed),
    ]
    if job.settings.advantage == "gae":
        note = "the critic has weights of its own here, whatever train.ppo.critic says"
        used = ("critic",) if job.settings.critic == "separate" else ()
        found.append(Mapped("critic.model_name_or_path", job.critic, used, "" if used else note))
    if job.reward_model is None:
        return [*found, Mapped("reward.remote_url", job.reward_url)]
    # The model's own mean and deviation, which stand in its config.json.
    return [
        *found,
        Mapped("reward.model_name_or_path", job.reward_model),
        Mapped("reward.normalize_enable", True),
    ]


def _sampling(job: Job) -> list[Mapped]:
    cfg = job.settings
    rows = min(job.prompts, cfg.iterations * job.prompts_a_batch)
    whole = "an episode is a pass over the prompts, so iterations are rounded up to whole passes"
    return [
        Mapped("rollout.batch_size", job.prompts_a_batch, ("batch_size",), "counts prompts"),
        Mapped("rollout.n_samples_per_prompt", cfg.samples_per_prompt, ("samples_per_prompt",)),
        Mapped("data.max_samples", rows, ("iterations",)),
        Mapped("train.num_episodes", job.passes, ("iterations",), whole),
        Mapped("rollout.max_new_tokens", cfg.max_new_tokens, ("max_new_tokens",)),
        Mapped("data.max_len", job.length, ("max_new_tokens",), "the longest prompt and a whole response"),
        Mapped("rollout.temperature", cfg.temperature, ("temperature",)),
    ]


def _algorithm(job: Job) -> list[Mapped]:
    cfg = job.settings
    estimator = _ESTIMATORS.get(cfg.advantage, "gae")
    if cfg.advantage == "grpo" and not cfg.group_std:
        estimator = "dr_grpo"
    found = [
        Mapped("algo.advantage.estimator", estimator, ("advantage", "group_std")),
        Mapped("algo.advantage.gamma", cfg.gamma, ("gamma",)),
        Mapped("algo.advantage.lambd", cfg.lam, ("lam",)),
        Mapped("actor.eps_clip_low_high", (cfg.clip, cfg.clip_high or cfg.clip), ("clip", "clip_high")),
        Mapped("critic.value_clip", cfg.value_clip, ("value_clip",)),
        Mapped("algo.kl.init_coef", cfg.kl_coef, ("kl_coef",)),
        Mapped("algo.kl.estimator", cfg.kl_estimate if job.kl_in_loss else "k1", ("kl_estimate",)),
    ]
    if job.kl_in_loss:
        found.append(Mapped("algo.kl.use_loss", True, ("kl_in",)))
    else:
        found = [*found[:-1], Mapped("algo.kl.estimator", "k1", ("kl_estimate", "kl_in"))]
    if cfg.dual_clip is not None:
        found.append(Mapped("actor.dual_clip", cfg.dual_clip, ("dual_clip",)))
    if cfg.ratio == "sequence":
        found.append(Mapped("actor.policy_loss_type", "gspo", ("ratio", "loss_mean")))
    else:
        found.append(Mapped("actor.policy_loss_type", "ppo", ("ratio",)))
    if cfg.loss_mean == "token":
        found[-1] = Mapped(found[-1].key, found[-1].value, (*found[-1].ours, "loss_mean"))
    if cfg.missing_eos_penalty is not None:
        penalty = -cfg.missing_eos_penalty
        found.append(Mapped("reward.stop_properly_penalty_coef", penalty, ("missing_eos_penalty",)))
    limit = _NO_CLIP if cfg.score_clip is None else cfg.score_clip
    found.append(Mapped("reward.clip_range", (-limit, limit), ("score_clip",)))
    if cfg.importance_cap is not None:
        found.append(Mapped("algo.advantage.is_correction_enable", True, ("importance_cap",)))
        found.append(
            Mapped("algo.advantage.is_correction_threshold", (0.0, cfg.importance_cap), ("importance_cap",))
        )
    return found


def _learning(job: Job) -> list[Mapped]:
    cfg = job.settings
    found = [
        Mapped("train.max_epochs", cfg.epochs, ("epochs",)),
        Mapped(
            "train.batch_size",
            max(1, cfg.batch_size // cfg.minibatches),
            ("minibatches",),
            "counts responses",
        ),
    ]
    for part, rate, name in (
        ("actor", cfg.learning_rate, "learning_rate"),
        ("critic", cfg.critic_learning_rate, "critic_learning_rate"),
    ):
        found += [
            Mapped(f"{part}.adam.lr", rate, (name,)),
            Mapped(f"{part}.adam.betas", (0.9, 0.999)),
            Mapped(f"{part}.adam.eps", 1e-5),
            Mapped(f"{part}.lr_scheduler", cfg.schedule, ("schedule",)),
            Mapped(f"{part}.lr_warmup_ratio", 0.0),
            Mapped(f"{part}.max_norm", cfg.max_grad_norm, ("max_grad_norm",)),
        ]
    if cfg.gradient_checkpointing:
        found.append(Mapped("actor.gradient_checkpointing_enable", True, ("gradient_checkpointing",)))
    if cfg.lora_rank:
        found.append(Mapped("ds.lora.rank", cfg.lora_rank, ("lora_rank",)))
        found.append(Mapped("ds.lora.alpha", 2 * cfg.lora_rank))
    return found


def _machines(job: Job) -> list[Mapped]:
    """All models on all GPUs, asleep by turns: the layout that needs the fewest."""
    engine, cluster = job.config.engine, job.cluster
    roles = ["actor", "ref", "critic"] if job.settings.advantage == "gae" else ["actor", "ref"]
    roles += ["reward"] if job.reward_model is not None else []
    found = [Mapped(f"{role}.num_nodes", cluster.nodes) for role in roles]
    found += [Mapped(f"{role}.num_gpus_per_node", cluster.gpus) for role in roles]
    return [
        *found,
        Mapped("train.colocate_all", True),
        Mapped("vllm.num_engines", max(1, cluster.total // engine.tensor_parallel)),
        Mapped("vllm.tensor_parallel_size", engine.tensor_parallel),
        Mapped("vllm.gpu_memory_utilization", engine.gpu_memory or 0.5),
        Mapped("vllm.enable_sleep", True),
        Mapped("ds.enable_sleep", True),
        Mapped("ds.zero_stage", 3),
    ]


def arguments(mapped: Sequence[Mapped]) -> list[str]:
    """The words of the command line."""
    words: list[str] = []
    for each in mapped:
        words.append(f"--{each.key}")
        if each.value is not True:
            values = each.value if isinstance(each.value, tuple) else (each.value,)
            words += [number(value) if isinstance(value, float) else str(value) for value in values]
    return words


def write(job: Job, prompts: Sequence[Prompt], mapped: Sequence[Mapped]) -> list[Path]:
    """Write prompts.jsonl and launch.sh."""
    data, launch = job.folder / "prompts.jsonl", job.folder / "launch.sh"
    with atomic(data) as stream:
        write_jsonl(stream, map(_row, prompts), "prompts")
    flags: list[list[str]] = []
    for word in arguments(mapped):
        if word.startswith("--"):
            flags.append([])
        flags[-1].append(word)
    lines = ["python3 -m openrlhf.cli.train_ppo_ray", *(shlex.join(flag) for flag in flags)]
    write_text(launch, "#!/bin/sh\nset -e\n" + " \\\n  ".join(lines) + "\n")
    launch.chmod(0o755)
    return [data, launch]


def _row(prompt: Prompt) -> dict[str, Any]:
    messages = [message.model_dump() for message in prompt.messages]
    return {"id": prompt.id, "prompt": messages, "label": prompt_label(prompt)}


def how(job: Job) -> list[str]:
    """What to do with the files."""
    head = [] if job.reward_model is not None else [f"Start the reward: `sh {job.word('serve-reward.sh')}`."]
    submit = f"ray job submit --address=http://127.0.0.1:8265 -- sh {job.word('launch.sh')}"
    return [
        *head,
        "Start Ray: `ray start --head`, and `ray start --address HEAD:6379` on each other node.",
        f"`{submit}`",
    ]


TARGET = Target(
    title="OpenRLHF",
    repository="https://github.com/OpenRLHF/OpenRLHF",
    commit="3c3be6234e0cb353e76bb8019947db9dfe99fca7",
    export_format="openrlhf",
    settings=settings,
    write=write,
    how=how,
    lacks={
        "kl_target": "OpenRLHF's target counts nats a token and ours a response; the coefficient stays fixed",
        "kl_horizon": "it belongs to kl_target, which is not handed over",
        "mask_overlong": "OpenRLHF trains on responses that the limit cut off",
        "loss_mean": "OpenRLHF takes the mean over all tokens",
        "value_coef": "its critic has an optimizer of its own",
        "critic": "OpenRLHF's critic has weights of its own",
        "target_kl": "OpenRLHF makes all passes over a batch",
        "resample_rounds": "its dynamic filtering keeps groups by their mean score, not by whether "
        "their scores differ",
        "score_norm": "OpenRLHF does not normalise the scores of a batch",
        "ptx_coef": "OpenRLHF has no loss on other conversations in PPO",
        "ptx_data": "OpenRLHF has no loss on other conversations in PPO",
        "off_by": "OpenRLHF samples ahead by its own async mode, over several updates",
        "old_logprobs": "OpenRLHF computes them again in the trainer",
    },
)
