"""Write everything that another trainer needs of a run into one folder, and what it does not take."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from constitute.config import RunConfig
from constitute.config.ppo import PPOConfig
from constitute.data.export import export_run
from constitute.engines.render import Renderer, RenderSettings
from constitute.engines.tokenizer import load_tokenizer, turn_ends
from constitute.errors import DataError, UsageError
from constitute.files import read_json, write_text
from constitute.handoff import TARGETS
from constitute.handoff.base import Cluster, Job, Mapped, Target, lost, settings_of
from constitute.packaged import anchored, model_path
from constitute.progress import Progress
from constitute.registry import registered
from constitute.stages.generate import conversation
from constitute.store import FILE_NAME
from constitute.store.manifest import CONFIG_FILE, save_config
from constitute.train.common.from_run import policy_of
from constitute.train.ppo.algorithms import find_algorithm
from constitute.train.rewards.sources import KINDS, kind_of, used_rewards
from constitute.types import Prompt
from constitute.urls import is_url

NOTES = "HANDOFF.md"


@dataclass(frozen=True)
class HandedOver:
    """What was written: the files, the settings in the target's words, and sentences on those it lacks."""

    files: list[Path]
    mapped: list[Mapped]
    lost: list[str]
    left_out: int


@dataclass(frozen=True)
class Wanted:
    """What is handed over: the trainer's name, whose settings, to how many GPUs, where rewards will answer.

    Training starts from `policy`, else RUN/sft, else `config.model`. `data_command` makes the run's rows; it
    is told where there are none and the configuration has what it needs.
    """

    target: str
    method: Literal["ppo", "grpo"] = "ppo"
    cluster: Cluster = field(default_factory=Cluster)
    reward_url: str = "http://127.0.0.1:5000/get_reward"
    policy: str | None = None
    data_command: str = ""


def check(wanted: Wanted, config: RunConfig) -> Target:
    """The trainer to hand over to. Raises `UsageError` for what no prompt need be read to refuse."""
    target: Target = registered(TARGETS, wanted.target, "trainer to hand over to")
    if not is_url(wanted.reward_url):
        raise UsageError(
            f"--reward-url {wanted.reward_url!r} is no URL; give one like http://HEAD:5000/get_reward"
        )
    settings = settings_of(config, wanted.method)
    if find_algorithm(settings).kl == "own":
        at = f"train.{settings.section}.advantage"
        raise UsageError(
            f"{at}={settings.advantage} is none of the algorithms that other trainers have; train it "
            f"here, or set {at} to gae, rloo, grpo or reinforce++"
        )
    parallel = config.engine.tensor_parallel
    if wanted.cluster.total % parallel:
        raise UsageError(
            f"engine.tensor_parallel={parallel} does not divide {wanted.cluster.total} GPUs; set it to a "
            "divisor"
        )
    return target


def hand_over(
    wanted: Wanted, config: RunConfig, prompts: Sequence[Prompt], out: Path, progress: Progress
) -> HandedOver:
    """Write the prompts, the run's training sets, the reward and a launch file to `out`.

    A prompt that leaves no room for a whole response in `engine.context_length` is left out and counted.
    Raises `UsageError` for an unknown trainer, a model that is not at hand or batches that cannot be cut, and
    `DataError` where no prompt is left; nothing is written then.
    """
    target = check(wanted, config)
    start = _whole(policy_of(config, wanted.policy))
    settings = settings_of(config, wanted.method)
    model = _only_reward_model(config, settings)
    kept, longest = _prompts(config, settings, prompts, start)
    job = Job(
        config=config,
        method=wanted.method,
        policy=start,
        critic=_whole(model_path(model)) if model else start,
        reward_model=model and _native(model, target),
        reward_url=wanted.reward_url,
        prompts=len(kept),
        prompt_tokens=longest,
        cluster=wanted.cluster,
        folder=out.absolute(),
    )
    if job.prompts < job.prompts_a_batch:
        raise UsageError(
            f"a batch has {job.prompts_a_batch} prompts and there are {job.prompts}; lower "
            f"train.{settings.section}.batch_size, or give more prompts"
        )
    mapped = target.settings(job)
    out.mkdir(parents=True, exist_ok=True)
    sets = _sets(config, target, out, wanted.data_command, progress)
    files = [*target.write(job, kept, mapped), *sets, *_serve(job, config)]
    missing = list(lost(target, job, mapped))
    files.append(write_text(out / NOTES, _notes(target, job, mapped, missing)))
    return HandedOver(files, mapped, missing, len(prompts) - len(kept))


def _whole(path: str) -> str:
    """The absolute path of a file or folder that is there, and any other name as it is."""
    return str(Path(path).absolute()) if Path(path).exists() else path


def _prompts(
    config: RunConfig, settings: PPOConfig, prompts: Sequence[Prompt], policy: str
) -> tuple[list[Prompt], int]:
    """The prompts with the system turn that the run asks under, and the tokens of the longest."""
    tokenizer = load_tokenizer(policy)
    renderer = Renderer(tokenizer, policy, turn_ends(policy, tokenizer), RenderSettings.of(config.engine))
    limit = config.engine.context_length
    kept: list[Prompt] = []
    longest = 0
    for prompt in prompts:
        whole = prompt.model_copy(update={"messages": conversation(prompt, config.generate.system)})
        try:
            tokens = len(renderer.prompt_ids(whole.messages))
        except DataError:
            continue
        if limit is None or tokens + settings.max_new_tokens <= limit:
            kept.append(whole)
            longest = max(longest, tokens)
    if not kept:
        raise DataError(
            f"none of {len(prompts)} prompts can be handed over: the chat template refuses them, or they "
            f"leave no room for {settings.max_new_tokens} tokens more; give others with --prompts, or lower "
            f"train.{settings.section}.max_new_tokens"
        )
    return kept, longest


def _only_reward_model(config: RunConfig, settings: PPOConfig) -> str | None:
    """The reward model that is the whole reward, where there is one: RUN/reward, or the one source."""
    sources = used_rewards(settings.rewards)
    if not sources:
        own = config.run / "reward"
        if not (own / "config.json").is_file():
            raise UsageError(
                f"no reward model in {own}; run `constitute train reward --run "
                f"{shlex.quote(str(config.run))}` first, or set train.{settings.section}.rewards"
            )
        return str(own)
    if len(sources) == 1 and sources[0].weight == 1.0 and Path(model_path(sources[0].source)).is_dir():
        return sources[0].source
    return None


def _native(model: str, target: Target) -> str | None:
    """The reward model, where the target scores as we do: it reads the mean and deviation of one head."""
    heads = read_json(Path(model_path(model)) / "config.json").get("score_means")
    return _whole(model_path(model)) if target.export_format == "openrlhf" and not heads else None


def _sets(config: RunConfig, target: Target, out: Path, command: str, progress: Progress) -> list[Path]:
    """The run's SFT and preference rows in the target's shape, where it has them; `command` makes them."""
    if not (config.run / FILE_NAME).is_file():
        able = bool(command and config.model and config.constitution)
        how = f"; `{command}` makes one, and the same handoff then takes its rows" if able else ""
        progress.note(f"no training sets are handed over: there is no run in {config.run}{how}")
        return []
    settings = config.export.model_copy(update={"format": target.export_format})
    try:
        return [part.path for part in export_run(config.run, settings, out=out / "data")]
    except UsageError as problem:
        progress.note(f"no training sets are handed over: {problem}")
        return []


def _serve(job: Job, config: RunConfig) -> list[Path]:
    """A file that starts the reward server, where one is asked, and the configuration that it reads."""
    if job.reward_model is not None:
        return []
    save_config(job.folder, _anywhere(config, job))
    # The file says that its run is the folder it stands in.
    words = ["constitute", "serve-reward", "--run", str(config.run.absolute())]
    words += ["--config", str(job.folder / CONFIG_FILE), "--model", job.policy]
    given = job.reward_url.split("//", 1)[-1].split("/", 1)[0]
    host, _, port = given.rpartition(":")
    words += ["--port", port] if port.isdigit() else []
    if host not in ("127.0.0.1", "localhost"):
        words += ["--host", "0.0.0.0", "--allow-remote"]
    # A function's module lies in the directory that it is called in, and so may the files that it reads.
    calls = any(kind_of(each.source) is KINDS["function"] for each in job.settings.rewards)
    start = f"cd {shlex.quote(str(Path.cwd()))} || exit\n" if calls else ""
    return [write_text(job.folder / "serve-reward.sh", f"#!/bin/sh\n{start}exec {shlex.join(words)}\n")]


def _anywhere(config: RunConfig, job: Job) -> RunConfig:
    """The configuration with what the method names in full, so that it means the same in any directory."""
    own = job.settings
    named = {
        "rewards": tuple(each.model_copy(update={"source": _source(each.source)}) for each in own.rewards),
        "mix": tuple(each.model_copy(update={"file": _whole(each.file)}) for each in own.mix),
        "held_out": _whole(own.held_out) if isinstance(own.held_out, str) else own.held_out,
        "ptx_data": own.ptx_data and _whole(own.ptx_data),
    }
    # The server rewards by the first method that it finds there.
    train = {"method": (job.method,), own.section: own.model_copy(update=named)}
    engine = config.engine
    return config.model_copy(
        update={
            "model": config.model and _whole(config.model),
            "judge": config.judge and _whole(config.judge),
            "engine": engine.model_copy(update={"tokenizer": engine.tokenizer and _whole(engine.tokenizer)}),
            "train": config.train.model_copy(update=train),
        }
    )


def _source(source: str) -> str:
    """A source of the reward with its model's folder or its judge's constitution in full."""
    kind = kind_of(source)
    if kind is KINDS["model"]:
        return _whole(source)
    head, _, constitution = source.partition(":")
    if kind is KINDS["judge"] and constitution:
        return f"{head}:{anchored(constitution, 'constitutions', '.yaml')}"
    return source


def _notes(target: Target, job: Job, mapped: Sequence[Mapped], missing: Sequence[str]) -> str:
    """HANDOFF.md: what to do, each setting in both languages, and what is not the same."""
    section = f"train.{job.settings.section}"
    lines = [f"# {job.method.upper()} with {target.title}", ""]
    lines += [
        f"Written for {target.repository} at commit {target.commit}; its settings have changed before.",
        "",
    ]
    lines += ["## What to do", "", *(f"{place}. {step}" for place, step in enumerate(target.how(job), 1)), ""]
    lines += ["## Settings that have no counterpart", ""]
    lines += [f"- {sentence}" for sentence in missing] or ["None."]
    lines += ["", "## Settings", "", f"| {target.title} | value | from | |", "|---|---|---|---|"]
    for each in mapped:
        ours = ", ".join(f"`{section}.{name}`" for name in each.ours)
        lines.append(f"| `{each.key}` | {_cell(each.value)} | {ours} | {each.note} |")
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    text = str(value).replace("|", "\\|")
    return f"`{text}`"
