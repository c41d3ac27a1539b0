"""The prompts that tools take where a person names none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from constitute.config import RunConfig
    from constitute.types import Prompt


def probe_prompts(config: RunConfig, n: int) -> list[Prompt]:
    """At least `n` where there are as many: the named file's, else pocket's world, else the packaged ones."""
    from constitute.data.prompts import read_prompts
    from constitute.editing.preview.run import default_prompts

    if config.prompts is not None:
        # Some may be among the principles' own already.
        return read_prompts(config.prompts, limit=2 * n, reading=config.read)[0]
    if config.model == "pocket":
        from constitute.pocket.world import prompts

        return [each.as_prompt() for each in prompts("test", kind="mixed", n=n, seed=config.seed)]
    return default_prompts()
