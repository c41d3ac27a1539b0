"""`constitute constitution recover`: which principles explain given preferences, or what a training moved."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from constitute.cli import options

if TYPE_CHECKING:
    from constitute.config import RunConfig
    from constitute.editing.recover.run import Wanted
    from constitute.progress import Progress
    from constitute.types import Constitution

_runs = click.Path(path_type=Path)


@options.command()
@click.argument("file")
@click.option("--pairs", "pairs_files", multiple=True, help="Pairs with a preference; may be repeated.")
@click.option("--run", "run_dir", type=_runs, help="Run whose labelled pairs are explained; its rows stay.")
@click.option("--target", type=click.Choice(("label", "human")), help="Of --run: explain labels or people.")
@click.option("--before", help="Answers of a policy: a file, RUN or RUN:STAGE; with --prompts a model.")
@click.option("--after", help="Answers of the same policy after training.")
@options.compose(options.model, options.prompts)
@click.option("--method", help="How a vote is taken: likelihood, choice, …; label.method if absent.")
@click.option("--margin", type=float, help="Least |2p - 1| of a vote that decides; 0.2 if absent.")
@click.option("--test-share", type=float, help="Share of the pairs held out; 0.5 if absent.")
@click.option("-n", "n", type=click.IntRange(1), help="Pairs, drawn by the seed; 200 if absent.")
@click.option("--show", type=click.IntRange(0), help="Unexplained pairs to print; 5 if absent.")
@click.option("--propose", is_flag=True, help="Let the model name rules for the rest, and test them.")
@click.option("--out", type=_runs, help="Constitution file for the proposed rules that hold.")
@options.compose(
    options.force,
    options.skip_bad,
    options.cache,
    options.config_file,
    options.sets,
    options.seed,
    options.as_json,
    options.debug,
)
def recover(
    file: str,
    pairs_files: tuple[str, ...],
    run_dir: Path | None,
    target: str | None,
    before: str | None,
    after: str | None,
    model: str | None,
    prompts_file: str | None,
    method: str | None,
    margin: float | None,
    test_share: float | None,
    n: int | None,
    show: int | None,
    propose: bool,
    out: Path | None,
    force: bool,
    skip_bad: bool,
    cache_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
) -> int:
    """Find which principles of FILE explain preferences, or what a policy moved on in training.

    Preferences come from --pairs or --run. Every principle votes on every pair by itself; weights are fitted
    on one half of the prompts and all figures measured on the other. Exit code 4: neither a principle nor
    all together are shown to be better than a coin and better than the baselines (length, place).

    With --before and --after, two sets of answers to the same prompts are compared under each principle.

    \b
    Examples:
      constitute constitution recover assistant --model smollm2 --pairs pairs.jsonl --method likelihood
      constitute constitution recover my.yaml --model smollm2 --run run --target human
      constitute constitution recover my.yaml --model m --pairs p.jsonl --propose --out found.yaml
      constitute constitution recover assistant --model smollm2 --before demo --after demo:held-out/ppo
    """
    from constitute.constitution.read import load_configured
    from constitute.editing.recover.run import Wanted
    from constitute.progress import open_progress

    _check(pairs_files, run_dir, target, (before, after), prompts_file, propose, out, force)
    chosen = {"n": n, "test_share": test_share, "margin": margin, "show": show}
    left: dict[str, Any] = {key: value for key, value in chosen.items() if value is not None}
    wanted = Wanted(propose=propose, **left)
    given = {"model": model, "judge": model, "prompts": prompts_file, "label.method": method, "seed": seed}
    config = options.settled(run_dir or cache_dir, config_file, sets, given)
    if prompts_file is None:
        # The prompts of a configuration are those of its run.
        config = config.model_copy(update={"prompts": None})
    constitution = load_configured(config, file)
    with open_progress(as_json) as progress:
        if before is not None and after is not None:
            return _movement(config, constitution, (before, after), wanted.n, skip_bad, progress, as_json)
        from_run = target or "label" if run_dir is not None else None
        asked = _Asked(pairs_files, skip_bad, from_run, wanted, model is not None, out)
        return _recovery(config, constitution, asked, progress, as_json)


def _check(
    pairs_files: tuple[str, ...],
    run_dir: Path | None,
    target: str | None,
    answers: tuple[str | None, str | None],
    prompts_file: str | None,
    propose: bool,
    out: Path | None,
    force: bool,
) -> None:
    """Raise `UsageError` for options that do not go together."""
    from constitute.errors import UsageError

    if (answers[0] is None) != (answers[1] is None):
        raise UsageError("--before and --after go together; give both")
    sources = [bool(pairs_files), run_dir is not None, answers[0] is not None]
    if sum(sources) != 1:
        raise UsageError("give what is to be explained: --pairs FILE, or --run RUN, or --before X --after Y")
    if target is not None and run_dir is None:
        raise UsageError("--target says what to explain of a run; give --run RUN")
    if prompts_file is not None and answers[0] is None:
        raise UsageError("--prompts are answered by two models; name them with --before and --after")
    if propose and answers[0] is not None:
        raise UsageError("--propose reads pairs with a preference; give --pairs or --run")
    if out is not None and not propose:
        raise UsageError("--out takes the rules that --propose finds; give --propose too")
    if out is not None and out.exists() and not force:
        raise UsageError(f"{out} exists already; give another name, or --force to replace it")


@dataclass(frozen=True)
class _Asked:
    """What is to be explained and how, as it was given; `target` is None where pairs are files."""

    pairs_files: tuple[str, ...]
    skip_bad: bool
    target: str | None
    wanted: Wanted
    names_model: bool
    out: Path | None


def _recovery(
    config: RunConfig, constitution: Constitution, asked: _Asked, progress: Progress, as_json: bool
) -> int:
    from constitute.cli.constitution.recover_text import recovered_text
    from constitute.cli.text import say
    from constitute.constitution.write import loadable
    from constitute.data.pairs import read_pairs
    from constitute.data.records import notes_on
    from constitute.editing.recover.run import recover, run_pairs
    from constitute.errors import ExitCode
    from constitute.files import write_text
    from constitute.types import Constitution as Written

    if asked.target is None:
        pairs, bad = read_pairs(asked.pairs_files, skip_bad=asked.skip_bad, reading=config.read)
        for sentence in notes_on(", ".join(asked.pairs_files), bad):
            progress.note(sentence)
    else:
        pairs = run_pairs(config, "human" if asked.target == "human" else "label", progress)
    from_run = asked.target is not None
    done = recover(
        config,
        constitution,
        pairs,
        asked.wanted,
        from_run=from_run,
        asks=asked.names_model,
        progress=progress,
    )
    kept = done.figures.proposed.kept if done.figures.proposed is not None else ()
    out = asked.out
    if out is not None and kept:
        found = Written(
            name=f"recovered beside {constitution.name}",
            description="Rules that a model named for pairs no principle explains, tested on held-out pairs.",
            principles=kept,
        )
        out.parent.mkdir(parents=True, exist_ok=True)
        say(f"wrote {write_text(out, loadable(found))}")
    elif out is not None:
        say(f"no proposed rule holds on held-out pairs: {out} is not written")
    if as_json:
        shown = [
            {"id": c.pair.id, "preferred": c.preferred, "other": c.other}
            | {"prompt": [message.model_dump() for message in c.pair.prompt.messages]}
            for c in done.shown
        ]
        click.echo(_json(done.figures, done, stored=done.stored, shown=shown))
    else:
        click.echo(recovered_text(done))
    return ExitCode.OK if done.figures.explained or kept else ExitCode.GATE_FAILED


def _movement(
    config: RunConfig,
    constitution: Constitution,
    answers: tuple[str, str],
    n: int,
    skip_bad: bool,
    progress: Progress,
    as_json: bool,
) -> int:
    from constitute.cli.constitution.recover_text import moved_text
    from constitute.data.prompts import read_prompts
    from constitute.data.records import notes_on
    from constitute.editing.recover.moved import movement
    from constitute.errors import ExitCode

    prompts = None
    if config.prompts is not None:
        prompts, bad = read_prompts(
            config.prompts, limit=config.limit, skip_bad=skip_bad, reading=config.read
        )
        for sentence in notes_on(config.prompts, bad):
            progress.note(sentence)
    done = movement(config, constitution, answers, n, prompts=prompts, progress=progress)
    click.echo(_json(done.figures, done) if as_json else moved_text(done))
    return ExitCode.OK


def _json(figures: Any, done: Any, **more: Any) -> str:
    took = {name: getattr(done, name) for name in ("model", "asked", "reused", "seconds", "reasons")}
    result = {"event": "result", **took, **more, **figures.model_dump(mode="json")}
    return json.dumps(result, ensure_ascii=False)
