"""`constitute constitution lint`: what is wrong or doubtful in constitution files, and where."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options

if TYPE_CHECKING:
    from constitute.config import RunConfig
    from constitute.editing.lint.findings import Finding, Linted

PROBES = 64


def _print_rules(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    from constitute.cli.text import table
    from constitute.editing.lint.findings import MODEL_RULES, sentences, severity

    said = [
        (name, "with --model" if name in MODEL_RULES else severity(name), sentence)
        for name, sentence in sentences().items()
    ]
    click.echo(table(("rule", "severity", "what it finds"), said))
    context.exit()


@options.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--strict", is_flag=True, help="Let warnings fail the check too.")
@click.option("--allow", multiple=True, callback=options.names, metavar="RULE[,RULE]",
              help="Leave out what a rule finds; may be repeated.")  # fmt: skip
@click.option(
    "--rules", is_flag=True, is_eager=True, expose_value=False, callback=_print_rules, help="List the rules."
)
@options.compose(options.model, options.prompts)
@click.option("--pairs", "pairs_file", help="Pairs that --model votes on, instead of two replies a prompt.")
@options.compose(
    options.limit,
    options.cache,
    options.config_file,
    options.sets,
    options.seed,
    options.as_json,
    options.debug,
)
def lint(
    files: tuple[str, ...],
    strict: bool,
    allow: list[str],
    model: str | None,
    prompts_file: str | None,
    pairs_file: str | None,
    limit: int | None,
    cache_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
) -> int:
    """Say what is wrong or doubtful in each constitution FILE: place, rule, what, and what to do.

    Errors are what cannot be used at all, and exit with code 4; warnings are wordings that ask for
    something else than they seem to. A comment `# lint: allow RULE` at a principle silences a rule there.
    With a model (--model, or that of --config), the principles also vote on pairs: contradictions, copies,
    frail wordings, order bias.

    \b
    Examples:
      constitute constitution lint my.yaml --strict
      constitute constitution lint assistant my.yaml --model smollm2 --json
    """
    from constitute.cli.text import said_if_slow
    from constitute.editing.lint.findings import check_allowed, lint_file
    from constitute.errors import ExitCode, UsageError

    check_allowed(allow)
    wanted = {"model": model, "prompts": prompts_file, "seed": seed}
    config = options.configured(cache_dir, config_file, sets, wanted)
    if config.model is None and (prompts_file or pairs_file):
        raise UsageError("--prompts and --pairs are for --model; name a model too, such as --model smollm2")
    with said_if_slow(f"reading {', '.join(files)}"):
        results = [lint_file(file, allow, config.tags) for file in files]
    if not as_json:
        # What needs no model is shown before one is opened, and whatever becomes of it.
        _print_findings([finding for each in results for finding in each.findings])
    if config.model is not None:
        known = [len(each.findings) for each in results]
        # The limit of a configuration is one of prompts, not of pairs.
        config = config.model_copy(update={"limit": limit})
        results = _with_model(results, allow, config, pairs_file)
        if not as_json:
            _print_findings([f for each, n in zip(results, known, strict=True) for f in each.findings[n:]])
    findings = [finding for each in results for finding in each.findings]
    counts: Counter[str] = Counter(finding.severity for finding in findings)
    _print(findings, counts, len(files), sum(each.silenced for each in results), as_json)
    failed = counts["error"] or (strict and counts["warning"])
    return ExitCode.GATE_FAILED if failed else ExitCode.OK


def _with_model(
    results: Sequence[Linted], allow: Sequence[str], config: RunConfig, pairs_file: str | None
) -> list[Linted]:
    """The results with what a model's votes show of each file that can be loaded."""
    from constitute.cli.constitution.probes import probe_prompts
    from constitute.cli.text import say
    from constitute.data.pairs import read_pairs
    from constitute.editing.lint.model import lint_with_model
    from constitute.progress import open_progress

    pairs = read_pairs(pairs_file, reading=config.read)[0] if pairs_file else None
    probes = () if pairs else probe_prompts(config, PROBES)
    done = []
    for each in results:
        if each.constitution is None:
            say(f"{each.file}: no model is asked before its errors are mended")
        with open_progress() as progress:
            done.append(
                lint_with_model(each, config, probes=probes, pairs=pairs, allow=allow, progress=progress)
            )
    return done


def _print_findings(findings: Sequence[Finding]) -> None:
    from constitute.cli.text import harmless

    for finding in findings:
        place = f"{finding.file}:{finding.line}:{finding.column}"
        what = f"{finding.message}; {finding.fix}" if finding.fix else finding.message
        click.echo(harmless(f"{place}: {finding.severity} [{finding.rule}]: {what}"))


def _print(
    findings: Sequence[Finding], counts: Counter[str], files: int, silenced: int, as_json: bool
) -> None:
    if as_json:
        for finding in findings:
            click.echo(json.dumps(finding.model_dump(mode="json"), ensure_ascii=False))
        kinds = {f"{kind}s": counts[kind] for kind in ("error", "warning", "note")}
        click.echo(json.dumps({"files": files, **kinds, "silenced": silenced}))
        return
    from constitute.cli.text import counted

    said = ", ".join(counted(counts[kind], kind) for kind in ("error", "warning", "note"))
    aside = f", {silenced} silenced" if silenced else ""
    click.echo(f"{counted(files, 'file')}: {said}{aside}", err=True)
