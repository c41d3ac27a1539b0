"""Every public function of editing works inside a running event loop, as in a notebook."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted import ScriptedEngine, constitution, prompt

from constitute.config import LabelConfig, RunConfig
from constitute.constitution.write import to_yaml
from constitute.editing.attribute.run import attribute_run
from constitute.editing.compare.run import compare_constitutions
from constitute.editing.describe import run_describe
from constitute.editing.diff.run import diff_constitutions
from constitute.editing.lint.findings import lint_file
from constitute.editing.lint.model import lint_with_model
from constitute.editing.preview.session import preview_constitution
from constitute.pipeline import run_stages
from constitute.types import Comparison

GIVEN = constitution("kind", "brief")
PAIRS = [Comparison(id=f"p{n}", prompt=prompt(f"q{n}"), a=f"yes {n}", b=f"no {n}") for n in range(6)]


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """A run directory and a constitution file, labelled by one principle a pair."""
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(GIVEN))
    config = RunConfig(
        model="m", run=tmp_path / "run", constitution=str(file), label=LabelConfig(principles="one")
    )
    run_stages(config, ["label"], pairs=PAIRS, engine=ScriptedEngine())
    return config


async def test_diff(config: RunConfig) -> None:
    edited = GIVEN.principles[0].model_copy(update={"compare": "Which is kinder?"})
    b = GIVEN.model_copy(update={"principles": (edited, GIVEN.principles[1])})
    everyone = config.model_copy(update={"label": LabelConfig(principles="all")})
    done = diff_constitutions(everyone, GIVEN, b, engine=ScriptedEngine())
    # A vote of each pair is there; kind is asked under the old and the new wording where it is not.
    assert done.stored == 6 and done.asked == 2 * (3 * 6 - 6) and len(done.pairs) == 6


async def test_compare(config: RunConfig) -> None:
    prompts = [prompt("q1"), prompt("q2")]
    done = compare_constitutions(config, GIVEN, constitution("calm"), prompts, engine=ScriptedEngine())
    assert done.figures.prompts == 2 and done.asked > 0


async def test_attribute_with_fill(config: RunConfig) -> None:
    done = attribute_run(config, fill=True, engine=ScriptedEngine())
    assert [i.missing for i in done.figures.influences] == [0, 0]


async def test_lint_with_a_model(config: RunConfig) -> None:
    linted = lint_file(str(config.constitution))
    assert [finding.rule for finding in linted.findings] == ["no-examples"]
    done = lint_with_model(linted, config, pairs=PAIRS, engine=ScriptedEngine())
    assert {"kind", "brief"} <= {finding.principle for finding in done.findings}


async def test_describe(config: RunConfig) -> None:
    (wording,) = run_describe(["be kind"], config, engine=ScriptedEngine())
    assert wording.text == "be kind" and "no known label" in wording.failed


async def test_preview(config: RunConfig) -> None:
    last = preview_constitution(Path(str(config.constitution)), config, n=8, engine=ScriptedEngine())
    assert len(last.probes) == 8 and all(probe.p_revision is not None for probe in last.probes)
