"""`constitute init`: write a constitution, prompts and run.yaml that work as they are."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from constitute.cli import options
from constitute.packaged import SMOLLM

PROMPTS = 24
POCKET, ASSISTANT = "pocket", "assistant"


@options.command()
@click.argument(
    "folder", metavar="[DIR]", type=click.Path(path_type=Path, file_okay=False), default=Path(".")
)
@click.option(
    "--template",
    default=ASSISTANT,
    show_default=True,
    help="What to start from: assistant, coding, education, house_style, medical_legal, support, or pocket "
    "(the embedded model's small world).",
)
@click.option(
    "--model", help=f"The model that run.yaml names.  [default: {SMOLLM}; pocket with its template]"
)
@click.option("--force", is_flag=True, help="Replace files that are there already.")
@options.seed
@options.debug
def init(folder: Path, template: str, model: str | None, force: bool, seed: int | None) -> None:
    """Write constitution.yaml, prompts.jsonl and run.yaml into DIR (here if absent).

    They work as they are, and are commented for editing. run.yaml holds values that suit the model:
    small ones for smollm2 and pocket, those of a GPU for any other.

    \b
    Examples:
      constitute init my-project
      constitute init my-agent --template coding --model Qwen/Qwen3-0.6B
      constitute init first-look --template pocket
    """
    from constitute.data.starter import starter_files, write_starter
    from constitute.packaged import fetched_folder

    chosen = model or (POCKET if template == POCKET else SMOLLM)
    files = starter_files(template, chosen, _prompts(template, seed or 0))
    for path in write_starter(folder, files, force=force):
        click.echo(str(path))
    here = "" if folder == Path(".") else f"cd {shlex.quote(str(folder))} && "
    steps = [f"{here}constitute constitution show constitution.yaml", "constitute run run.yaml"]
    if chosen == SMOLLM and not (fetched_folder(SMOLLM) / "config.json").is_file():
        steps.insert(1, "constitute fetch")
    steps.append("constitute status --run run")
    click.echo("\n".join(["\nNext:", *(f"  {step}" for step in steps)]), err=True)


def _prompts(template: str, seed: int) -> str:
    """Prompts as JSONL for the templates whose prompts lie with a model; empty for the others."""
    if template == POCKET:
        from constitute.pocket.world import prompts

        drawn = [prompt.as_prompt() for prompt in prompts("train", n=PROMPTS, seed=seed)]
        rows = [{"id": prompt.id, "prompt": prompt.messages[-1].content} for prompt in drawn]
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if template == ASSISTANT:
        from constitute import smollm

        known = (Path(smollm.__file__).parent / "prompts.jsonl").read_text(encoding="utf-8")
        return "".join(known.splitlines(keepends=True)[:PROMPTS])
    return ""
