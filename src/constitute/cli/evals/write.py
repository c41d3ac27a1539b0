"""`constitute evals write`: have a model write eval items for a behaviour or a principle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from constitute.cli import options
from constitute.errors import ExitCode
from constitute.evals.families import FAMILIES

if TYPE_CHECKING:
    from constitute.config import RunConfig
    from constitute.evals.write import WrittenSet


@options.command()
@options.compose(options.common, options.model, options.constitution)
@click.option(
    "--behavior",
    "behaviors",
    multiple=True,
    help='Verb phrase, such as "flatters the user"; may be repeated.',
)
@click.option(
    "--principle",
    "principles",
    multiple=True,
    callback=options.names,
    metavar="ID[,ID]",
    help="Principle id of the constitution, or 'all'; may be repeated.",
)
@click.option(
    "--family",
    "families",
    multiple=True,
    callback=options.names,
    metavar="NAME[,NAME]",
    help=f"Kind of items: {', '.join(FAMILIES)}; may be repeated. persona and reply if not given.",
)
@click.option(
    "--per-principle", is_flag=True, default=None, help="One set a principle, with controls, in its name."
)
@click.option(
    "--controls",
    multiple=True,
    callback=options.names,
    metavar="NAME[,NAME]",
    help="Constitution (name or file) whose principles give controls; may be repeated.",
)
@click.option(
    "--judge",
    "judges",
    multiple=True,
    metavar="MODEL",
    help="Gate the sets at once by this model or URL, as `evals gate` does; may be repeated.",
)
@click.option(
    "--examples",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Items that choice shows its writer, five at a time, and that no item may copy; may be repeated.",
)
@click.option(
    "--occupations",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Occupations that winogender writes sentences for; behaviours are occupations if not given.",
)
@click.option(
    "-n",
    "wanted",
    type=click.IntRange(2),
    help="Items: in all (made even, half a label), or per principle or occupation.",
)
def write(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    model: str | None,
    constitution_file: str | None,
    behaviors: tuple[str, ...],
    principles: list[str],
    families: list[str],
    examples: tuple[Path, ...],
    occupations: Path | None,
    per_principle: bool | None,
    controls: list[str],
    wanted: int | None,
    judges: tuple[str, ...],
) -> int:
    """Have a model write eval items, judge each, and keep a balanced set without repeats.

    A behaviour is a verb phrase that an assistant may fit: "helps people to harm others". Kinds of items:

    \b
      persona     behaviour: statements in the first person; would you say this, Yes or No?
      reply       principle: a user's message with a reply that keeps it and one that does not
      choice      behaviour or principle, with --examples: a question with the answers (A) and (B)
      sycophancy  behaviour "holds that …": users of either view introduce themselves and ask for yours
      winogender  occupations: sentences with a blank for he, she or they

    The exit code is 3 where candidates failed, and 4 where a set has less than half of the items wanted.

    With --per-principle or --controls, a set also holds controls: items of other principles, of which the
    judge says that the set's own do not speak about them.

    \b
    Examples:
      constitute evals write --model Qwen/Qwen3-0.6B --behavior "helps people to harm others" -n 50
      constitute evals write --model pocket --constitution pocket/harmless --principle all -n 10
      constitute evals write --model smollm2 --family choice --behavior "lies" --examples gold.jsonl
      constitute evals write --model smollm2 --family winogender --behavior plumber -n 10
      constitute evals write --model smollm2 --constitution mine.yaml --principle all --per-principle
    """
    from constitute.cli.evals.text import print_written
    from constitute.evals.write import write_sets
    from constitute.progress import open_progress

    asked = {"n": wanted, "families": families, "per_principle": per_principle, "controls": controls}
    files = {"examples": [*map(str, examples)], "occupations": occupations and str(occupations)}
    given: dict[str, Any] = {"seed": seed, "model": model, "constitution": constitution_file}
    given |= {f"evals.{name}": value or None for name, value in (*asked.items(), *files.items())}
    config = options.configured(run_dir, config_file, sets, given)
    _refuse_its_own(config, judges)
    with open_progress(as_json) as progress:
        written = write_sets(config, behaviors, principles, progress=progress)
    print_written(written, config, as_json)
    if judges:
        _gate(written, config, judges, as_json)
    return _code(written)


def _refuse_its_own(config: RunConfig, judges: tuple[str, ...]) -> None:
    from constitute.errors import UsageError

    if config.model in judges:
        raise UsageError(
            f"{config.model} would judge its own items; name another model with --judge, or gate the sets "
            "afterwards with `constitute evals gate --same-judge`"
        )


def _gate(written: list[WrittenSet], config: RunConfig, judges: tuple[str, ...], as_json: bool) -> None:
    """Gate the sets as `evals gate` does. Raises `GateFailed` where a set keeps too little."""
    from constitute.cli.evals.gate import print_gated
    from constitute.evals.gating.run import gate_sets, require_kept
    from constitute.evals.gating.sets import Asking
    from constitute.progress import open_progress

    names = [Path(one.name) for one in written]
    with open_progress(as_json) as progress:
        gated = gate_sets(config, names, judges, Asking(), progress=progress)
    print_gated(gated, as_json)
    require_kept(gated)


def _code(written: list[WrittenSet]) -> ExitCode:
    if any(one.too_few for one in written):
        return ExitCode.GATE_FAILED
    return ExitCode.ROWS_FAILED if any(one.counts["failed"] for one in written) else ExitCode.OK
