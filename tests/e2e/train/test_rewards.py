"""PPO on the embedded model with rewards of each kind, as the command line and Python give them."""

import json
import math
import sys

import pytest
from click.testing import CliRunner

pytest.importorskip("torch")
from tolerance import FIGURE

from constitute.cli.main import cli
from constitute.config import load_config
from constitute.errors import ConstituteError, DataError, UsageError
from constitute.train.ppo.start import run_ppo
from constitute.types import Message, Prompt

# A file of its own name, so that no other test's module is taken for it.
MODULE = "reward_functions_of_this_test"
FUNCTIONS = """
import json, pathlib

def length(prompts, completions):
    with pathlib.Path("seen.jsonl").open("a") as file:
        file.write(json.dumps([[p.id, c.text] for p, c in zip(prompts, completions)]) + "\\n")
    return [len(completion.text) for completion in completions]

async def first(prompts, completions):
    return [float(prompt.id == "p0") for prompt in prompts]

def broken(prompts, completions):
    return [1.0] * (len(prompts) - 1)
"""
SETS = (
    "engine.kind=transformers",
    "train.ppo.iterations=2",
    "train.ppo.batch_size=4",
    "train.ppo.max_new_tokens=8",
    "train.ppo.epochs=1",
    "train.ppo.missing_eos_penalty=null",
)
LAST = """
def last(prompts, completions):
    return [-1.0 - len(completion.text.split()) for completion in completions]
"""
REWARDS = ("--reward", f"0.5*{MODULE}:length", "--reward", f"0*{MODULE}:first")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with reward functions and prompts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    (tmp_path / f"{MODULE}.py").write_text(FUNCTIONS, encoding="utf-8")
    rows = [{"id": f"p{number}", "prompt": f"How do I mend {number} kettles?"} for number in range(3)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def train(*words):
    """`constitute train ppo` in this process; its summary."""
    sets = [word for text in SETS for word in ("--set", text)]
    args = ["train", "ppo", "--model", "pocket", "--json", *sets, *words]
    done = CliRunner().invoke(cli, args, standalone_mode=False, catch_exceptions=False)
    return json.loads(done.stdout.splitlines()[-1])


def train_as(method, *words):
    """`constitute train METHOD` on the prompts of the folder; its summary."""
    small = [text.replace("train.ppo.", f"train.{method}.") for text in SETS if "epochs" not in text]
    small = [*small, "train.grpo.samples_per_prompt=2"] if method == "grpo" else SETS[:1]
    sets = [word for text in small for word in ("--set", text)]
    args = ["train", method, "--model", "pocket", "--json", "--prompts", "prompts.jsonl", *sets, *words]
    done = CliRunner().invoke(cli, args, standalone_mode=False, catch_exceptions=False)
    return json.loads(done.stdout.splitlines()[-1])


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_functions_by_weight(folder):
    summary = train("--prompts", "prompts.jsonl", "--out", "policy", *REWARDS)
    metrics, seen = lines(folder / "policy" / "metrics.jsonl"), lines(folder / "seen.jsonl")
    assert len(metrics) == len(seen) == 2
    for line, batch in zip(metrics, seen, strict=True):
        length = sum(len(text) for _, text in batch) / 4
        assert line["reward/length"] == pytest.approx(length)
        assert line["reward/first"] == pytest.approx(sum(name == "p0" for name, _ in batch) / 4)
        assert line["reward"] == pytest.approx(0.5 * length)
    record = json.loads((folder / "policy" / "training.json").read_text())
    assert record["made_by"]["config"]["rewards"] == [
        {"source": f"{MODULE}:length", "weight": 0.5, "name": "length"},
        {"source": f"{MODULE}:first", "weight": 0.0, "name": "first"},
    ]
    assert summary["prompts"] == 3


def test_stored_rollouts_teach_the_same_policy_without_prompts_or_an_engine(folder):
    stored = ("--set", "train.ppo.save_rollouts=true")
    summary = train("--prompts", "prompts.jsonl", "--out", "policy", *REWARDS, *stored)
    # The fake engine takes no weights, so it would be refused if it were opened.
    replayed = train("--replay", "policy", "--out", "again", *REWARDS, "--set", "engine.kind=fake")
    first, again = (lines(folder / name / "metrics.jsonl") for name in ("policy", "again"))
    assert [line["reward"] for line in again] == [line["reward"] for line in first]
    assert [line["kl"] for line in again] == pytest.approx([line["kl"] for line in first], **FIGURE)
    assert replayed["reward_after"] == summary["reward_after"]


def test_a_function_that_returns_too_few_stops_the_run(folder):
    with pytest.raises(DataError, match=f"{MODULE}:broken returned 3 rewards for 4 responses"):
        train("--prompts", "prompts.jsonl", "--reward", f"{MODULE}:broken")


def test_a_judge_that_does_not_rate_stops_the_run(folder, tiny_model):
    """A model of random weights spreads its next token over everything."""
    words = ("--prompts", "prompts.jsonl", "--constitution", "pocket/harmless", "--reward", "judge")
    with pytest.raises(UsageError, match="name one with --judge"):
        train(*words, "--run", "elsewhere")
    with pytest.raises(ConstituteError, match=r"the judge .* could not rate 4 of 4 responses") as found:
        train(*words, "--judge", str(tiny_model))
    assert "'p" in str(found.value)


def test_the_judge_s_ratings_are_what_is_learned_from(folder):
    """A judge of scripted probabilities behind the real loop; the policy is sampled by transformers."""
    from constitute.engines import open_engine

    sets = [*SETS, "engine.kind=fake", "train.ppo.iterations=1"]
    config = load_config(
        None, sets, {"model": "pocket", "judge": "scripted", "constitution": "pocket/harmless", "run": "run"}
    )
    prompts = [Prompt(id="p", messages=(Message(role="user", content="How do I mend a kettle?"),))]
    sampler = open_engine("pocket", config.engine.model_copy(update={"kind": "transformers"}))

    def length(prompts, completions):
        return [len(completion.text) for completion in completions]

    run_ppo(config, prompts, policy="pocket", reward=("judge", "0*judge", length), engine=sampler)
    (line,) = lines(folder / "run" / "ppo" / "metrics.jsonl")
    assert -1.0 < line["reward/judge"] < 1.0
    assert line["reward/judge"] == line["reward/judge-2"]
    assert line["reward"] == pytest.approx(line["reward/judge"] + line["reward/length"])


def test_two_constitutions_and_the_worse_served_of_them(folder):
    """A judge under each of two constitutions, one engine, and the least of both ratings as the reward."""
    from constitute.engines import open_engine

    sets = [*SETS, "engine.kind=fake", "train.ppo.iterations=1", "train.ppo.welfare=min"]
    config = load_config(None, sets, {"model": "pocket", "judge": "scripted", "run": "run"})
    prompts = [Prompt(id="p", messages=(Message(role="user", content="How do I mend a kettle?"),))]
    sampler = open_engine("pocket", config.engine.model_copy(update={"kind": "transformers"}))
    both = ("judge:pocket/harmless", "judge:pocket/concise")

    run_ppo(config, prompts, policy="pocket", reward=both, engine=sampler)
    (line,) = lines(folder / "run" / "ppo" / "metrics.jsonl")
    assert line["reward/harmless"] != line["reward/concise"]
    # The mean of the least is below the least of the means, for either is worse somewhere.
    assert line["reward"] < min(line["reward/harmless"], line["reward/concise"])
    record = json.loads((folder / "run" / "ppo" / "training.json").read_text())
    assert record["made_by"]["config"]["welfare"] == "min"
    inputs = record["made_by"]["inputs"]
    assert inputs["reward/harmless"] != inputs["reward/concise"]


def test_grpo_and_best_of_n_take_the_same_welfare(folder):
    given = [f"{MODULE}:length", f"{MODULE}:last"]
    rewards = [word for source in given for word in ("--reward", source)]
    (folder / f"{MODULE}.py").write_text(FUNCTIONS + LAST, encoding="utf-8")
    summary = train_as(
        "grpo", "--out", "group", *rewards, "--set", "train.grpo.welfare=nash",
        "--set", "train.grpo.utility=sigmoid",
    )  # fmt: skip
    assert summary["reward_after"] is not None
    for line in lines(folder / "group" / "metrics.jsonl"):
        assert 0 < line["reward"] < 1
    train_as(
        "best-of-n", "--out", "best", "-n", "3", "--set", "train.best_of_n.max_new_tokens=8", *rewards,
        "--set", "train.ppo.welfare=isoelastic", "--set", "train.ppo.aversion=2",
        "--set", "train.ppo.utility=sigmoid",
    )  # fmt: skip
    for row in lines(folder / "best" / "samples.jsonl"):
        u = [1 / (1 + math.exp(-value)) for value in row["scores"].values()]
        assert row["score"] == pytest.approx(2 / (1 / u[0] + 1 / u[1]))
    with pytest.raises(DataError, match=r"utility=sigmoid"):
        train_as("grpo", "--out", "raw", *rewards, "--set", "train.grpo.welfare=nash")
