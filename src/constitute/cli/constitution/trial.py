"""`constitute constitution test`: does a judge prefer the better answer of every example?"""

from __future__ import annotations

import json
from pathlib import Path

import click

from constitute.cli import options


def _names(ctx: click.Context, param: click.Parameter, value: str | None) -> list[str] | None:
    """The names in `a,b`, each once."""
    return None if value is None else list(dict.fromkeys(name.strip() for name in value.split(",")))


@options.command(name="test")
@click.argument("file")
@options.model
@click.option(
    "--methods", callback=_names, help="Label methods, such as choice,likelihood; label.method if absent."
)
@click.option(
    "--layouts", callback=_names, help="Layouts of the question: shared, paper; label.layout if absent."
)
@click.option("--id", "ids", multiple=True, metavar="ID", help="Only this principle; may be repeated.")
@click.option(
    "--min-margin",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Least P(better) - P(worse) that passes.",
)
@click.option("--junit", "junit_file", type=click.Path(path_type=Path, dir_okay=False),
              help="JUnit XML file to write, or to replace.")  # fmt: skip
@click.option(
    "--run",
    "run_dir",
    type=click.Path(path_type=Path),
    default=Path(".constitute"),
    show_default=True,
    help="Directory that keeps answers and results: the cache that preview reads, or a run, whose report "
    "then shows them.",
)
@options.compose(options.config_file, options.sets, options.seed, options.as_json, options.debug)
def trial(
    file: str,
    model: str | None,
    methods: list[str] | None,
    layouts: list[str] | None,
    ids: tuple[str, ...],
    min_margin: float,
    junit_file: Path | None,
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
) -> None:
    """Test the constitution FILE: a judge must prefer the better answer of each example.

    Each example is shown under its own principle alone, in both orders where the method shows one. Exit code
    4 says that an example does not pass by one of the methods: the better answer is not preferred, or the
    judge gave no label. Drafts are asked about and shown apart, and fail nothing. Answers are kept, so that
    after an edit only what changed is asked.

    \b
    Examples:
      constitute constitution test assistant --model smollm2 --methods likelihood
      constitute constitution test my.yaml --model http://localhost:8000 --junit tests.xml
    """
    from constitute.cli.constitution.trial_text import trial_text
    from constitute.constitution.read import load_configured
    from constitute.editing.trial.junit import junit
    from constitute.editing.trial.run import require_passed, try_constitution
    from constitute.files import write_text
    from constitute.progress import open_progress

    config = options.settled(run_dir, config_file, sets, {"run": run_dir, "seed": seed})
    constitution = load_configured(config, file)
    with open_progress(as_json) as progress:
        result = try_constitution(
            config,
            constitution,
            model=model,
            methods=methods,
            layouts=layouts,
            ids=ids,
            min_margin=min_margin,
            progress=progress,
        )
    if junit_file is not None:
        write_text(junit_file, junit(result))
    if as_json:
        click.echo(json.dumps({"event": "result", **result.model_dump(mode="json")}))
    else:
        click.echo(trial_text(result))
    require_passed(result)
