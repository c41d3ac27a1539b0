"""Where the data stages of `constitute run` run: in this process, or on a cluster; one registry.

A runner is a function of a configuration and its prompts. It leaves the rows in the run directory that one
process would leave there, and goes on where it was stopped. To add one, write a module with such a function
and name it in `RUNNERS`; `tests/e2e/runners` holds it to the same tests as the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from constitute.config import RunConfig
from constitute.engines.base import Engine
from constitute.pipeline import Counts
from constitute.pipeline.budget import Limits
from constitute.progress import Progress
from constitute.registry import registered
from constitute.types import Prompt


class Runner(Protocol):
    """Runs `config.chain` over the prompts, all shards' where `config.shard` is set, and returns the counts.

    `opened` gives the engine that later steps go on with, where there are any: a runner that asks in this
    process uses it and leaves it open, another does not call it. Raises every `ConstituteError`.
    """

    def __call__(
        self,
        config: RunConfig,
        prompts: Iterable[Prompt],
        *,
        progress: Progress,
        limits: Limits | None = None,
        opened: Callable[[], Engine] | None = None,
    ) -> dict[str, Counts]: ...


# Name -> "module:function" of its `Runner`.
RUNNERS: dict[str, str] = {
    "local": "constitute.runners.local:run",
    "ray": "constitute.runners.ray.run:run",
}


def runner_of(name: str) -> Runner:
    """The runner of that name; raises `UsageError` naming the nearest one that exists."""
    found: Runner = registered(RUNNERS, name, "runner.on")
    return found
