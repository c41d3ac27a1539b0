"""Votes on given pairs: how each pair ends, how many questions are under way, and whose votes they are."""

from __future__ import annotations

from pathlib import Path

from scripted import ScriptedEngine, constitution, prompt

from constitute.config import EngineConfig, LabelConfig, RunConfig
from constitute.constitution.write import to_yaml
from constitute.editing.attribute.run import attribute_run
from constitute.editing.votes import other_model, vote
from constitute.engines.base import ModelIdentity
from constitute.pipeline import run_stages
from constitute.progress import Silent
from constitute.store import Store
from constitute.types import Comparison

GIVEN = constitution("kind", "brief", "safe")


class Counted(Silent):
    """Keeps how each row ended, and what was said."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.told: list[str] = []

    def advance(self, stage: str, status: str = "ok", **figures: float) -> None:
        self.ended.append(status)

    def note(self, text: str) -> None:
        self.told.append(text)


def pair(name: str, spoil: str = "") -> Comparison:
    return Comparison(id=name, prompt=prompt(name), a=f"yes {name}{spoil}", b="no")


async def test_a_failed_pair_is_not_shown_as_one_that_abstains(tmp_path: Path) -> None:
    progress = Counted()
    pairs = [pair("fine"), pair("long", " [too long]"), pair("odd", " [no mass]")]
    with Store.open(tmp_path) as store:
        votes = await vote(pairs, GIVEN, ScriptedEngine(), store, LabelConfig(), progress=progress)
    assert sorted(progress.ended) == ["abstain", "failed", "ok"]
    assert [row.id for row in votes.labelled] == ["fine"]
    assert [(row.row_id, row.position, row.status) for row in votes.without] == [
        ("long", 1, "failed"),
        ("odd", 2, "abstain"),
    ]
    assert votes.without[0].reason == "the prompt has 5000 tokens, the limit is 4096"


def test_attribute_keeps_to_the_number_of_requests_in_flight(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(GIVEN))
    config = RunConfig(
        model="m",
        run=tmp_path / "run",
        constitution=str(file),
        label=LabelConfig(principles="one"),
        engine=EngineConfig(in_flight=6),
    )
    run_stages(config, ["label"], pairs=[pair(f"p{n}") for n in range(12)], engine=ScriptedEngine())
    engine = ScriptedEngine(delay_s=0.01)
    attribute_run(config, fill=True, engine=engine)
    # One pair at a time: two orders under the two principles that have no vote yet.
    assert engine.most_in_flight == 4


def test_what_differs_between_two_models_is_named() -> None:
    engine = ScriptedEngine("tiny")
    engine.identity = ModelIdentity(engine="vllm", name="tiny", fingerprint="abc")
    same = engine.identity.model_dump(mode="json")
    assert other_model(None, engine, "run") == other_model(same, engine, "run") == ""
    assert other_model(same | {"engine": "transformers"}, engine, "run2") == (
        "run2 was labelled by tiny too, but with engine transformers instead of vllm"
    )
    assert other_model(same | {"fingerprint": "", "engine": "x"}, engine, "run") == (
        "run was labelled by tiny too, but with engine x instead of vllm, fingerprint unknown instead of abc"
    )
    assert other_model(same | {"name": "large"}, engine, "run") == "run was labelled by large, not by tiny"


def test_the_same_model_under_another_engine_is_said_so(tmp_path: Path) -> None:
    from constitute.editing.diff.run import diff_constitutions

    config = RunConfig(model="m", run=tmp_path / "run", label=LabelConfig(principles="all"))
    (tmp_path / "c.yaml").write_text(to_yaml(GIVEN))
    labelled = config.model_copy(update={"constitution": str(tmp_path / "c.yaml")})
    run_stages(labelled, ["label"], pairs=[pair(f"p{n}") for n in range(4)], engine=ScriptedEngine())
    engine, progress = ScriptedEngine(), Counted()
    engine.identity = engine.identity.model_copy(update={"engine": "other"})
    done = diff_constitutions(config, GIVEN, constitution("kind", "calm"), engine=engine, progress=progress)
    assert progress.told[0].endswith("with engine scripted instead of other: every vote is asked anew")
    assert done.stored == 0 and done.failed == 0
