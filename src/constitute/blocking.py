"""Run a coroutine to its end from ordinary code, also inside a running event loop, as in a notebook."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_T = TypeVar("_T")


def block(job: Coroutine[Any, Any, _T]) -> _T:
    """What `job` returns. Where a loop is running already, `job` runs in a thread of its own meanwhile."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(job)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, job).result()
