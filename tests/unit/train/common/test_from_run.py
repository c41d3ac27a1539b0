"""Prompts on their way from a run's settings to a trainer."""

from __future__ import annotations

import pytest
from unit.engines.test_render_training import TEMPLATES, trl_tokenizer

from constitute import clock
from constitute.config import RunConfig
from constitute.engines.base import ModelIdentity
from constitute.engines.render import Renderer, RenderSettings
from constitute.errors import DataError, RowError, UsageError
from constitute.pipeline import run_stages
from constitute.progress import Silent
from constitute.train.best_of_n.run import run_best_of_n
from constitute.train.common.artefact import rendering_inputs
from constitute.train.common.from_run import on_its_day, on_one_day, policy_of, rendered_prompts
from constitute.train.dpo import run_dpo
from constitute.train.imitation.conditioned import run_conditioned
from constitute.train.imitation.expert import run_expert_iteration
from constitute.train.ppo.setup import input_hashes
from constitute.train.reward.train import run_reward
from constitute.train.sft import run_sft
from constitute.types import Message, Prompt, Request

PROMPTS = [Prompt(id=text, messages=(Message(role="user", content=text),)) for text in ("ab", "refuse", "c")]


class Letters:
    """One token a letter, roles included; refuses one prompt."""

    identity = ModelIdentity(engine="letters", name="letters")

    def prompt_ids(self, request):
        text = "".join(message.role[0] + message.content for message in request.messages)
        if "refuse" in text:
            raise RowError("the template refuses it")
        return tuple(map(ord, text))


class Notes(Silent):
    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)


def test_prompts_are_rendered_with_the_system_turn_and_refused_ones_are_told():
    notes = Notes()
    kept, ids = rendered_prompts(PROMPTS, "S", Letters(), notes)
    assert [prompt.id for prompt in kept] == ["ab", "c"]
    assert ids == [[ord(letter) for letter in text] for text in ("sSuab", "sSuc")]
    assert notes.said == ["prompt refuse is left out: the template refuses it"]


def test_an_engine_that_knows_no_token_ids_is_refused_with_the_remedy():
    engine = Letters()
    engine.prompt_ids = lambda request: None
    with pytest.raises(
        UsageError, match=r"letters does not say the prompts' token ids; set engine\.tokenizer"
    ):
        rendered_prompts(PROMPTS, "", engine, Silent())


def test_a_training_keeps_the_day_it_began_and_its_recipe_stays_past_midnight(tmp_path, monkeypatch):
    pytest.importorskip("trl")
    renderers = []
    for day in ("2026-03-01", "2026-03-02"):
        monkeypatch.setattr(clock, "today", lambda day=day: day)
        config = on_its_day(RunConfig(run=tmp_path / "run"), tmp_path / "out")
        assert config.engine.date == "2026-03-01"
        settings = RenderSettings.of(config.engine)
        assert rendering_inputs(settings) == {"date": "2026-03-01"}
        renderers.append(Renderer(trl_tokenizer(TEMPLATES["llama3_2"]), "llama", settings=settings))
    hashes = [
        input_hashes([renderer.ids(Request(messages=PROMPTS[0].messages))], "policy", (), None)
        for renderer in renderers
    ]
    assert hashes[0] == hashes[1]
    fresh = on_its_day(RunConfig(run=tmp_path / "run"), tmp_path / "other")
    assert fresh.engine.date == "2026-03-02"


def test_a_training_in_a_run_is_told_the_runs_day(tmp_path, monkeypatch):
    monkeypatch.setattr(clock, "today", lambda: "2026-03-01")
    config = RunConfig(run=tmp_path / "run", engine={"kind": "fake"}, model="m")
    run_stages(config, ["generate"], prompts=PROMPTS[:1])
    monkeypatch.setattr(clock, "today", lambda: "2026-03-02")
    assert on_its_day(config, tmp_path / "run" / "sft").engine.date == "2026-03-01"
    assert not (tmp_path / "run" / "sft").exists()
    named = config.model_copy(update={"engine": config.engine.model_copy(update={"date": "2026-04-01"})})
    assert on_its_day(named, tmp_path / "run" / "sft").engine.date == "2026-04-01"


def test_a_fine_tuning_that_stopped_is_refused_with_both_ways_on(tmp_path):
    config = RunConfig(run=tmp_path / "my run", model="pocket")
    tuned = config.run / "sft"
    assert policy_of(config, None).endswith("pocket/weights")
    (tuned / "checkpoints").mkdir(parents=True)
    with pytest.raises(
        UsageError,
        match=r"sft is not finished .* `constitute train sft --run '.*my run'` with its options, or name "
        r"the model to start from with --model, such as --model pocket$",
    ):
        policy_of(config, None)
    assert policy_of(config, "other") == "other"
    (tuned / "training.json").write_text("{}")
    assert policy_of(config, None) == str(tuned)


@pytest.mark.parametrize("train", [run_sft, run_dpo, run_reward, run_conditioned])
def test_a_start_on_data_that_cannot_be_read_leaves_no_folder(tmp_path, train):
    (tmp_path / "data.jsonl").write_text('{"unknown": 1}\n')
    config = RunConfig(model="no-such-model", run=tmp_path / "run")
    with pytest.raises(DataError):
        train(config, data=tmp_path / "data.jsonl", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("train", [run_best_of_n, run_expert_iteration])
def test_a_start_with_a_reward_that_cannot_be_opened_leaves_no_folder(tmp_path, train):
    config = RunConfig(model="no-such-model", run=tmp_path / "run")
    with pytest.raises(UsageError):
        train(config, PROMPTS, reward="no_such_module:function", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_training_that_stops_later_keeps_its_day_and_a_folder_that_was_there_stays(tmp_path):
    config, begun, own = RunConfig(run=tmp_path / "run"), tmp_path / "begun", tmp_path / "own"
    with pytest.raises(UsageError), on_one_day(config, begun):
        (begun / "checkpoints").mkdir()
        raise UsageError("later")
    assert (begun / "rendering.json").is_file()
    own.mkdir()
    with pytest.raises(UsageError), on_one_day(config, own):
        raise UsageError("at the start")
    assert own.is_dir() and not list(own.iterdir())
    # Killed before its first checkpoint: the day of its rows is known.
    with pytest.raises(KeyboardInterrupt), on_one_day(config, own):
        raise KeyboardInterrupt
    assert (own / "rendering.json").is_file()
