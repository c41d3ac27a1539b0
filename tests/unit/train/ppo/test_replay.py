"""Stored rollouts come back as they were, to the batch that asks for them and to no other."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from train_models import CausalRollouts, tiny_causal, word_tokenizer

from constitute.config.ppo import PPOConfig
from constitute.errors import DataError, EngineError, UsageError
from constitute.progress import Silent
from constitute.train.common.agreement import NO_PUSH
from constitute.train.ppo.replay import open_replay, save_prompts, save_rollouts
from constitute.train.ppo.run import train_ppo
from constitute.types import Completion, Message, Prompt, SamplingParams

PROMPTS = [Prompt(id=f"p{k}", messages=(Message(role="user", content=f"q{k}"),)) for k in range(3)]
IDS = [[5, 6], [7], [8, 9, 4]]
# Log-probabilities that no shorter decimal can stand for.
COMPLETIONS = [
    Completion(text="a\nb \u2028", token_ids=(1, 2), logprobs=(-0.1 - 0.2, -1 / 3), finish_reason="stop"),
    Completion(text="", token_ids=(3,), logprobs=(-1e-17,), finish_reason="length"),
]


def sampled(seed, **changes):
    return SamplingParams(**{"max_tokens": 4, "temperature": 0.7, "seed": seed} | changes)


def batch(rows, completions=COMPLETIONS):
    return SimpleNamespace(
        prompts=[PROMPTS[row] for row in rows],
        completions=completions,
        sequences=[[*IDS[row], *one.token_ids] for row, one in zip(rows, completions, strict=True)],
        prompt_lengths=[len(IDS[row]) for row in rows],
        ended=[True, False],
    )


@pytest.fixture
def stored(tmp_path):
    save_prompts(tmp_path, PROMPTS, IDS)
    save_rollouts(tmp_path, 1, sampled(111), batch([2, 0]), {"rm": [0.25, -1.5], "judge": [1.0, 0.0]})
    swapped = batch([0, 1], COMPLETIONS[::-1])
    save_rollouts(tmp_path, 2, sampled(222), swapped, {"rm": [0.0, 0.0], "judge": [0.0, 0.0]})
    return tmp_path


def test_what_was_stored_comes_back_by_its_seed_whatever_the_order(stored) -> None:
    replay = open_replay(stored, "ppo")
    assert replay.replays and replay.prompts == PROMPTS and replay.prompt_ids == IDS
    # The second iteration first, as a run that goes on from a checkpoint asks.
    assert replay.generate_ids([IDS[0], IDS[1]], sampled(222), logprobs=True) == COMPLETIONS[::-1]
    assert replay.generate_ids([IDS[2], IDS[0]], sampled(111), logprobs=True) == COMPLETIONS
    bare = replay.generate_ids([IDS[2], IDS[0]], sampled(111), logprobs=False)
    assert [one.logprobs for one in bare] == [(), ()] and bare[0].text == COMPLETIONS[0].text
    assert open_replay(stored / "rollouts", "ppo").files == replay.files
    replay.update_weights(iter([]), fingerprint="f")
    with pytest.raises(EngineError, match="not a model"):
        replay.score_ids([[1]], [[2]])


def test_a_line_is_plain_json_with_all_there_is_to_know(stored) -> None:
    path = stored / "rollouts" / "iteration-000001.jsonl"
    first = json.loads(path.read_text(encoding="utf-8").split("\n")[0])
    assert first == {
        "iteration": 1,
        "sampling": sampled(111).model_dump(mode="json"),
        "prompt": PROMPTS[2].model_dump(mode="json"),
        "prompt_ids": [8, 9, 4],
        "completion": COMPLETIONS[0].model_dump(mode="json"),
        "ended": True,
        "rewards": {"rm": 0.25, "judge": 1.0},
    }
    # Stored again by a run that went on: replaced, not added to.
    save_rollouts(stored, 1, sampled(111), batch([2, 0]), {"rm": [9.0, 9.0]})
    lines = path.read_text(encoding="utf-8").split("\n")
    assert len(lines) == 3 and json.loads(lines[0])["rewards"] == {"rm": 9.0}
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "iteration-000001.jsonl", "iteration-000002.jsonl", "prompts.jsonl",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("prompts", "sampling", "logprobs", "says"),
    [
        ([IDS[2], IDS[0]], sampled(333), False, r"holds 2 iterations and none .* seed 333; .*iterations=2"),
        ([IDS[2], IDS[1]], sampled(111), False, r"jsonl:2: prompt 'p0' has other token ids"),
        ([IDS[2]], sampled(111), False, "holds 2 rollouts and 1 are wanted"),
        ([IDS[2], IDS[0]], sampled(111, temperature=1.0), False, r"temperature=0.7, not 1.0; replay"),
    ],
)
def test_another_batch_than_the_stored_one_is_refused(stored, prompts, sampling, logprobs, says) -> None:
    with pytest.raises(DataError, match=says):
        open_replay(stored, "ppo").generate_ids(prompts, sampling, logprobs=logprobs)


def test_log_probabilities_that_were_not_stored_are_not_made_up(tmp_path) -> None:
    save_prompts(tmp_path, PROMPTS, IDS)
    bare = [one.model_copy(update={"logprobs": ()}) for one in COMPLETIONS]
    save_rollouts(tmp_path, 1, sampled(1), batch([2, 0], bare), {})
    with pytest.raises(DataError, match=r"without log-probabilities; replay with train\.ppo\.old_logprobs"):
        open_replay(tmp_path, "ppo").generate_ids([IDS[2], IDS[0]], sampled(1), logprobs=True)


def test_a_folder_without_rollouts_and_a_torn_file_are_named(stored, tmp_path) -> None:
    with pytest.raises(UsageError, match=r"no stored rollouts in .*save_rollouts=true"):
        open_replay(tmp_path / "nothing", "ppo")
    path = stored / "rollouts" / "iteration-000002.jsonl"
    path.write_text(path.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    with pytest.raises(DataError, match=r"iteration-000002.jsonl:2: not a StoredRollout"):
        open_replay(stored, "ppo").generate_ids([IDS[0], IDS[1]], sampled(222), logprobs=True)


def ones(prompts, completions):
    return [float(completion.token_ids.count(1)) for completion in completions]


class Kill(Exception):
    """The run is killed here."""


class KilledAt(Silent):
    def __init__(self, iteration):
        self.left = iteration

    def advance(self, stage, status="ok", **figures):
        self.left -= 1
        if not self.left:
            raise Kill


def test_ppo_learns_the_same_from_stored_rollouts_without_a_model_to_sample_from(tmp_path) -> None:
    start = tmp_path / "start"
    model = tiny_causal(vocab=3, width=16, eos=2)
    torch.nn.init.zeros_(model.lm_head.weight)
    model.save_pretrained(start)
    word_tokenizer(["0", "1", "</s>"], eos="</s>", pad="0").save_pretrained(start)
    settings = {
        "iterations": 6, "batch_size": 16, "max_new_tokens": 3, "learning_rate": 3e-3, "checkpoint_every": 2,
        "kl_target": 1.0, "kl_horizon": 100, "missing_eos_penalty": None,
    }  # fmt: skip
    # More prompts than a batch holds, so that the draw depends on the whole list.
    prompts = [Prompt(id=f"p{k}", messages=(Message(role="user", content="go"),)) for k in range(20)]
    ids = [[k % 3] for k in range(20)]

    def run(out, engine, prompts, ids, progress=None, **changes):
        train_ppo(
            prompts, ids, str(start), ones, out, PPOConfig(**settings | changes),
            engine=engine, seed=5, progress=progress or Silent(),
        )  # fmt: skip
        return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]

    def learned(lines):
        # A replay has no engine to compare with, and takes another time.
        apart = {*NO_PUSH, "seconds", "tokens_per_second"}
        return [{name: line[name] for name in line if name not in apart} for line in lines]

    lines = run(tmp_path / "whole", CausalRollouts(start, {2}), prompts, ids, save_rollouts=True)
    replay = open_replay(tmp_path / "whole", "ppo")
    assert replay.prompts == prompts and replay.prompt_ids == ids and len(replay.files) == 6
    again = run(tmp_path / "again", replay, replay.prompts, replay.prompt_ids)
    assert learned(again) == learned(lines)
    assert lines[-1]["reward"] != lines[0]["reward"]
    assert all(line[name] is None for line in again for name in NO_PUSH)
    # Killed in its fifth iteration, a replay goes on with that one's rollouts.
    with pytest.raises(Kill):
        run(tmp_path / "killed", replay, prompts, ids, progress=KilledAt(5))
    assert learned(run(tmp_path / "killed", replay, prompts, ids)) == learned(lines)
    with pytest.raises(DataError, match=r"holds 6 iterations and none .* train.ppo.iterations=6"):
        run(tmp_path / "more", replay, prompts, ids, iterations=7)
