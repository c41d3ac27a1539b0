"""What is kept of a PPO run while it goes: samples, findings, the progress line and the trackers' figures."""

from __future__ import annotations

import io
import json
import struct
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from constitute.cli.train.doctor import doctor
from constitute.config.ppo import PPOConfig, RewardSource
from constitute.errors import DataError, UsageError
from constitute.files import read_log
from constitute.progress import Silent
from constitute.progress.show import Plain
from constitute.train.common import trackers
from constitute.train.common.trackers import (
    check_trackers,
    close_trackers,
    log_samples,
    open_trackers,
    scalars,
)
from constitute.train.ppo.held_out import Evaluation
from constitute.train.ppo.watch import (
    SHOWN,
    drawn_rows,
    examine,
    open_watch,
    prompt_text,
    shown,
    table_row,
)
from constitute.types import Completion, Message, Prompt

MADE_BY = {"kind": "ppo", "seed": 3}


class Notes(Silent):
    def __init__(self):
        self.texts = []

    def note(self, text):
        self.texts.append(text)


def rollouts_of(texts):
    prompts = [
        Prompt(id=f"p{k}", messages=(Message(role="user", content=f"q{k}"),)) for k in range(len(texts))
    ]
    completions = [Completion(text=text, token_ids=tuple(range(len(text)))) for text in texts]
    return SimpleNamespace(
        prompts=prompts, completions=completions, ended=[k % 2 == 0 for k in range(len(texts))]
    )


def line_of(iteration, **figures):
    return {"iteration": iteration, "n": 8, "reward": 0.5, "seconds": {"generate": 1.5}, **figures}


def go(out, config, iterations, done=0, progress=None, **figures):
    """Iterations `done` + 1 to `iterations`, as the trainer runs them; returns the findings."""
    out.mkdir(exist_ok=True)
    kept = read_log(out / "metrics.jsonl")[:done]
    (out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    with open_watch(out, config, MADE_BY, done=done, progress=progress or Silent()) as watch:
        for iteration in range(done + 1, iterations + 1):
            line = line_of(iteration, **figures)
            with (out / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            texts = [f"answer {iteration} {k}" for k in range(8)]
            watch.iteration(line, rollouts_of(texts), [k / 10 for k in range(8)])
        return watch.findings


def test_samples_are_chosen_by_seed_and_iteration_with_their_rewards(tmp_path) -> None:
    go(tmp_path / "a", PPOConfig(samples_kept=3), 5)
    samples = [json.loads(text) for text in (tmp_path / "a" / "samples.jsonl").read_text().splitlines()]
    assert [sample["iteration"] for sample in samples] == [i for i in range(1, 6) for _ in range(3)]
    for sample in samples:
        k = int(sample["id"][1:])
        assert sample == {
            "iteration": sample["iteration"], "id": f"p{k}", "prompt": f"q{k}",
            "completion": f"answer {sample['iteration']} {k}", "reward": k / 10, "ended": k % 2 == 0,
            "tokens": len(f"answer {sample['iteration']} {k}"), "parts": {},
        }  # fmt: skip
    drawn = [[f"p{row}" for row in drawn_rows(i, 8, 3, seed=3)] for i in range(200)]
    assert drawn[1] == [sample["id"] for sample in samples[:3]]
    # Every row comes up, about as often as the others: 200 * 3 / 8 = 75.
    counts = [sum(f"p{k}" in ids for ids in drawn) for k in range(8)]
    assert all(len(set(ids)) == 3 for ids in drawn) and min(counts) > 45 and max(counts) < 105
    assert [f"p{row}" for row in drawn_rows(1, 8, 3, seed=4)] != drawn[1]
    assert drawn_rows(1, 8, 99, seed=3) == list(range(8))
    assert drawn_rows(1, 8, 0, seed=3) == []


def test_a_run_that_goes_on_keeps_what_came_before_and_no_more(tmp_path) -> None:
    wrong = {"clip_fraction": 0.5}
    config = PPOConfig(samples_kept=2, report_to=("tensorboard",))
    whole = go(tmp_path / "whole", config, 9, **wrong)
    killed = tmp_path / "killed"
    go(killed, config, 7, **wrong)
    name = json.loads((killed / "watch.json").read_text())["run_id"]
    with (killed / "samples.jsonl").open("a") as file:
        file.write('{"iteration": 8, "id": "torn')
    notes = Notes()
    # From a checkpoint after iteration 4: the finding of iteration 5 comes anew, and once.
    assert go(killed, config, 9, done=4, progress=notes, **wrong) == whole
    assert [one.kind for one in whole] == ["clip_fraction_high"]
    assert len(notes.texts) == 1 and notes.texts[0].startswith("iteration 5, warning: 50 % of tokens")
    for file in ("samples.jsonl", "findings.jsonl"):
        assert (killed / file).read_text() == (tmp_path / "whole" / file).read_text()
    assert json.loads((killed / "watch.json").read_text())["run_id"] == name
    # From iteration 6 it is not said again.
    assert go(killed, config, 9, done=6, progress=(quiet := Notes()), **wrong) == whole
    assert quiet.texts == []
    seen = events(killed / "tensorboard")
    # What was logged after the checkpoint is marked as gone, and logged again.
    assert seen["reward"] == [(i, 0.5) for i in (1, 2, 3, 4, 5, 6, 7, 5, 6, 7, 8, 9, 7, 8, 9)]
    assert seen["session start"] == [(5, None), (7, None)]


def test_only_the_first_process_leaves_files(tmp_path) -> None:
    with open_watch(tmp_path / "x", PPOConfig(), MADE_BY, done=0, progress=Silent(), main=False) as watch:
        assert watch.findings == ()
    assert not (tmp_path / "x").exists()


def test_the_progress_line_reads_well() -> None:
    figures = {
        "reward": 0.51234, "held_out/reward": 0.25, "kl": 3.2, "entropy": 1.104, "length": 84.5,
        "eos_rate": 0.9883,
        "clip_fraction": 0.0312, "explained_variance": None, "tokens_per_second": 23104.4, "value_loss": 0.1,
    }  # fmt: skip
    assert "explained_variance" not in shown(figures)
    values = shown(figures | {"explained_variance": 0.418})
    assert tuple(values) == SHOWN
    out = io.StringIO()
    progress = Plain(out)
    progress.start("train ppo", 200, 10)
    state = progress.stages["train ppo"]
    state.started -= 64.0
    progress.advance("train ppo", **values)
    state.first -= 32.0
    progress.every_s = 0.0
    progress.advance("train ppo", **values)
    line = out.getvalue().splitlines()[-1]
    assert line == (
        "train ppo: 12 of 200 steps, reward 0.5123, held_out/reward 0.25, kl 3.2, entropy 1.104, "
        "length 84.5, eos_rate 0.9883, clip_fraction 0.0312, explained_variance 0.418, "
        "tokens_per_second 23104, 32 s/step"
    )


def test_scalars_are_numbers_alone() -> None:
    line = line_of(4, stopped_early=True, explained_variance=None, kind="ppo")
    assert scalars(line) == {
        "iteration": 4.0, "n": 8.0, "reward": 0.5, "stopped_early": 1.0, "seconds/generate": 1.5,
    }  # fmt: skip


def events(folder):
    """(step, value) of each tag of the event files, in the order they were written."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in sorted(folder.glob("events.*")):
        content = path.read_bytes()
        while content:
            # A record: its length, a checksum, the bytes, a checksum.
            (size,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + size])
            content = content[12 + size + 4 :]
            if event.HasField("session_log"):
                found.setdefault("session start", []).append((event.step, None))
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_tensorboard_holds_the_figures_of_every_iteration(tmp_path) -> None:
    (tracker,) = open_trackers(["tensorboard"], tmp_path, "id", MADE_BY)
    for iteration in (1, 2, 3):
        tracker.log(scalars(line_of(iteration, kl=iteration / 4, explained_variance=None)), iteration)
    close_trackers([tracker])
    found = events(tmp_path / "tensorboard")
    assert found["kl"] == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert found["seconds/generate"] == [(1, 1.5), (2, 1.5), (3, 1.5)]
    assert set(found) == {"iteration", "n", "reward", "kl", "seconds/generate"}


ROWS = [
    {"id": "p1", "prompt": "q|1", "response": "<b>\n*x*", "reward": 0.5, "reward/judge": 2.0},
    {"id": "p2", "prompt": "q2", "response": "y", "reward": 0.25, "reward/judge": 1.0},
]


def test_a_table_of_samples_in_tensorboard_is_text_that_cannot_break_out(tmp_path) -> None:
    from tensorboardX.proto.event_pb2 import Event

    (tracker,) = open_trackers(["tensorboard"], tmp_path, "id", MADE_BY)
    log_samples(tracker, ROWS, 3)
    log_samples(tracker, [], 4)
    close_trackers([tracker])
    content = b"".join(path.read_bytes() for path in (tmp_path / "tensorboard").glob("events.*"))
    found = []
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + size])
        content = content[12 + size + 4 :]
        found += [(event.step, value.tensor.string_val[0].decode()) for value in event.summary.value]
    assert found == [(3, (
        "| id | prompt | response | reward | reward/judge |\n| --- | --- | --- | --- | --- |\n"
        "| p1 | q\\|1 | &lt;b&gt;<br>\\*x\\* | 0.5 | 2 |\n| p2 | q2 | y | 0.25 | 1 |"
    ))]  # fmt: skip


def test_wandb_and_trackio_get_tables(monkeypatch) -> None:
    calls = []

    class Frame(list):
        pass

    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace(Table=lambda dataframe: ("table", dataframe)))
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=Frame))
    wandb = SimpleNamespace(name="wandb", log_table=lambda *args, **named: calls.append((args, named)))
    log_samples(wandb, ROWS, 3)
    columns = ["id", "prompt", "response", "reward", "reward/judge"]
    data = [list(row.values()) for row in ROWS]
    assert calls.pop() == (("samples",), {"columns": columns, "data": data, "step": 3})
    log_samples(SimpleNamespace(name="trackio", log=lambda *args: calls.append(args)), ROWS, 3)
    assert calls == [({"samples": ("table", Frame(ROWS))}, 3)]


def test_samples_hold_the_parts_of_their_reward(tmp_path) -> None:
    config = PPOConfig(samples_kept=1, report_to=("tensorboard",))
    texts, parts = [f"a{k}" for k in range(8)], {"rm": [k / 10 for k in range(8)], "gold": [1.0] * 8}
    with open_watch(tmp_path, config, MADE_BY, done=0, progress=Silent()) as watch:
        watch.iteration(line_of(1), rollouts_of(texts), parts["rm"], parts)
    (sample,) = watch.samples
    assert sample.parts == {"rm": sample.reward, "gold": 1.0}
    assert table_row(sample) == {
        "id": sample.id, "prompt": sample.prompt, "response": sample.completion, "reward": sample.reward,
        "reward/rm": sample.reward, "reward/gold": 1.0,
    }  # fmt: skip
    assert table_row(sample.model_copy(update={"parts": {"rm": 0.5}})).keys() == {
        "id", "prompt", "response", "reward",
    }  # fmt: skip


def test_doctor_shows_proxy_against_gold_on_held_out_prompts(tmp_path) -> None:
    out = tmp_path / "ppo"
    go(out, PPOConfig(), 3)
    rows = [
        Evaluation(
            iteration=k, rewards=(k, k + 1.0), parts={"rm": (k, k + 1.0), "gold": (-k, 1.0 - k)},
            lengths=(1, 1), ended=(True, True),
        )
        for k in (0, 2, 3)
    ]  # fmt: skip
    (out / "held_out.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in rows))
    shown_text = CliRunner().invoke(doctor, [str(out)]).stdout
    assert (
        "on 2 held-out prompts, measured 3 times:\n"
        "  sum: 0.500 at the start, 3.500 after iteration 3, 3.500 at the end; gain +3.000 "
        "(+3.000 to +3.000)\n"
    ) in shown_text
    assert "  gold: 0.500 at the start, -2.500 after iteration 3, -2.500 at the end;" in shown_text
    found = json.loads(CliRunner().invoke(doctor, [str(out), "--json"]).stdout)
    assert found["held_out"]["parts"]["gold"]["gain"]["value"] == -3.0


@pytest.mark.parametrize("name", sorted(trackers.PACKAGES))
def test_a_tracker_that_is_not_installed_names_what_to_install(name, monkeypatch, tmp_path) -> None:
    package = trackers.PACKAGES[name][1]
    monkeypatch.setattr(trackers, "find_spec", lambda module: None)
    with pytest.raises(
        UsageError, match=rf"train\.grpo\.report_to names {name}, .*run `pip install {package}`"
    ):
        check_trackers([name], "grpo")
    with pytest.raises(UsageError, match=f"report_to names {name}"):
        open_watch(tmp_path, PPOConfig(report_to=(name,)), MADE_BY, done=0, progress=Silent())


def test_wandb_and_trackio_get_the_run_id_and_the_steps(monkeypatch, tmp_path, capsys) -> None:
    calls = []

    def finish():
        print("bye")
        calls.append(("finish",))

    def log(figures, step):
        calls.append(("log", figures, step))

    def init(**settings):
        print("hello")
        calls.append(settings)
        return SimpleNamespace(log=log, finish=finish)

    module = SimpleNamespace(init=init, finish=finish, errors=SimpleNamespace(Error=OSError))
    for name in ("wandb", "trackio"):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(trackers, "find_spec", lambda module: module)
    for name in ("wandb", "trackio"):
        (tracker,) = open_trackers([name], tmp_path, "abc12345", MADE_BY, done=2)
        tracker.log({"kl": 0.5}, 3)
        close_trackers([tracker])
    first, second = calls[0], calls[3]
    assert (first["project"], first["id"], first["resume"]) == ("constitute", "abc12345", "allow")
    assert (second["project"], second["name"], second["resume"]) == (
        "constitute", f"{tmp_path.name}-abc12345", "allow",
    )  # fmt: skip
    assert first["config"] == second["config"] == MADE_BY
    assert calls[1:3] == calls[4:6] == [("log", {"kl": 0.5}, 3), ("finish",)]
    # Both greet on stdout, where our results go.
    assert capsys.readouterr().out == ""


def test_doctor_prints_the_findings_and_what_has_passed(tmp_path) -> None:
    out = tmp_path / "ppo"
    go(out, PPOConfig(), 6, clip_fraction=0.5)
    shown_text = CliRunner().invoke(doctor, [str(out)])
    assert shown_text.exit_code == 0
    assert shown_text.stdout == (
        "1 finding in 6 iterations and 24 sampled completions\n"
        "changes are judged from 12 iterations on\n\n"
        "warning: 50 % of tokens left the clip range over the last 5 iterations\n"
        "  do: lower train.ppo.learning_rate or train.ppo.epochs, or set train.ppo.target_kl\n"
    )
    go(out, PPOConfig(), 12, done=6, clip_fraction=0.01)
    later = CliRunner().invoke(doctor, [str(out)])
    assert later.stdout.startswith("nothing wrong in 12 iterations and 48 sampled completions\n")
    assert "seen earlier, not any more:\n  iteration 5: 50 % of tokens" in later.stdout
    found = json.loads(CliRunner().invoke(doctor, [str(out), "--json"]).stdout)
    assert (found["iterations"], found["samples"], found["findings"]) == (12, 48, [])
    assert [note["iteration"] for note in found["noted"]] == [5]


def test_doctor_reads_a_run_that_is_still_writing_and_refuses_other_folders(tmp_path) -> None:
    out = tmp_path / "ppo"
    go(out, PPOConfig(), 3)
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 4, "rew')
    found, noted, iterations, samples = examine(out)
    assert (found, noted, iterations, samples) == ([], [], 3, 12)
    few = CliRunner().invoke(doctor, [str(out)]).stdout
    assert few == (
        "nothing wrong in 3 iterations and 12 sampled completions\nchanges are judged from 12 iterations on\n"
    )
    # A write cut off within a character.
    with (out / "samples.jsonl").open("ab") as file:
        file.write('{"completion": "日'.encode()[:-1])
    assert examine(out) == ([], [], 3, 12)
    (out / "findings.jsonl").write_text('{"iteration": 1}\n')
    with pytest.raises(DataError, match=r"findings\.jsonl holds no Noted \(Field required\)"):
        examine(out)
    with pytest.raises(UsageError, match=r"no watch.json in .*; give the folder that"):
        examine(tmp_path)


def test_doctor_of_no_iteration_has_nothing_to_examine(tmp_path) -> None:
    go(tmp_path / "ppo", PPOConfig(), 0)
    shown_text = CliRunner().invoke(doctor, [str(tmp_path / "ppo")])
    assert shown_text.stdout == f"nothing to examine: no iteration is finished in {tmp_path / 'ppo'}\n"
    found = json.loads(CliRunner().invoke(doctor, [str(tmp_path / "ppo"), "--json"]).stdout)
    assert found == {"iterations": 0, "samples": 0, "findings": [], "noted": []}


def test_parts_of_weight_zero_are_watched(tmp_path) -> None:
    config = PPOConfig(rewards=(RewardSource(source="rm"), RewardSource(source="judge", weight=0.0)))
    with open_watch(tmp_path, config, MADE_BY, done=0, progress=Silent()) as watch:
        assert watch.watched == ("judge",)
    with open_watch(tmp_path, config, MADE_BY, done=0, progress=Silent(), watched=("x",)) as watch:
        assert watch.watched == ("x",)


def test_prompt_text_names_roles_where_there_are_several_turns() -> None:
    one, two = Message(role="system", content="be brief"), Message(role="user", content="why?")
    assert prompt_text(Prompt(id="a", messages=(two,))) == "why?"
    assert prompt_text(Prompt(id="a", messages=(one, two))) == "system: be brief\n\nuser: why?"
