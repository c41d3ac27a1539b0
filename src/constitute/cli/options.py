"""Commands that refuse an option given twice, and the options that several of them share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from constitute.config import RunConfig

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Command(click.Command):
    """A command that refuses an option given twice, where click would keep the last one without a word."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        refuse_repeats(self, ctx, args)
        for word in args:
            if not word.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in word):
                raise click.UsageError(f"{word!r} is not valid UTF-8; rename the file or type it anew", ctx)
        return super().parse_args(ctx, args)


class Group(click.Group):
    """A group whose commands are `Command`s."""

    command_class = Command


command = partial(click.command, cls=Command)
group = partial(click.group, cls=Group)


def refuse_repeats(command: click.Command, ctx: click.Context, args: list[str]) -> None:
    """Raise `click.UsageError` for an option that takes one value and was given twice."""
    if ctx.resilient_parsing or not args:
        return
    _, _, order = command.make_parser(ctx).parse_args(args=list(args))
    for param, times in Counter(order).items():
        if (
            isinstance(param, click.Option)
            and times > 1
            and not (param.multiple or param.is_flag or param.count)
        ):
            name = max(param.opts, key=len)
            raise click.UsageError(f"{name} was given {times} times and takes one value; give it once", ctx)


def names(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> list[str]:
    """The names in `--option a,b --option c`, each once: a callback of an option that may be repeated."""
    return list(dict.fromkeys(name.strip() for text in given for name in text.split(",")))


def in_a_folder(ctx: click.Context, param: click.Parameter, file: Path | None) -> Path | None:
    """The file to write, where its folder is there: a callback. Makes no folder from a slip of the pen."""
    from constitute.errors import UsageError

    if file is not None and not file.parent.is_dir():
        name = max(param.opts, key=len)
        raise UsageError(f"no such folder: {file.parent}; make it, or give {name} another file")
    return file


run_dir = click.option(
    "--run",
    "run_dir",
    type=click.Path(path_type=Path),
    default=Path("run"),
    show_default=True,
    help="Run directory; the same command continues it.",
)
cache = click.option(
    "--cache",
    "cache_dir",
    type=click.Path(path_type=Path),
    default=Path(".constitute"),
    show_default=True,
    help="Directory that keeps the model's answers.",
)
model = click.option("--model", help="Local folder, Hub name, 'smollm2', or the http(s):// URL of a server.")
constitution = click.option("--constitution", "constitution_file", help="Constitution file or packaged name.")
prompts = click.option(
    "--prompts",
    "prompts_file",
    help="Prompts: JSONL, JSON, CSV, TSV, Parquet, text or HH text (.gz, .bz2, .xz, .zst too), a folder or "
    "glob of them, or a Hub data set.",
)
reuse = click.option(
    "--reuse",
    "reuse_dir",
    type=click.Path(path_type=Path),
    help="Another run whose answers are used where they still hold.",
)
samples = click.option("-n", "samples", type=click.IntRange(1, 1024), help="Responses per prompt.")
limit = click.option("--limit", type=click.IntRange(1), help="Only the first rows.")
shard = click.option(
    "--shard",
    metavar="i/N",
    help="Only every N-th prompt, from the i-th on; `constitute merge` makes one run of all N.",
)
seed = click.option("--seed", type=click.IntRange(0), help="Seed of every random choice.")
sets = click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Set a configuration key, as a.b=c."
)
config_file = click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="run.yaml to start from."
)
force = click.option("--force", is_flag=True, help="Replace the output file.")
skip_bad = click.option("--skip-bad", is_flag=True, help="Count and skip unreadable input lines.")
decontaminate = click.option(
    "--decontaminate",
    "eval_sets",
    multiple=True,
    metavar="EVALS",
    help="Leave out rows that share text with these eval sets: a file, a folder or a glob; may be repeated.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Events or results as JSON lines on stdout.")
debug = click.option("--debug", is_flag=True, help="Show tracebacks.", expose_value=False)


# Name of a parameter -> its kind and its help, of the options that limit what a run spends.
_LIMITS: dict[str, tuple[click.ParamType, str]] = {
    "max_requests": (
        click.IntRange(1),
        "Stop when all commands of the run have asked so many questions.",
    ),
    "max_tokens": (click.IntRange(1), "Stop before the run's prompts and answers have more tokens."),
    "max_cost": (click.FloatRange(0, min_open=True), "Stop before the run's tokens cost more."),
    "price_in": (click.FloatRange(0), "Price of a million prompt tokens, for --max-cost."),
    "price_out": (click.FloatRange(0), "Price of a million tokens that the model writes, for --max-cost."),
}


def limits(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that limit what a run spends, given to the command together as `limits`."""

    @wraps(function)
    def command(**given: Any) -> Any:
        from constitute.pipeline.budget import Limits

        values = {name.removeprefix("max_"): given.pop(name) for name in _LIMITS}
        return function(limits=Limits(**values), **given)

    for name, (kind, said) in reversed(_LIMITS.items()):
        command = click.option(f"--{name.replace('_', '-')}", name, type=kind, help=said)(command)
    return command


def gates(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options of what labels must reach, given to the command together as `gates`, by their keys."""

    @wraps(function)
    def command(min_agreement: float | None, max_order_flip: float | None, **given: Any) -> Any:
        wanted = {"gates.min_agreement": min_agreement, "gates.max_order_flip": max_order_flip}
        return function(gates=wanted, **given)

    share = click.FloatRange(0, 1)
    flips = click.option(
        "--max-order-flip",
        type=share,
        help="Exit code 4 where more of the pairs change their label with the order.",
    )
    agreement = click.option(
        "--min-agreement",
        type=share,
        help="Exit code 4 where labels agree with people in less of the pairs.",
    )
    return agreement(flips(command))


def compose(*decorators: Decorator) -> Decorator:
    """Apply several option decorators, in the order given."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


common = compose(run_dir, config_file, sets, seed, as_json, debug)


def configured(
    run_dir: Path, config_file: Path | None, sets: tuple[str, ...], wanted: Mapping[str, Any]
) -> RunConfig:
    """The configuration of a command: the file's or the run's own, then `wanted`, then `sets`.

    A run directory that was not named leaves the choice to the file.
    """
    source = click.get_current_context().get_parameter_source("run_dir")
    given = None if source is click.core.ParameterSource.DEFAULT else run_dir
    return settled(given, config_file, sets, wanted)


def settled(
    run_dir: Path | None, config_file: Path | None, sets: tuple[str, ...], wanted: Mapping[str, Any]
) -> RunConfig:
    """As `configured`, in the run directory that is given, where one is."""
    from constitute.config.load import load_for_run
    from constitute.engines import check_kind

    config = load_for_run(run_dir, config_file, sets, wanted)
    check_kind(config.engine.kind)
    return config
