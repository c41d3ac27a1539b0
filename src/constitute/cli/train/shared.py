"""What the training commands share: options, reading prompts, the next command, and printing a summary."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from constitute.cli import options

if TYPE_CHECKING:
    from constitute.config import RunConfig
    from constitute.progress import Progress
    from constitute.types import Prompt

# Said before torch is imported.
STARTING = "starting the trainer"
# Sentences of a summary: a verdict ends the command, or is said where --force lets it pass.
_VERDICT, _DOUBTS = "verdict", ("warning", "held_out_doubt")

data = click.option(
    "--data",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A file of rows, as --prompts and --pairs read them; repeat to train on several together. The run's "
    "export if absent.",
)
out = click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder to write; in the run if absent."
)
reward = click.option(
    "--reward",
    "rewards",
    multiple=True,
    metavar="SOURCE",
    help="What is rewarded, as SOURCE or WEIGHT*SOURCE; repeat to add up. A reward model's folder, "
    "module:function, an http(s):// URL, or 'judge'. The run's reward model if absent.",
)
force = click.option(
    "--force", is_flag=True, help="Train even where labels or the reward model are known to say nothing."
)
judge = click.option("--judge", help="Model that rates for the reward 'judge'; the run's model if absent.")
model = click.option("--model", help="Model to start from; the run's fine-tuned one if absent.")
samples = click.option(
    "-n",
    "samples",
    type=click.IntRange(1, 1024),
    help="Completions per prompt; train.best_of_n.n if absent.",
)
rounds = click.option(
    "--rounds", type=click.IntRange(1), help="Rounds at most; the method's own setting if absent."
)


@dataclass(frozen=True)
class Given:
    """The values of the options that trainers share; one that a trainer does not have keeps its default."""

    run_dir: Path
    config_file: Path | None
    sets: tuple[str, ...]
    seed: int | None
    as_json: bool
    out: Path | None
    model: str | None
    constitution_file: str | None
    judge: str | None
    force: bool
    prompts_file: str | None = None
    limit: int | None = None
    skip_bad: bool = False
    rewards: tuple[str, ...] = ()

    def configured(self, wanted: Mapping[str, Any]) -> RunConfig:
        """The configuration with the options in it, those in `wanted` too."""
        asked = {"prompts": self.prompts_file, "limit": self.limit, "seed": self.seed}
        judged = {"constitution": self.constitution_file, "judge": self.judge}
        return options.configured(self.run_dir, self.config_file, self.sets, {**asked, **judged, **wanted})

    def prompts(self, config: RunConfig, progress: Progress) -> list[Prompt]:
        """As `given_prompts`."""
        return given_prompts(config, self.skip_bad, progress)


def _together(*decorators: options.Decorator) -> options.Decorator:
    """Options that are given to the command together as `given`."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def command(**values: Any) -> Any:
            shared = [field.name for field in fields(Given) if field.name in values]
            return function(given=Given(**{name: values.pop(name) for name in shared}), **values)

        return options.compose(*decorators)(command)

    return apply


# Of a trainer that learns from rows, and of one that samples prompts for a reward.
from_rows = _together(options.common, out, model, options.constitution, judge, force)
from_prompts = _together(
    options.common,
    *(options.prompts, options.limit, options.skip_bad, out, model, reward),
    *(options.constitution, judge, force),
)


def given_prompts(config: RunConfig, skip_bad: bool, progress: Progress) -> list[Prompt]:
    """The prompts that the configuration names; bad lines are skipped and told where `skip_bad` allows it."""
    from constitute.data.prompts import read_prompts
    from constitute.data.records import notes_on
    from constitute.errors import UsageError

    if config.prompts is None:
        raise UsageError("no prompts given; name a file with --prompts, such as --prompts prompts.jsonl")
    prompts, bad = read_prompts(config.prompts, limit=config.limit, skip_bad=skip_bad, reading=config.read)
    for sentence in notes_on(config.prompts, bad):
        progress.note(sentence)
    return prompts


def following(command: str, config: RunConfig, **named: Path | None) -> str:
    """The next command, on the same run where there is one, with the same --config; else what it needs first.

    `named` are further options with a value. Empty where nothing would work as it is printed.
    """
    params = click.get_current_context().params
    run = config.run if config.run.is_dir() else None
    on: dict[str, object] = {"run": run, "config": params["config_file"]}
    told = options.settled(run, params["config_file"], (), {})
    if command == "evals run" and not _has_sets(told):
        writes = told.constitution is not None and told.model is not None
        return f"{_line('evals write', on)} --principle all" if writes else ""
    if command == "train reward" and not _has_pairs(told):
        return following("evals run", config, model=named.get("model") or config.run / "sft")
    if command in ("train ppo", "train sft") and not _has_model(told, tuned=command == "train ppo"):
        if params.get("model") is None:
            return ""
        on["model"] = params["model"]
    if command == "train ppo" and told.prompts is None:
        return ""
    return _line(command, on | named)


def _line(command: str, given: Mapping[str, object]) -> str:
    words = [f"--{name} {shlex.quote(str(value))}" for name, value in given.items() if value is not None]
    return " ".join(["constitute", command, *words])


def _has_sets(config: RunConfig) -> bool:
    from constitute.evals.items import evals_dir

    return any(evals_dir(config.run).glob("*.jsonl"))


def _has_pairs(config: RunConfig) -> bool:
    from constitute.data.sets import exported_file
    from constitute.errors import UsageError

    try:
        exported_file(config.run, "preferences")
    except UsageError:
        return False
    return True


def _has_model(config: RunConfig, *, tuned: bool) -> bool:
    """Whether weights to train are named, or lie in the run where a `tuned` model is taken from there."""
    from constitute.urls import is_url

    named = config.model is not None and not is_url(config.model)
    return named or (tuned and (config.run / "sft" / "training.json").is_file())


def print_summary(
    summary: Mapping[str, Any], as_json: bool, next_command: str, folder: Path | None = None
) -> None:
    """The summary as a table on stdout, or as one JSON event.

    On stderr, beside the table, what is doubtful in it, the `folder` that was written and the next command,
    if any.
    """
    from constitute.cli.text import say, table
    from constitute.progress import first_process

    if not first_process():
        return
    if as_json:
        click.echo(json.dumps({"event": "result", **summary}))
        return
    click.echo(table(("figure", "value"), list(_cells(summary))))
    for doubt in _DOUBTS:
        if doubt in summary:
            say(f"warning: {summary[doubt]}")
    if folder is not None:
        click.echo(f"saved to {folder}", err=True)
    if next_command:
        click.echo(f"next: {next_command}", err=True)


def sampled_code(figures: Sequence[Mapping[str, Any]]) -> int:
    """The exit code after sampling: that of failed rows where any of the figures count failed prompts."""
    from constitute.errors import ExitCode

    return ExitCode.ROWS_FAILED if any(one.get("prompts_failed") for one in figures) else ExitCode.OK


def _cells(summary: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Rows of the table; a figure with an interval is one row."""
    from constitute.stats import Estimate

    for name, value in summary.items():
        if name in (*_DOUBTS, _VERDICT):
            continue
        if isinstance(value, list):
            # A table of its own, such as the reliability bins: kept whole in training.json.
            yield f"{prefix}{name}", f"{len(value)} rows, see training.json"
        elif not isinstance(value, Mapping):
            yield f"{prefix}{name}", value
        elif value.keys() >= Estimate.model_fields.keys():
            known = {field: value[field] for field in Estimate.model_fields}
            yield f"{prefix}{name}", Estimate.model_validate(known).text()
        else:
            yield from _cells(value, f"{prefix}{name} ")
