"""`constitute constitution lint`: what is wrong or doubtful in constitution files, and where."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from constitute.cli import options
from constitute.cli.constitution.probes import probe_prompts

if TYPE_CHECKING:
    from constitute.editing.lint.findings import Finding
    from constitute.types import Constitution

GATE = 4
PROBES = 64


class _Read(NamedTuple):
    """One file's bytes and findings; `constitution` is None where it cannot be loaded."""

    path: str
    data: bytes
    findings: list[Finding]
    silenced: int
    constitution: Constitution | None


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
@click.option("--allow", multiple=True, metavar="RULE", help="Leave out what a rule finds; may be repeated.")
@click.option(
    "--rules", is_flag=True, is_eager=True, expose_value=False, callback=_print_rules, help="List the rules."
)
@options.compose(options.model, options.prompts)
@click.option("--pairs", "pairs_file", help="Pairs that --model votes on, instead of two replies a prompt.")
@options.compose(options.limit, options.cache, options.sets, options.seed, options.as_json, options.debug)
def lint(
    files: tuple[str, ...],
    strict: bool,
    allow: tuple[str, ...],
    model: str | None,
    prompts_file: str | None,
    pairs_file: str | None,
    limit: int | None,
    cache_dir: Path,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
) -> int:
    """Say what is wrong or doubtful in each constitution FILE: place, rule, what, and what to do.

    Errors are what cannot be used at all, and exit with code 4; warnings are wordings that ask for
    something else than they seem to. A comment `# lint: allow RULE` at a principle silences a rule there.
    With --model, the principles also vote on pairs: contradictions, copies, frail wordings, order bias.

    \b
    Examples:
      constitute constitution lint my.yaml --strict
      constitute constitution lint harmless my.yaml --model pocket --json
    """
    from constitute.errors import UsageError

    _check_names(allow)
    if model is None and (prompts_file or pairs_file):
        raise UsageError("--prompts and --pairs are for --model; name a model too, such as --model pocket")
    results = [_static(file, allow) for file in files]
    if model is not None:
        if not as_json:
            # What needs no model is shown before one is opened, and whatever becomes of it.
            _print_findings([finding for each in results for finding in each.findings])
            known = [len(each.findings) for each in results]
        wanted = {"model": model, "limit": limit, "seed": seed}
        results = _with_model(results, allow, wanted, (prompts_file, pairs_file), (cache_dir, sets))
        if not as_json:
            _print_findings([f for each, n in zip(results, known, strict=True) for f in each.findings[n:]])
    findings = [finding for each in results for finding in each.findings]
    counts: Counter[str] = Counter(finding.severity for finding in findings)
    if model is None and not as_json:
        _print_findings(findings)
    _print(findings, counts, len(files), sum(each.silenced for each in results), as_json)
    return GATE if counts["error"] or (strict and counts["warning"]) else 0


def _check_names(allow: Sequence[str]) -> None:
    from constitute.editing.lint.findings import ERRORS, FILE_RULE, names
    from constitute.errors import UsageError

    for name in allow:
        if name in ERRORS or name in FILE_RULE:
            raise UsageError(f"--allow {name}: what cannot be loaded cannot be allowed; mend what it names")
        if name not in names():
            near = get_close_matches(name, names(), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "lint --rules lists them"
            raise UsageError(f"--allow {name}: there is no such rule; {hint}")


def _static(file: str, allow: Sequence[str]) -> _Read:
    """Read one file and let the rules look at it; a file that cannot be opened is a finding like others."""
    from constitute.editing.lint.findings import Finding
    from constitute.editing.lint.findings import lint as lint_bytes
    from constitute.errors import ConstituteError
    from constitute.packaged import find
    from constitute.strict_yaml import read_bytes

    path = file
    try:
        path = str(find(file, "constitutions", ".yaml"))
        data = read_bytes(Path(path))
    except (ConstituteError, OSError) as problem:
        what, fix = _unopened(file, problem)
        finding = Finding(file=path, line=1, column=1, severity="error", rule="file", message=what, fix=fix)
        return _Read(path, b"", [finding], 0, None)
    linted = lint_bytes(data, path, allow)
    return _Read(path, data, list(linted.findings), linted.silenced, linted.constitution)


def _unopened(file: str, problem: Exception) -> tuple[str, str]:
    """What is wrong with a file that cannot be opened, and what to do."""
    path = Path(file)
    if isinstance(problem, OSError) and not isinstance(problem, ValueError):
        return f"the file cannot be read ({problem.strerror or problem})", "check its name and permissions"
    if path.is_dir():
        return "this is a folder", "name the YAML file in it"
    if path.is_symlink() and not path.exists():
        return "this is a link to a file that is not there", "mend the link, or name the file itself"
    if path.exists() and not path.is_file():
        return "this is a pipe or a device, not a file", "write the constitution to a file first"
    said, _, fix = str(problem).removeprefix(f"{file}:1:1: ").rpartition("; ")
    return said, fix


def _with_model(
    results: Sequence[_Read],
    allow: Sequence[str],
    wanted: dict[str, Any],
    inputs: tuple[str | None, str | None],
    settings: tuple[Path, tuple[str, ...]],
) -> list[_Read]:
    """The results with what a model's votes show of each file that can be loaded."""
    from constitute.data.pairs import read_pairs
    from constitute.editing.lint.findings import place_findings
    from constitute.editing.lint.model import run_lint_model
    from constitute.progress import open_progress

    pairs = read_pairs(inputs[1])[0] if inputs[1] else None
    done = []
    for each in results:
        if each.constitution is None:
            click.echo(f"{each.path}: no model is asked before its errors are mended", err=True)
            done.append(each)
            continue
        settled = {**wanted, "prompts": inputs[0], "constitution": each.path}
        config = options.configured(settings[0], None, settings[1], settled)
        probes = None if pairs else probe_prompts(config, PROBES)
        with open_progress() as progress:
            found = run_lint_model(each.constitution, config, progress, probes, pairs=pairs)
        placed, silenced = place_findings(found, each.data, each.path, allow)
        done.append(each._replace(findings=[*each.findings, *placed], silenced=each.silenced + silenced))
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
    said = ", ".join(_count(counts[kind], kind) for kind in ("error", "warning", "note"))
    aside = f", {silenced} silenced" if silenced else ""
    click.echo(f"{_count(files, 'file')}: {said}{aside}", err=True)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
