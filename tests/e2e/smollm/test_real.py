"""Everything on a real model: SmolLM2-135M-Instruct, as `constitute fetch` makes it (`make test-real`)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import free_port

from constitute.config import EngineConfig
from constitute.data.pairs import read_preferences
from constitute.engines import open_engine
from constitute.engines.server import ServeOptions, running
from constitute.errors import UsageError
from constitute.packaged import model_path
from constitute.smollm.demo import PROMPTS
from constitute.store import Store
from constitute.types import LabelledPair, Message, Request, Response, SamplingParams

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]
QUESTIONS = (
    "How long should I boil an egg?",
    "What does a thermostat do?",
    "Name three colours.",
    "Why do cats purr?",
)
GREEDY = SamplingParams(max_tokens=24, temperature=0.0)
SETTINGS = EngineConfig(context_length=512, kv_cache_gib=1.0, in_flight=8)
# fp32: two implementations differ by about 1e-5 nats; a greedy choice closer than this may fall either way.
TIE = 1e-3


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        return Path(model_path("smollm2"))
    except UsageError as problem:
        pytest.skip(str(problem))


@pytest.fixture(scope="module")
def reference(folder: Path) -> tuple[Any, Any]:
    """transformers' own model and tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    return model, AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module", params=["vllm", "transformers", "served"])
def engine(request: pytest.FixtureRequest, folder: Path) -> Iterator[Any]:
    if request.param != "served":
        opened = open_engine("smollm2", SETTINGS.model_copy(update={"kind": request.param}))
        yield opened
        asyncio.run(opened.close())
        return
    options = ServeOptions(model="smollm2", port=free_port(), context_length=512, kv_cache_gib=1.0)
    with running(options, say=lambda text: None):
        opened = open_engine(options.url, SETTINGS)
        yield opened
        asyncio.run(opened.close())


def asked(text: str, sampling: SamplingParams = GREEDY) -> Request:
    return Request(messages=(Message(role="user", content=text),), sampling=sampling)


def own_ids(tokenizer: Any, turns: Sequence[dict[str, str]]) -> tuple[int, ...]:
    return tuple(
        tokenizer.apply_chat_template(turns, tokenize=True, add_generation_prompt=True, return_dict=False)
    )


def test_prompts_have_the_tokenizers_own_ids(engine: Any, reference: tuple[Any, Any]) -> None:
    _, tokenizer = reference
    conversations = [
        [{"role": "user", "content": "Tschüß, 你好 👋🏽!\n\n  x = 1"}],
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTIONS[0]}],
        [
            {"role": "user", "content": QUESTIONS[1]},
            {"role": "assistant", "content": "It keeps a room warm."},
            {"role": "user", "content": "How?"},
        ],
    ]
    for turns in conversations:
        messages = tuple(Message.model_validate(turn) for turn in turns)
        assert engine.prompt_ids(Request(messages=messages)) == own_ids(tokenizer, turns)


def test_greedy_answers_are_transformers_own_token_by_token(engine: Any, reference: tuple[Any, Any]) -> None:
    import torch

    model, tokenizer = reference

    async def all_of_them() -> list[Any]:
        return list(await asyncio.gather(*(engine.generate(asked(text)) for text in QUESTIONS)))

    answers = asyncio.run(all_of_them())
    for text, answer in zip(QUESTIONS, answers, strict=True):
        prompt = own_ids(tokenizer, [{"role": "user", "content": text}])
        with torch.no_grad():
            out = model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=24,
                do_sample=False,
                pad_token_id=tokenizer.eos_token_id,
            )[0].tolist()
            own = tuple(out[len(prompt) :])
            at = next(
                (n for n, (a, b) in enumerate(zip(own, answer.token_ids, strict=False)) if a != b), None
            )
            if at is None:
                assert own == tuple(answer.token_ids)
                continue
            logits = model(torch.tensor([[*prompt, *own[:at]]])).logits[0, -1]
        gap = abs(float(logits[own[at]] - logits[answer.token_ids[at]]))
        assert gap < TIE, f"token {at} of {text!r}: {own[at]} and {answer.token_ids[at]} are {gap:.2g} apart"


def test_choices_and_scores_are_those_of_the_model(engine: Any, reference: tuple[Any, Any]) -> None:
    import torch

    model, tokenizer = reference
    request = asked("Is fire hot? Answer with Yes or No.", SamplingParams(max_tokens=1, temperature=0.0))
    prompt = own_ids(tokenizer, [{"role": "user", "content": request.messages[0].content}])
    labels = ("Yes", "No")
    ids = [tokenizer(label, add_special_tokens=False).input_ids for label in labels]
    text = "Yes, it is."
    answer = tokenizer(text, add_special_tokens=False).input_ids

    async def both() -> tuple[Any, Any]:
        return await engine.choose(request, labels), await engine.score(request, text)

    choice, score = asyncio.run(both())
    with torch.no_grad():
        first = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
        whole = model(torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
    assert [len(each) for each in ids] == [1, 1]
    assert choice.logprobs == pytest.approx([float(first[each[0]]) for each in ids], abs=1e-3)
    own = [float(whole[len(prompt) - 1 + n, token]) for n, token in enumerate(answer)]
    assert list(score.token_ids) == answer
    assert list(score.logprobs) == pytest.approx(own, abs=1e-3)


def constitute(*words: str, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "constitute", *words],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr[-2000:]
    return done


def environment() -> dict[str, str]:
    """This checkout's code in a process that runs elsewhere."""
    import constitute as package

    return {**os.environ, "PYTHONPATH": str(Path(package.__file__).parents[1])}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    """A whole loop over six prompts, a few updates each, with one engine."""
    place = tmp_path_factory.mktemp("real")
    sets = ["limit=6", "train.sft.batch_size=4", "train.reward.batch_size=2", "train.ppo.iterations=1"]
    sets += ["train.ppo.batch_size=4", "train.ppo.max_new_tokens=16", "generate.max_tokens=40"]
    sets += ["revise.max_tokens=40", "evals.n=2", "evals.principles=[]"]
    words = [word for each in sets for word in ("--set", each)]
    constitute("demo", "--real", "--out", "run", *words, cwd=place)
    return place / "run"


def test_every_stage_of_the_loop_leaves_its_rows(run: Path) -> None:
    with Store.open(run, readonly=True) as store:
        assert {name: store.counts(name)["ok"] for name in ("generate", "revise", "label")} == {
            "generate": 12,
            "revise": 12,
            "label": 6,
        }
        pairs = [LabelledPair.model_validate(row.data) for row in store.outcomes("label", "ok")]
    assert all(vote.p_ba is None for pair in pairs for vote in pair.label.votes)
    assert len({pair.label.p_a for pair in pairs}) == len(pairs), "the labels differ from pair to pair"
    summary = json.loads((run / "summary.json").read_text())
    assert set(summary["words"]) == {"base", "sft", "ppo"}
    assert "<html" in (run / "report.html").read_text()


def test_what_is_trained_pads_with_another_token_than_it_ends_with(run: Path) -> None:
    """The model's own pad is its eos token, which a reward model would read one token early."""
    reward = json.loads((run / "reward" / "tokenizer_config.json").read_text())
    assert reward["eos_token"] == "<|im_end|>" and reward["pad_token"] != "<|im_end|>"
    with (run / "ppo" / "metrics.jsonl").open() as lines:
        metrics = [json.loads(line) for line in lines]
    gaps = [row["sync_gap_max"] for row in metrics if "sync_gap_max" in row]
    assert gaps and max(gaps) < 1e-3


def test_exports_are_read_back_by_datasets_and_by_the_trainers(run: Path) -> None:
    from datasets import load_dataset

    files = {name: str(run / "export" / f"{name}.jsonl") for name in ("sft", "preferences")}
    loaded = {name: load_dataset("json", data_files=path, split="train") for name, path in files.items()}
    assert (len(loaded["sft"]), len(loaded["preferences"])) == (12, 6)
    notes: list[str] = []
    assert len(read_preferences(Path(files["preferences"]), notes.append)) == 6
    with Store.open(run, readonly=True) as store:
        finals = {Response.model_validate(row.data).final for row in store.outcomes("revise", "ok")}
    assert {row["messages"][-1]["content"] for row in loaded["sft"]} == finals


def test_dpo_takes_a_step_on_it(run: Path) -> None:
    sets = ("--set", "train.dpo.batch_size=2", "--set", "train.dpo.held_out=0.0")
    constitute("train", "dpo", "--run", "run", "--model", "smollm2", "--force", *sets, cwd=run.parent)
    assert (run / "dpo" / "model.safetensors").is_file()


def test_a_killed_run_goes_on_to_the_same_rows(tmp_path: Path, folder: Path) -> None:
    """One request at a time and greedy, so that the rows do not depend on what shares a batch."""
    words = ["generate", "--model", "smollm2", "--prompts", str(PROMPTS), "--limit", "6"]
    for each in ("engine.kind=transformers", "engine.in_flight=1", "generate.temperature=0.0"):
        words += ["--set", each]
    words += ["--set", "generate.max_tokens=16", "--set", "generate.keep_truncated=true"]
    constitute(*words, "--run", "whole", cwd=tmp_path)
    killed = subprocess.Popen(
        [sys.executable, "-m", "constitute", *words, "--run", "killed"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while killed.poll() is None and len(rows(tmp_path / "killed")) < 2:
        time.sleep(0.02)
    assert killed.poll() is None, "the run was over before it was killed"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    before = rows(tmp_path / "killed")
    assert 2 <= len(before) < 6
    constitute(*words, "--run", "killed", cwd=tmp_path)
    assert (
        rows(tmp_path / "killed") == rows(tmp_path / "whole")
        and before.items() <= rows(tmp_path / "whole").items()
    )


def rows(folder: Path) -> dict[str, Any]:
    if not (folder / "run.sqlite").is_file():
        return {}
    with Store.open(folder, readonly=True) as store:
        return {row.row_id: row.data for row in store.outcomes("generate", "ok")}
