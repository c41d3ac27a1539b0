"""`constitute evals run` and `list`: score a policy on eval sets, ours and public ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options
from constitute.errors import ExitCode
from constitute.evals.asking import CONDITIONS

if TYPE_CHECKING:
    from constitute.config import RunConfig


@options.command()
@options.compose(options.common, options.model, options.limit)
@click.option("--policy", help="Name of the policy in the results; from the model's name if not given.")
@click.option(
    "--set-spec", metavar="NAME|FILE", help="How FILES are read: a set of `evals list`, or a YAML file."
)
@click.option("--judge", help="Model or URL that reads free answers and conversations (evals.answer=text).")
@click.option("--same-judge", is_flag=True, help="Let the policy judge its own answers.")
@click.option("--auditor", help="Model or URL that writes the user's turns of conversations; else the judge.")
@click.option(
    "--scorer",
    metavar="FILE.py:FUNCTION",
    help="Rates free answers in a judge's place: texts to numbers in [0, 1].",
)
@click.option("--condition", metavar="NAME", help=f"How to ask: {', '.join(CONDITIONS)}.")
@click.option(
    "--checkpoints",
    type=click.Path(path_type=Path, file_okay=False),
    help="Score every policy kept in this folder of `train ppo`, each as NAME-step-N, in a model's place.",
)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
def run(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    model: str | None,
    limit: int | None,
    policy: str | None,
    set_spec: str | None,
    judge: str | None,
    same_judge: bool,
    auditor: str | None,
    scorer: str | None,
    condition: str | None,
    checkpoints: Path | None,
    files: tuple[Path, ...],
) -> int:
    """Score a policy by the log-probabilities of each item's answers, or by what it says.

    FILES are eval sets in the anthropics/evals format, or in that of --set-spec; without any, all that the
    run has written. A model without a chat template is asked in plain text (evals.mode); where a model
    answers in another form, evals.instruction and evals.opening say how it should. In another --condition
    than `question`, its name stands behind the policy's, so that `evals compare` takes both. With --set
    evals.answer=text the policy answers freely and --judge reads the answer, or --scorer rates it; the judge
    also reads conversations.

    \b
    Examples:
      constitute evals run --model smollm2
      constitute evals run --model Qwen/Qwen3-0.6B persona/politically-liberal.jsonl --limit 200
      constitute evals run --model smollm2 --set evals.answer=text --judge Qwen/Qwen3-4B set.jsonl
      constitute evals run --model smollm2 --set-spec bbq bbq/Age.jsonl --condition instruction
      constitute evals run --checkpoints run/ppo
    """
    from constitute.cli.evals.text import print_results
    from constitute.evals.checkpoints import run_policies
    from constitute.evals.sets import find_spec
    from constitute.evals.text.records import Readers
    from constitute.evals.text.run import score_sets
    from constitute.progress import open_progress

    readers = Readers(judge=judge, auditor=auditor, same_judge=same_judge, scorer=scorer)
    _refuse(set_spec, files, checkpoints, model, judged=readers != Readers())
    spec = find_spec(set_spec) if set_spec else None
    given = {"seed": seed, "model": model, "evals.condition": condition}
    config = options.configured(run_dir, config_file, sets, given)
    with open_progress(as_json) as progress:
        if checkpoints is not None:
            policies = _kept(checkpoints, policy, config)
            results = run_policies(config, policies, files, limit=limit, progress=progress, spec=spec)
        else:
            results = score_sets(
                config, files, readers=readers, policy=policy, limit=limit, progress=progress, spec=spec
            )
    print_results(results, config, as_json)
    return ExitCode.ROWS_FAILED if any(result.failed for result in results) else ExitCode.OK


def _refuse(
    set_spec: str | None,
    files: tuple[Path, ...],
    checkpoints: Path | None,
    model: str | None,
    *,
    judged: bool,
) -> None:
    """Raise `UsageError` for options that cannot be given together."""
    from constitute.errors import UsageError

    if set_spec and not files:
        raise UsageError(f"--set-spec {set_spec} says how files are read, and none is given; name them")
    if checkpoints and model:
        raise UsageError("--checkpoints and --model were given together; give one of them")
    if checkpoints and judged:
        raise UsageError(
            "policies of --checkpoints are scored by labels alone; give each to --model to have it judged"
        )


def _kept(checkpoints: Path, policy: str | None, config: RunConfig) -> dict[str, Path]:
    """The policies kept in the folder, by their names in the results."""
    from constitute.evals.checkpoints import step_policies
    from constitute.evals.run import policy_name
    from constitute.train.overopt.read import policies_by_step

    return step_policies(policy or policy_name(str(checkpoints), config.run), policies_by_step(checkpoints))


@options.command("list")
@options.compose(options.as_json, options.debug)
def list_sets(as_json: bool) -> None:
    """List the public sets that --set-spec knows, with where each is published.

    \b
    Examples:
      constitute evals list
      constitute evals list --json
    """
    from constitute.cli.evals.text import print_sets
    from constitute.evals.sets import set_specs

    print_sets(set_specs(), as_json)
