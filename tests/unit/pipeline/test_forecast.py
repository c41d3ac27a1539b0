"""What a run would ask, against counts by hand and against what the run then asks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripted import constitution, prompt

from constitute.cli.errors import run_and_exit
from constitute.cli.main import cli
from constitute.config import RunConfig, load_config
from constitute.constitution.write import to_yaml
from constitute.errors import RunMismatch
from constitute.pipeline import run_stages
from constitute.pipeline.forecast import Forecast, StageForecast, forecast

PROMPTS = [prompt(f"p{n}") for n in range(6)]


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    path = tmp_path / "c.yaml"
    path.write_text(to_yaml(constitution()))
    sets = [f"constitution={path}", f"run={tmp_path / 'run'}", "generate.n=2", "model=m"]
    return load_config(None, [*sets, "engine.kind=fake", "generate.max_tokens=40", "revise.max_tokens=50"])


def with_(config: RunConfig, *sets: str) -> RunConfig:
    from constitute.config.load import dump_config

    path = Path(config.run).parent / "run.yaml"
    path.write_text(dump_config(config))
    return load_config(path, sets)


def requests(found: Forecast) -> dict[str, int]:
    return {stage.stage: stage.requests for stage in found.stages}


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        # 6 prompts x 2 samples; a critique and a revision of each; 6 pairs x 1 principle x 2 orders.
        ([], {"generate": 12, "revise": 24, "label": 12}),
        (["revise.rounds=3", "revise.critique=false"], {"generate": 12, "revise": 36, "label": 12}),
        # 3 principles x 2 orders x (6 pairs of samples and 12 of revisions).
        (["label.principles=all", "label.pairs=both"], {"generate": 12, "revise": 24, "label": 108}),
        (
            ["label.pairs=revision", "label.votes=sampled"],
            {"generate": 12, "revise": 24, "label": 12 * 2 * 8},
        ),
        # Two answers with the principle, two without, of 6 pairs.
        (["label.method=likelihood"], {"generate": 12, "revise": 24, "label": 24}),
        # What is compared against is asked once for all three principles.
        (["label.method=likelihood", "label.principles=all"], {"generate": 12, "revise": 24, "label": 48}),
    ],
)
def test_requests_are_those_of_the_settings_and_those_that_are_asked(
    config: RunConfig, sets: list[str], expected: dict[str, int]
) -> None:
    config = with_(config, *sets)
    assert requests(forecast(config, PROMPTS)) == expected
    assert not Path(config.run).exists()
    counts = run_stages(config, config.chain, prompts=PROMPTS)
    assert {stage: count.asked for stage, count in counts.items()} == expected


def test_tokens_are_exact_for_the_first_stage_and_no_less_than_the_answers_after(config: RunConfig) -> None:
    found = forecast(config, PROMPTS).stages
    # No tokenizer: four characters a token, each prompt asked twice.
    assert found[0].prompt_tokens == sum(
        2 * -(-len(message.content) // 4) for each in PROMPTS for message in each.messages
    )
    assert [stage.answer_tokens for stage in found] == [12 * 40, 24 * 50, 0]
    # The answer, at least 40 words of the placeholder, is a part of each revision's prompt.
    assert found[1].prompt_tokens > 24 * 36


def test_what_is_there_is_not_asked_again(config: RunConfig) -> None:
    run_stages(config, ["generate"], prompts=PROMPTS[:4])
    found = forecast(config, PROMPTS)
    assert (found.stages[0].done, found.stages[0].requests, found.stages[0].rows) == (8, 4, 12)
    assert found.identified
    fresh = with_(config, f"run={config.run.parent / 'new'}", f"reuse={config.run}")
    again = forecast(fresh, PROMPTS).stages[0]
    assert (again.done, again.requests, again.cached) == (0, 4, 8)
    with pytest.raises(RunMismatch, match=r"run holds generate rows .*temperature was 1.0, now 0.5"):
        forecast(with_(config, "generate.temperature=0.5"), PROMPTS)


def test_a_probe_tells_how_long_answers_are(config: RunConfig) -> None:
    found = forecast(config, PROMPTS, probe=3)
    # The fake answers with 4 to 27 tokens.
    assert found.answer_length is not None and 4 <= found.answer_length <= 27
    assert found.seconds is not None and found.seconds >= 0
    assert found.stages[0].answer_tokens == 12 * round(found.answer_length)
    assert not Path(config.run).exists()


def test_a_probe_asks_the_judge_too(config: RunConfig) -> None:
    found = forecast(with_(config, "judge=other"), PROMPTS, probe=3)
    assert found.seconds is not None and requests(found)["label"] == 12


def test_of_many_prompts_a_part_stands_for_all(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("constitute.pipeline.forecast._MOST", 3)
    found = forecast(config, PROMPTS)
    assert (found.sampled, found.prompts) == (3, 6)
    assert requests(found) == {"generate": 12, "revise": 24, "label": 12}


def test_the_price_is_of_a_million_tokens() -> None:
    figures = {"rows": 1, "done": 0, "requests": 1, "cached": 0}
    stage = StageForecast(stage="generate", **figures, prompt_tokens=2_000_000, answer_tokens=500_000)
    found = Forecast(prompts=1, sampled=1, stages=(stage, stage), tokenizer=True, identified=True)
    assert found.price(0.15, 0.6) == pytest.approx(4 * 0.15 + 1 * 0.6)


def test_the_command_and_the_dry_run_say_the_same(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [json.dumps({"id": f"p{n}", "prompt": f"Question {n}?"}) for n in range(6)]
    (tmp_path / "p.jsonl").write_text("\n".join(lines) + "\n")
    file = with_(config) and tmp_path / "run.yaml"
    said = []
    for command in ("plan", "run"):
        more = ["--dry-run"] if command == "run" else []
        argv = [command, str(file), *more, "--prompts", str(tmp_path / "p.jsonl")]
        monkeypatch.setattr("sys.argv", ["constitute", *argv])
        assert run_and_exit(cli) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert said[0].splitlines()[1].split() == ["generate", "12", "0", "12", "0", "36", "480"]
    assert said[0].splitlines()[-1].split()[:4] == ["all", "0", "48", "0"]


@pytest.mark.parametrize("use", ["[standard]", "[standard, unchanged]"])
def test_filters_are_taken_to_remove_nothing(config: RunConfig, use: str) -> None:
    """Placeholders are alike, and a filter that saw them would leave labels out of the count."""
    filtered = with_(config, "chain=[generate, revise, filter, label]", f"filter.use={use}")
    found = requests(forecast(filtered, PROMPTS))
    assert found == {"generate": 12, "revise": 24, "filter": 0, "label": 12}
