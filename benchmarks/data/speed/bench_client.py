"""vLLM's own bench client on the recorded requests: `python -m benchmarks.data.speed.bench_client WORK.json`.

It knows every request beforehand and takes its prompts as text, so their token ids may differ by a few; it
reads a stream, token by token, and forces the recorded lengths.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.data.speed import worker
from benchmarks.data.speed.work import Workload, load


def run(work: Workload, rows: int) -> dict[str, Any]:
    """One run of `vllm bench serve`; its own seconds, from the first request to the last answer."""
    from vllm.benchmarks.serve import add_cli_args, main

    parser = argparse.ArgumentParser()
    add_cli_args(parser)
    words = ["--backend", "openai", "--base-url", work.url, "--endpoint", "/v1/completions"]
    words += ["--model", work.model, "--tokenizer", work.path, "--dataset-name", "custom"]
    words += ["--dataset-path", str(Path(work.folder) / "bench.jsonl"), "--skip-chat-template"]
    words += ["--custom-output-len", "-1", "--ignore-eos", "--disable-shuffle", "--disable-tqdm"]
    words += ["--num-prompts", "0", "--max-concurrency", str(work.in_flight)]
    words += ["--temperature", str(work.temperature if work.kind == "a" else 0.0)]
    found: Mapping[str, Any] = main(parser.parse_args(words))
    return {
        "rows": rows,
        "without": found["failed"],
        "seconds": found["duration"],
        "requests": found["completed"],
    }


def write_prompts(work: Workload) -> None:
    """The recorded requests in the client's own form."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(work.path)
    folder = Path(work.folder)
    with (folder / "bench.jsonl").open("w", encoding="utf-8") as file:
        for line in (folder / "bodies.jsonl").read_text(encoding="utf-8").splitlines():
            sent = json.loads(line)
            row = {"prompt": tokenizer.decode(sent["body"]["prompt"]), "output_tokens": sent["written"]}
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    given = load(sys.argv[1])
    write_prompts(given)
    worker.serve({"bench": lambda: run(given, given.rows)})
