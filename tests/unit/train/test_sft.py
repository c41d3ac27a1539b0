"""How SFT shares a batch between devices, and how a summary and the next command are shown."""

import io
import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from constitute.cli import options
from constitute.cli.train import shared
from constitute.config import RunConfig, load_config
from constitute.errors import RunMismatch, UsageError
from constitute.progress.show import Plain
from constitute.train.common.artefact import check_recipe, recipe
from constitute.train.common.fit import Job
from constitute.train.common.from_run import keep_settings
from constitute.train.imitation.callback import Callback
from constitute.train.imitation.trainer import rows_and_passes


@pytest.mark.parametrize(
    ("batch", "most", "devices", "expected"),
    [
        (32, 8, 1, (8, 4)),
        (32, 8, 2, (8, 2)),
        # 32 over 8 devices are 4 rows each, in one pass.
        (32, 8, 8, (4, 1)),
        (12, 5, 1, (4, 3)),
        (7, 8, 1, (7, 1)),
        (13, 8, 1, (1, 13)),
    ],
)
def test_all_devices_together_take_one_batch(batch, most, devices, expected):
    rows, passes = rows_and_passes(batch, most, devices)
    assert (rows, passes) == expected and rows * passes * devices == batch


@pytest.mark.parametrize(("batch", "devices"), [(32, 3), (2, 4)])
def test_a_batch_that_devices_cannot_share_is_refused(batch, devices):
    with pytest.raises(UsageError) as told:
        rows_and_passes(batch, 8, devices)
    assert str(told.value) == (
        f"train.sft.batch_size is {batch}, which {devices} devices cannot share equally; set it to a "
        f"multiple of {devices}"
    )


def test_changed_settings_are_shown_old_and_new(tmp_path):
    config = RunConfig().train.sft
    old = recipe("sft", config, 0, data="aa", model="m")
    new = recipe("sft", config.model_copy(update={"learning_rate": 1e-5}), 1, data="aa", model="m")
    check_recipe(tmp_path, old, old)
    with pytest.raises(RunMismatch) as told:
        check_recipe(tmp_path, old, new)
    assert "config.learning_rate was 2e-05, now 1e-05; seed was 0, now 1; give the same" in str(told.value)
    assert "another --out (`constitute run` takes a new --run DIR, with --reuse and the old one)" in str(
        told.value
    )


def test_a_run_keeps_the_settings_it_was_trained_with(tmp_path):
    keep_settings(load_config(None, ["train.sft.epochs=1"], {"run": str(tmp_path)}), "sft")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "config.yaml").write_text(
        "label: {min_mass: 0.25}\ntrain: {sft: {epochs: 3}, dpo: {beta: 0.3}}\n"
    )
    given = load_config(None, ["train.sft.epochs=1", "train.dpo.beta=9"], {"run": str(tmp_path)})
    keep_settings(given, "sft")
    kept = load_config(tmp_path / "config.yaml")
    assert (kept.train.sft.epochs, kept.train.dpo.beta, kept.label.min_mass) == (1.0, 0.3, 0.25)


def shown(*arguments):
    @options.command()
    @options.compose(options.common, shared.data)
    def command(run_dir, config_file, sets, seed, as_json, data):
        config = RunConfig(run=run_dir)
        figures = {
            "rows": 3,
            "held_out": {"nll": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 7}},
            "bins": [1, 2],
        }
        figures["empty"] = {"value": None, "low": None, "high": None, "n": 0}
        shared.print_summary(figures, as_json, shared.following("train reward", config, model=data[0]))

    return CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_a_summary_is_a_table_with_intervals_and_names_the_next_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my run" / "export").mkdir(parents=True)
    (tmp_path / "my run" / "export" / "preferences.jsonl").touch()
    (tmp_path / "run.yaml").touch()
    done = shown("--run", "my run", "--config", "run.yaml", "--data", "a", "--data", "b")
    assert [line.split(None, 1) for line in done.stdout.splitlines()] == [
        ["figure", "value"],
        ["rows", "3"],
        ["held_out", "nll  0.500 (0.400 to 0.600, n = 7)"],
        ["bins", "2 rows, see training.json"],
        ["empty", "- (n = 0)"],
    ]
    assert done.stderr == "next: constitute train reward --run 'my run' --config run.yaml --model a\n"
    found = json.loads(shown("--json", "--data", "a").stdout)
    assert found["event"] == "result" and found["held_out"]["nll"]["n"] == 7


def test_the_trainer_says_that_a_step_is_under_way_and_which_part_of_it_is_done(tmp_path):
    out = io.StringIO()
    progress = Plain(out)
    told = Callback(Job("sft", tmp_path, {}, 0, progress), [], 96)
    arguments = SimpleNamespace(gradient_accumulation_steps=4)
    state = SimpleNamespace(max_steps=3, global_step=0, epoch=0.0)
    told.on_train_begin(arguments, state, None)
    told.on_step_begin(arguments, state, None)
    assert out.getvalue().splitlines() == ["train sft: 3 steps", "train sft: the first step is under way"]
    for share in (0.25, 0.5, 0.75):
        told.on_substep_end(arguments, state, None)
        assert progress.stages["train sft"].share == share
    told.on_log(arguments, state, None, logs={"loss": 1.0})
    told.on_step_begin(arguments, state, None)
    assert (progress.stages["train sft"].done, progress.stages["train sft"].share) == (1, 0.0)
