"""Sets exported for openai/evals and for HELM, run by these programs, and our own answers beside theirs.

    python -m benchmarks evals.programs [FILE.jsonl ...] [--model NAME] [--limit N] [--only PROGRAM]

openai/evals reads how the answer begins: `constitute serve` answers it, and we ask the same messages with
transformers. HELM compares the log-probabilities of the answers after the bare question, our mode `bare`; its
chat template is off (`apply_chat_template: false`), or the answer would stand in the user's turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from benchmarks.evals import harness_venvs
from benchmarks.evals.agreement import call, own_items
from constitute.cli.text import table
from constitute.config import load_config
from constitute.engines import open_engine
from constitute.engines.server import ServeOptions, running
from constitute.evals.exports import set_format
from constitute.evals.exports.base import export_sets, in_fixed_order, task_name
from constitute.evals.items import dump_items
from constitute.evals.run import load_sets, run_sets
from constitute.packaged import model_path
from constitute.types import EvalItem, Message, Request, SamplingParams

_ANSWER_TOKENS = 16
_LOCAL = "local/model"
# Its registry hands itself to what it makes, which the program's own class for chat does not take.
_SERVED = """from evals.completion_fns.openai import OpenAIChatCompletionFn


class Served(OpenAIChatCompletionFn):
    def __init__(self, registry=None, **given):
        super().__init__(**given)
"""


class Beside(NamedTuple):
    """Items that a program has scored, how many it answers otherwise, and the largest distance in nats."""

    set: str
    program: str
    items: int
    scored: int
    otherwise: int
    distance: float | None


def by_openai_evals(
    python: Path, folder: Path, name: str, model: str, url: str
) -> dict[int, tuple[str, bool]]:
    """(what was said, whether it counts) of each row of an exported set, by its number."""
    task = task_name(name)
    served: dict[str, Any] = {"model": model, "api_base": f"{url}/v1", "api_key": "none"}
    served["extra_options"] = {"max_tokens": _ANSWER_TOKENS}
    entry = {"served": {"class": "served:Served", "args": served}}
    (folder / "completion_fns").mkdir(exist_ok=True)
    with (folder / "completion_fns" / "served.yaml").open("w") as file:
        YAML(typ="safe").dump(entry, file)
    (folder / "served.py").write_text(_SERVED)
    record = folder / f"{task}.record.jsonl"
    words = ["served", task, "--registry_path", str(folder), "--record_path", str(record)]
    told = {"OPENAI_API_KEY": "none", "EVALS_SEQUENTIAL": "1", "PYTHONPATH": str(folder)}
    call([python.parent / "oaieval", *words], folder, told)
    events = [json.loads(line) for line in record.read_text().splitlines()]
    return {
        int(event["sample_id"].rsplit(".", 1)[1]): (event["data"]["sampled"], event["data"]["correct"])
        for event in events
        if event.get("type") == "match"
    }


def said_by_us(model: str, rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, bool]]:
    """The same of our own greedy answers, by transformers in fp32."""

    async def ask() -> list[tuple[str, bool]]:
        engine = open_engine(model, load_config(None, ["engine.kind=transformers"]).engine)
        found = []
        for row in rows:
            messages = tuple(Message.model_validate(turn) for turn in row["input"])
            sampling = SamplingParams(max_tokens=_ANSWER_TOKENS, temperature=0.0)
            answer = await engine.generate(Request(messages=messages, sampling=sampling))
            found.append((answer.text, answer.text.startswith(tuple(row["ideal"]))))
        await engine.close()
        return found

    return asyncio.run(ask())


def beside_openai_evals(sets: Mapping[str, Sequence[EvalItem]], model: str, folder: Path) -> list[Beside]:
    """What openai/evals counts as right, beside what our own greedy answers come to."""
    out = folder / "openai-evals"
    export_sets(sets, set_format("openai-evals"), out)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        options = ServeOptions(model=model, port=free.getsockname()[1], log=folder / "server.log")
    python = harness_venvs.openai_evals()
    with running(options):
        theirs = {name: by_openai_evals(python, out, name, model, options.url) for name in sets}
    found = []
    for name, items in sets.items():
        path = out / "data" / task_name(name) / "samples.jsonl"
        ours = said_by_us(model, [json.loads(line) for line in path.read_text().splitlines()])
        differing = sum(ours[at] != answer for at, answer in theirs[name].items())
        program = f"openai/evals {harness_venvs.OPENAI_EVALS}"
        found.append(Beside(name, program, len(items), len(theirs[name]), differing, None))
    return found


def by_helm(python: Path, file: Path, model: str) -> dict[str, list[float]]:
    """The log-probability of the whole text with each answer, by item, in the order of the answers."""
    folder = file.parent
    local = {"name": _LOCAL, "tokenizer_name": _LOCAL, "max_sequence_length": 2048, "model_name": _LOCAL}
    weights = {"pretrained_model_name_or_path": str(model_path(model))}
    plain = {**weights, "apply_chat_template": False, "torch_dtype": "torch.float32"}
    client = {"class_name": "helm.clients.huggingface_client.HuggingFaceClient", "args": plain}
    reader = {"class_name": "helm.tokenizers.huggingface_tokenizer.HuggingFaceTokenizer", "args": weights}
    described = {"name": _LOCAL, "display_name": model, "description": model, "access": "open"}
    made = {
        "creator_organization_name": "local",
        "release_date": date(2020, 1, 1),
        "tags": ["TEXT_MODEL_TAG"],
    }
    ends = {"end_of_text_token": "", "prefix_token": ""}
    configs: dict[str, Any] = {
        "model_deployments": [{**local, "client_spec": client}],
        "models": [{**described, **made}],
        "tokenizer_configs": [{"name": _LOCAL, "tokenizer_spec": reader, **ends}],
    }
    names = {"models": "model_metadata"}
    (folder / "prod_env").mkdir(exist_ok=True)
    for key, value in configs.items():
        with (folder / "prod_env" / f"{names.get(key, key)}.yaml").open("w") as out:
            YAML(typ="safe").dump({key: value}, out)
    command = set_format("helm").command.format(out=folder, name=file.name.split(".")[0], task="")
    words = command.replace("MODEL", _LOCAL).split()[1:]
    call([python.parent / "helm-run", *words, "--disable-cache", "--num-threads", "1"], folder, {})
    (state,) = (folder / "benchmark_output" / "runs" / "constitute").glob("custom_mcqa*/scenario_state.json")
    found: dict[str, dict[int, float]] = {}
    for asked in json.loads(state.read_text())["request_states"]:
        (completion,) = asked["result"]["completions"]
        found.setdefault(asked["instance"]["id"], {})[asked["reference_index"]] = completion["logprob"]
    return {name: [by_place[at] for at in sorted(by_place)] for name, by_place in found.items()}


def beside_helm(sets: Mapping[str, Sequence[EvalItem]], model: str, folder: Path) -> list[Beside]:
    """Differences of the answers' log-probabilities in HELM and in ours: what stands before them cancels."""
    python, found = harness_venvs.helm(), []
    told = [f"run={folder / 'run'}", f"model={model}", "engine.kind=transformers", "evals.mode=bare"]
    told += ["evals.spelled=false", "evals.max_unparsed=1"]
    for name, items in sets.items():
        (folder / name).mkdir()
        path = folder / name / f"{name}.jsonl"
        path.write_text(dump_items(items), encoding="utf-8")
        (result,) = run_sets(load_config(None, told), [path])
        (file,) = export_sets({name: items}, set_format("helm"), folder / name)
        theirs = by_helm(python, file, model)
        options = {item.id: in_fixed_order(item).options for item in items}
        distance, differing, both = 0.0, 0, [score for score in result.scores if score.id in theirs]
        for score in both:
            own = dict(zip(score.labels or _options(items, score.id), score.logprobs, strict=True))
            ours, other = [own[text] for text in options[score.id]], theirs[score.id]
            distance = max(
                distance, *(abs((a - ours[0]) - (b - other[0])) for a, b in zip(ours, other, strict=True))
            )
            differing += ours.index(max(ours)) != other.index(max(other))
        program = f"HELM {harness_venvs.HELM}"
        found.append(Beside(name, program, len(items), len(both), differing, distance))
    return found


def _options(items: Sequence[EvalItem], name: str) -> tuple[str, ...]:
    return next(item.options for item in items if item.id == name)


PROGRAMS = {"openai-evals": beside_openai_evals, "helm": beside_helm}


def main(arguments: Sequence[str]) -> None:
    """Print how many items each program has scored, and how far it is from us."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks evals.programs")
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--only", choices=PROGRAMS)
    given = parser.parse_args(arguments)
    found: list[Beside] = []
    with tempfile.TemporaryDirectory() as folder:
        sets = load_sets(given.files, Path(folder), given.limit) if given.files else own_items()
        for name in [given.only] if given.only else PROGRAMS:
            place = Path(folder) / name
            place.mkdir()
            found += PROGRAMS[name](sets, given.model, place)
    head = ("set", "program", "items", "scored", "otherwise", "distance (nats)")
    print(table(head, [(*b[:5], "-" if b.distance is None else f"{b.distance:.2g}") for b in found]))
