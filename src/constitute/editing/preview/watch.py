"""Watch one file that a person edits: what happens to it, and the work that each save starts."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, Literal, NamedTuple

from constitute.errors import ConstituteError

POLL_S = 0.1
# An editor may truncate, write, and write again: a file counts as saved once it has been still this long.
SETTLE_S = 0.05
# An empty file is mostly one about to be written; a missing one about to be renamed into place.
PATIENCE_S = 1.0

Work = Coroutine[Any, Any, None]


class Stamp(NamedTuple):
    """What changes when a file is saved, however its editor does it."""

    mtime_ns: int
    size: int
    inode: int


class Event(NamedTuple):
    """What became of the file: new content, nothing to be seen, as it was again, or a `reason`.

    `at` is when it was noticed, on the monotonic clock.
    """

    kind: Literal["saved", "gone", "back", "unreadable"]
    data: bytes = b""
    reason: str = ""
    at: float = 0.0


def stamp(path: Path) -> Stamp | None:
    """The file's stamp, or None where there is no file to be seen."""
    try:
        found = path.stat()
    except OSError:
        return None
    return Stamp(found.st_mtime_ns, found.st_size, found.st_ino)


async def events(path: Path, data: bytes, read: Callable[[Path], bytes]) -> AsyncIterator[Event]:
    """What happens to `path` from now on; `data` is what it held when it was last read.

    Polled, as a file's notifications stop where an editor renames a new file into its place. A save that
    leaves the content as it was is none. What keeps `path` from being read (gone, no permission, too
    large) is told once, and tried again.
    """
    known, last, told = _digest(data), None, ""
    missing_since: float | None = None
    while True:
        now = stamp(path)
        if now is None:
            last = None
            missing_since = missing_since or time.monotonic()
            if told != "gone" and time.monotonic() - missing_since > PATIENCE_S:
                told = "gone"
                yield Event("gone")
        elif now != last:
            noticed, missing_since = time.monotonic(), None
            last = await _still(path, now)
            event = _read(path, read, noticed) if last is not None else None
            if event is not None and event.kind == "unreadable":
                last = None
                if told != event.reason:
                    told = event.reason
                    yield event
            elif event is not None:
                same, known = _digest(event.data) == known, _digest(event.data)
                if told or not same:
                    yield event._replace(kind="back") if same else event
                told = ""
        await asyncio.sleep(POLL_S)


async def watch(
    path: Path,
    data: bytes,
    read: Callable[[Path], bytes],
    begin: Callable[[Event], Work | None],
    first: Work | None,
    until: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    """Run `first`, then what `begin` makes of each event, until `until()` returns.

    `begin` may refuse an event (None); otherwise its work takes the place of any that is still going on,
    which is cancelled. Raises what the work raises.
    """
    queue: asyncio.Queue[Event] = asyncio.Queue()

    async def listen() -> None:
        async for event in events(path, data, read):
            queue.put_nowait(event)

    listener, quits = asyncio.create_task(listen()), asyncio.create_task(until())
    arrival = asyncio.create_task(queue.get())
    work = None if first is None else asyncio.create_task(first)
    try:
        while not quits.done():
            tasks = [task for task in (listener, quits, arrival, work) if task is not None]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if listener in done:
                listener.result()
            if work is not None and work in done:
                work.result()
                work = None
            if arrival in done:
                following = begin(arrival.result())
                arrival = asyncio.create_task(queue.get())
                if following is not None:
                    await _cancel(work)
                    work = asyncio.create_task(following)
        quits.result()
    finally:
        await _cancel(listener, quits, arrival, work)


async def _still(path: Path, now: Stamp) -> Stamp | None:
    """The stamp once it has not changed for `SETTLE_S`; empty files get longer. None where it went away."""
    since = started = time.monotonic()
    latest: Stamp | None = now
    while latest is not None:
        clock = time.monotonic()
        waited = clock - since >= SETTLE_S
        if waited and (latest.size or clock - started >= PATIENCE_S):
            break
        await asyncio.sleep(SETTLE_S / 2)
        seen = stamp(path)
        if seen != latest:
            latest, since = seen, time.monotonic()
    return latest


def _read(path: Path, read: Callable[[Path], bytes], noticed: float) -> Event:
    try:
        return Event("saved", read(path), at=noticed)
    except OSError as problem:
        return Event("unreadable", reason=f"{path}: {problem.strerror or problem}", at=noticed)
    except ConstituteError as problem:
        return Event("unreadable", reason=str(problem), at=noticed)


async def _cancel(*tasks: asyncio.Task[Any] | None) -> None:
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
