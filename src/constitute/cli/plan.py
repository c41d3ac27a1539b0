"""`constitute plan`: what the data stages of a YAML file would ask, before anything is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from constitute.config import RunConfig
    from constitute.pipeline.forecast import Forecast

price = click.FloatRange(min=0)


@options.command()
@click.argument("file", type=click.Path(path_type=Path))
@options.compose(options.model, options.constitution, options.prompts, options.samples, options.limit)
@click.option("--probe", type=click.IntRange(1), help="Run so many prompts first, for times and lengths.")
@click.option("--price-in", type=price, help="Price of a million prompt tokens.")
@click.option("--price-out", type=price, help="Price of a million tokens that the model writes.")
@options.compose(
    options.shard, options.sets, options.seed, options.skip_bad, options.as_json, options.debug, options.reuse
)
@click.option(
    "--run", "run_dir", type=click.Path(path_type=Path), help="Run directory, in place of the file's."
)
def plan(
    file: Path,
    model: str | None,
    constitution_file: str | None,
    prompts_file: str | None,
    samples: int | None,
    limit: int | None,
    shard: str | None,
    probe: int | None,
    price_in: float | None,
    price_out: float | None,
    sets: tuple[str, ...],
    seed: int | None,
    skip_bad: bool,
    as_json: bool,
    reuse_dir: Path | None,
    run_dir: Path | None,
) -> None:
    """Say what `constitute run FILE` would ask of its model: requests and tokens by stage, and what is there.

    No model is loaded and no server is asked, except by --probe, whose rows are thrown away. Training and
    evals are not counted.

    \b
    Examples:
      constitute plan run.yaml
      constitute plan run.yaml --probe 20 --price-in 0.15 --price-out 0.6
    """
    from constitute.config import load_config

    wanted = {"model": model, "constitution": constitution_file, "prompts": prompts_file, "limit": limit}
    more = {"generate.n": samples, "shard": shard, "seed": seed, "run": run_dir, "reuse": reuse_dir}
    config = load_config(file, sets, {**wanted, **more})
    show(config, skip_bad=skip_bad, as_json=as_json, probe=probe or 0, prices=(price_in, price_out))


def show(
    config: RunConfig,
    *,
    skip_bad: bool,
    as_json: bool,
    probe: int = 0,
    prices: tuple[float | None, float | None] = (None, None),
) -> None:
    """Print what the configuration's data stages would ask."""
    from constitute.cli.text import say, table
    from constitute.data.prompts import read_prompts
    from constitute.errors import UsageError
    from constitute.pipeline.forecast import forecast
    from constitute.progress import open_progress

    if config.prompts is None:
        raise UsageError("the configuration names no prompts; add a line `prompts: ...` or give --prompts")
    with open_progress(as_json) as progress:
        prompts, bad = read_prompts(
            config.prompts, limit=config.limit, skip_bad=skip_bad, reading=config.read
        )
        if bad:
            progress.note(f"{config.prompts}: skipped {len(bad)} bad lines, the first at {bad[0].where}")
        found = forecast(config, prompts, probe=probe, progress=progress)
    cost = None if prices == (None, None) else found.price(prices[0] or 0.0, prices[1] or 0.0)
    if as_json:
        result = {"event": "result", **found.model_dump(mode="json"), "price": cost}
        result["afterwards"] = _afterwards(config)
        click.echo(json.dumps(result))
        return
    head = ("stage", "rows", "done before", "requests", "from store", "prompt tokens", "answer tokens")
    figures = ("rows", "done", "requests", "cached", "prompt_tokens", "answer_tokens")
    rows = [(s.stage, *(getattr(s, figure) for figure in figures)) for s in found.stages]
    click.echo(table(head, [*rows, ("all", *("" if f == "rows" else found.total(f) for f in figures))]))
    say(f"not counted, after the data: {', '.join(_afterwards(config))}")
    for sentence in (*_sentences(found), *([] if cost is None else [f"price: {_at_most(found)}{cost:.4g}"])):
        say(sentence)


def _afterwards(config: RunConfig) -> list[str]:
    """The steps of `constitute run` after the data."""
    from constitute.cli.run import STEPS, TRAINERS

    return [step for step in STEPS[1:] if step not in TRAINERS or step in config.train.steps]


def _at_most(found: Forecast) -> str:
    return "at most " if found.answer_length is None else "about "


def _sentences(found: Forecast) -> Iterator[str]:
    """What the figures rest on."""
    if found.sampled < found.prompts:
        yield f"estimated from {found.sampled} of the {found.prompts} prompts"
    if found.answer_length is None:
        yield (
            "tokens are at most these: every answer is taken to be as long as it may be; --probe 20 finds "
            "out how long answers are"
        )
    else:
        length = f"{found.answer_length:.0f}"
        yield f"tokens are about these: {found.probed} prompts were run, and an answer has {length}"
    if found.least_requests is not None:
        yield (
            f"label.adaptive: between {found.least_requests} requests, where the first principles agree "
            f"on every pair, and the {found.total('requests')} shown, where they never do"
        )
    if not found.tokenizer:
        yield (
            "no tokenizer of the model is on this machine, so 4 characters are taken to be a token; "
            "engine.tokenizer names one"
        )
    if not found.identified:
        yield "rows that ended are left out; which other answers are stored shows when the model is asked"
    if found.seconds is not None:
        yield f"time: about {found.seconds:.0f} s at the probe's pace, less where more is asked at once"
