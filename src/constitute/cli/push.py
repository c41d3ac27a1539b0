"""`constitute push`: put an export folder on the Hugging Face Hub."""

from __future__ import annotations

import json
from pathlib import Path

import click

from constitute.cli import options


@options.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.argument("repo")
@click.option("--dry-run", is_flag=True, help="List files, sizes and the card; nothing is sent.")
@click.option("--public", is_flag=True, help="Make a new data set public; private without it.")
@options.as_json
@options.debug
def push(folder: Path, repo: str, dry_run: bool, public: bool, as_json: bool) -> None:
    """Upload the export folder FOLDER to the Hub as the data set REPO (owner/name).

    The sets that the card names go there, with the card and what is known of labels and removed rows. It
    needs a token with write access (`hf auth login`, or HF_TOKEN).

    \b
    Examples:
      constitute push run/export me/my-preferences --dry-run
      constitute push run/export me/my-preferences --public
    """
    from constitute.cli.text import say, table
    from constitute.data.push import check_repo, plan_upload, upload
    from constitute.text import harmless

    check_repo(repo)
    plan = plan_upload(folder)
    if as_json and dry_run:
        line = {"repo": repo, "files": dict(plan.files), "bytes": plan.size, "left": plan.left}
        click.echo(json.dumps({**line, "licence": plan.licence, "public": public}))
        return
    rows = [(name, f"{size:,}") for name, size in (*plan.files, ("in all", plan.size))]
    say(table(("file", "bytes"), rows))
    if plan.left:
        say(f"not uploaded, as the card does not name them: {', '.join(plan.left)}")
    if plan.licence is None:
        say("the card names no licence, so nobody may use the data; `constitute export --licence` sets one")
    if dry_run:
        say(f"nothing was sent; the {'public' if public else 'private'} data set {repo} would get this card:")
        click.echo(harmless(plan.card), nl=False)
        return
    from huggingface_hub import get_token

    address = upload(plan, repo, public=public, token=get_token())
    click.echo(json.dumps({"repo": repo, "url": address}) if as_json else address)
