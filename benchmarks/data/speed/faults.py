"""What becomes of rows where a server refuses every request of one: `python -m benchmarks data.speed.faults`.

A scripted server answers all conversations but one row's, which it refuses with a status of 400. No model
is asked. Counted are rows with the revision, rows that are there without one, and rows that are not there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from benchmarks.data.speed import work as workload
from benchmarks.data.speed.run import PEERS, process
from benchmarks.data.speed.work import Workload
from constitute.pipeline import run_stages

ROWS = 20
REFUSED = "prompt 7 of"
SIDES = {"distilabel": "distilabel", "designer_tuned": "designer"}


def main(arguments: Sequence[str]) -> None:
    """Print a line for each side."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks data.speed.faults")
    parser.add_argument("--peers", type=Path, default=PEERS)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, refusing_server() as url:
        source = Path(folder) / "prompts.jsonl"
        lines = (json.dumps({"prompt": f"This is prompt {at} of {ROWS}."}) for at in range(ROWS))
        source.write_text("\n".join(lines), encoding="utf-8")
        work = Workload.of("a", "pocket", ROWS, folder, url=url)
        workload.prepare(work, str(source))
        path = workload.save(work)
        print(f"{'side':<16}{'revised':>8}{'without':>8}{'gone':>6}")
        for side, kind in SIDES.items():
            with process(kind, path, given.peers, Path(folder)) as peer:
                print(line(side, peer.ask(side)), flush=True)
        print(line("ours", ours(work)))


def line(side: str, found: dict[str, Any]) -> str:
    """One line of the table, or why there is none."""
    if "error" in found:
        return f"{side:<16}{found['error']}"
    gone = ROWS - found["rows"] - found["without"]
    return f"{side:<16}{found['rows']:>8}{found['without']:>8}{gone:>6}"


def ours(work: Workload) -> dict[str, Any]:
    """Rows as our store has them: revised, or failed with a reason."""
    rows: Any = workload.read_rows(work)
    counts = run_stages(
        workload.run_config(work, served=True),
        work.chain,
        prompts=rows,
    )
    failed = sum(count.failed + count.abstain for count in counts.values())
    return {"rows": counts["revise"].ok, "without": failed}


async def _answer(request: web.Request) -> web.Response:
    asked = await request.json()
    if REFUSED in json.dumps(asked["messages"]):
        refusal = {"message": "this conversation is refused", "type": "invalid_request_error", "code": 400}
        return web.json_response({"error": refusal}, status=400)
    message = {"role": "assistant", "content": "An answer."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    about = {"id": "x", "object": "chat.completion", "created": 1, "model": asked["model"]}
    return web.json_response({**about, "choices": [choice], "usage": usage})


async def _models(request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": "pocket", "object": "model"}]})


@contextmanager
def refusing_server() -> Iterator[str]:
    """The address of the server, in a thread of its own."""
    loop, ready, address = asyncio.new_event_loop(), threading.Event(), list[str]()

    async def start() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", _answer)
        app.router.add_get("/v1/models", _models)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        ready.set()

    def serve() -> None:
        loop.run_until_complete(start())
        loop.run_forever()

    threading.Thread(target=serve, daemon=True).start()
    if not ready.wait(30):
        raise RuntimeError("the scripted server did not start within 30 s")
    try:
        yield address[0]
    finally:
        loop.call_soon_threadsafe(loop.stop)
