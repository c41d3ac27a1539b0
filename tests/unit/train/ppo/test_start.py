"""What a training by rewards finds out before its engine is opened, and how it says which command runs."""

from __future__ import annotations

import pytest

from constitute.config import load_config
from constitute.engines import ENGINES, open_engine
from constitute.engines.deferred import DeferredRollout
from constitute.engines.swap import sampler_when_asked, server_prompts
from constitute.errors import RunMismatch, UsageError
from constitute.progress import Silent
from constitute.train.ppo.start import run_ppo
from constitute.types import Message, Prompt, Request

pytest.importorskip("trl")
PROMPTS = [Prompt(id=f"p{k}", messages=(Message(role="user", content=f"What is {k}?"),)) for k in range(30)]
METHODS = {
    "ppo": ("ppo", {"critic": "shared"}),
    "grpo": ("grpo", {"samples_per_prompt": 2}),
    "online_dpo": ("ppo", {"advantage": "online_dpo", "samples_per_prompt": 2}),
    "f_dpg": ("grpo", {"advantage": "f_dpg", "samples_per_prompt": 2}),
}
SERVER = "http://127.0.0.1:9"


class Loads:
    """An engine that must not be opened."""

    def __init__(self, model, config):
        raise AssertionError("the engine was opened")


class Says(Silent):
    def __init__(self):
        self.stages = set()

    def start(self, stage, total, done=0):
        self.stages.add(stage)

    def advance(self, stage, status, **figures):
        self.stages.add(stage)

    def finish(self, stage):
        self.stages.add(stage)


def length(_, completions):
    return [float(len(one.token_ids)) for one in completions]


def train(run, model, named="ppo", *, engine=None, url=None, progress=None, **changes):
    method, settings = METHODS[named]
    settings = {"iterations": 1, "batch_size": 4, "max_new_tokens": 4} | settings | changes
    sets = [f"train.{method}.{name}={value}" for name, value in settings.items()]
    sets += ["engine.kind=transformers"] + ([f"engine.rollout_url={url}"] if url else [])
    config = load_config(None, sets, {"run": str(run)})
    return run_ppo(
        config, PROMPTS, method=method, policy=str(model), reward=length, out=run, engine=engine,
        progress=progress,
    )  # fmt: skip


@pytest.mark.parametrize("named", METHODS)
@pytest.mark.parametrize("url", [None, SERVER])
def test_what_has_ended_or_has_other_settings_opens_no_engine(tiny_model, tmp_path, monkeypatch, named, url):
    says = Says()
    summary = train(tmp_path / "out", tiny_model, named, progress=says)
    assert says.stages == {f"train {METHODS[named][0]}"}
    monkeypatch.setitem(ENGINES, "transformers", f"{__name__}:Loads")
    assert train(tmp_path / "out", tiny_model, named, url=url)["iterations"] == summary["iterations"]
    with pytest.raises(RunMismatch, match=r"config\.clip was 0\.2, now 0\.3"):
        train(tmp_path / "out", tiny_model, named, url=url, clip=0.3)
    # Of a run that was killed there is a checkpoint alone.
    (tmp_path / "out" / "training.json").unlink()
    with pytest.raises(RunMismatch, match=r"config\.clip was 0\.2, now 0\.3"):
        train(tmp_path / "out", tiny_model, named, url=url, clip=0.3)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stop_on": "gold", "held_out": 0.7}, r"ppo\.stop_on names gold, and the parts .* are length"),
        ({"stop_on": "length", "held_out": 0.5}, r"ppo\.stop_on compares policies on 15 held-out prompts"),
        ({"held_out": 0.01}, "of 30 different prompts leaves 30 to train on and 0 held out"),
        ({"value_warmup": 1, "advantage": "reinforce++", "iterations": 2}, "value_warmup trains a critic"),
    ],
)
def test_what_cannot_work_is_refused_before_the_engine_is_opened(
    tiny_model, tmp_path, monkeypatch, changes, says
):
    monkeypatch.setitem(ENGINES, "transformers", f"{__name__}:Loads")
    with pytest.raises(UsageError, match=says):
        train(tmp_path / "out", tiny_model, **changes)
    assert not (tmp_path / "out").exists()
    with pytest.raises(AssertionError, match="the engine was opened"):
        train(tmp_path / "out", tiny_model)


def test_opening_the_engine_leaves_the_trainer_its_threads(tiny_model, tmp_path, monkeypatch):
    """A small model is sampled with one thread and trained with all."""
    import torch

    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("constitute.threads._cores", lambda: 2)
    before, seen = torch.get_num_threads(), []

    def watched(_, completions):
        seen.append(torch.get_num_threads())
        return [float(len(one.token_ids)) for one in completions]

    monkeypatch.setitem(globals(), "length", watched)
    try:
        train(tmp_path / "out", tiny_model)
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {2}


def test_a_limit_of_the_sync_gap_may_be_set_on_the_way(tiny_model, tmp_path):
    """The error of a wide gap says to set it and go on."""
    summary = train(tmp_path / "out", tiny_model)
    assert train(tmp_path / "out", tiny_model, sync_gap_limit=0.5)["seconds"] == summary["seconds"]


def test_prompts_are_rendered_alike_before_and_after_the_engine_is_open(tiny_model):
    config = load_config(None, ["engine.kind=transformers"], {}).engine
    asked = Request(messages=PROMPTS[0].messages)
    engine = open_engine(str(tiny_model), config)
    waiting = sampler_when_asked(str(tiny_model), config)
    assert isinstance(waiting, DeferredRollout) and waiting.context_length is None
    assert waiting.prompt_ids(asked) == engine.prompt_ids(asked)
    assert server_prompts(str(tiny_model), config)(asked) == engine.prompt_ids(asked)
    assert waiting.opened().context_length == engine.context_length is not None


def test_an_engine_that_was_not_open_says_its_context_when_prompts_are_measured(tiny_model, tmp_path):
    config = load_config(None, ["engine.kind=transformers"], {}).engine
    waiting = sampler_when_asked(str(tiny_model), config)
    context = open_engine(str(tiny_model), config).context_length
    with pytest.raises(Exception, match=f"no prompt leaves room for {context} new tokens"):
        train(tmp_path / "out", tiny_model, engine=waiting, max_new_tokens=context)
