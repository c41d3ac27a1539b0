"""Run the data stages in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from constitute.config import RunConfig
from constitute.engines.base import Engine
from constitute.pipeline import Counts, run_stages
from constitute.pipeline.budget import Limits
from constitute.progress import Progress
from constitute.types import Prompt


def run(
    config: RunConfig,
    prompts: Iterable[Prompt],
    *,
    progress: Progress,
    limits: Limits | None = None,
    opened: Callable[[], Engine] | None = None,
) -> dict[str, Counts]:
    """The reference that every other runner's rows are compared with."""
    engine = None if opened is None else opened()
    return run_stages(config, config.chain, prompts=prompts, engine=engine, progress=progress, limits=limits)
