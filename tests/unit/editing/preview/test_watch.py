"""Watching a file: saves are heard however an editor makes them, and a newer one takes the older's place."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from constitute.editing.preview import watch as watching
from constitute.errors import EngineError
from constitute.strict_yaml import read_bytes


class Watched:
    """A watched file and what was heard of it so far."""

    def __init__(self, path: Path) -> None:
        self.path, self.heard = path, asyncio.Queue[watching.Event]()

    async def listen(self, data: bytes) -> None:
        async for event in watching.events(self.path, data, read_bytes):
            self.heard.put_nowait(event)

    async def next(self) -> watching.Event:
        return await asyncio.wait_for(self.heard.get(), 5)


async def test_a_save_is_heard_once_however_an_editor_makes_it(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"one")
    file = Watched(path)
    task = asyncio.create_task(file.listen(b"one"))
    try:
        await asyncio.sleep(0.15)
        path.write_bytes(b"one")  # saved without a change
        await asyncio.sleep(0.3)
        assert file.heard.empty()
        other = tmp_path / ".c.swp"
        other.write_bytes(b"two")
        other.rename(path)
        assert (await file.next()).data == b"two"
        path.write_bytes(b"")  # truncated, then written late
        await asyncio.sleep(0.3)
        path.write_bytes(b"three")
        assert (await file.next()).data == b"three"
        path.write_bytes(b"fou")
        await asyncio.sleep(0.02)
        path.write_bytes(b"four")  # written twice at once
        assert (await file.next()).data == b"four"
        before = path.stat()
        path.write_bytes(b"five")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))  # same size, an old date
        assert (await file.next()).data == b"five"
        path.rename(other)
        assert (await file.next()).kind == "gone"
        other.rename(path)
        assert (await file.next()).kind == "back"
        path.unlink()
        path.mkdir()
        found = await file.next()
        assert found.kind == "unreadable" and "directory" in found.reason
        path.rmdir()
        path.write_bytes(b"x" * 4_000_001)
        assert "larger than 4,000,000 bytes" in (await file.next()).reason
        path.write_bytes(b"six")
        assert (await file.next()).data == b"six"
        assert file.heard.empty() and not task.done()
    finally:
        task.cancel()


async def test_a_newer_save_takes_the_place_of_the_work_under_way(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"0")
    log: list[str] = []
    following = {b"0": b"1", b"1": b"bad", b"bad": b"2"}

    def save_next(data: bytes) -> None:
        if data in following:
            asyncio.get_running_loop().call_later(0.3, path.write_bytes, following[data])

    async def work(data: bytes) -> None:
        save_next(data)
        try:
            await asyncio.sleep(0.0 if data in (b"0", b"2") else 60.0)
        except asyncio.CancelledError:
            log.append(f"{data.decode()} gave way")
            raise
        log.append(f"{data.decode()} ended")
        if data == b"2":
            raise EngineError("the engine is gone")

    def begin(event: watching.Event) -> watching.Work | None:
        log.append(f"save {event.data.decode()}")
        if event.data != b"bad":
            return work(event.data)
        save_next(event.data)
        return None

    async def never() -> None:
        await asyncio.Event().wait()

    # The error of the work ends the watch; a save that is refused leaves the work alone.
    with pytest.raises(EngineError):
        await asyncio.wait_for(
            watching.watch(path, b"0", read_bytes, begin, work(b"0"), asyncio.Event().wait), 10
        )
    assert log == ["0 ended", "save 1", "save bad", "save 2", "1 gave way", "2 ended"]
