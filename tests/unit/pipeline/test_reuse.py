"""A run that reuses another's answers asks only what an edit changed, and stands alone afterwards."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from constitute.config import EngineConfig, load_config
from constitute.constitution.draw import draw
from constitute.constitution.write import to_yaml
from constitute.engines.fake import FakeEngine
from constitute.errors import UsageError
from constitute.pipeline import run_stages
from constitute.store import Store
from constitute.types import Constitution, Message, Principle, Prompt

ROUNDS = 3
PROMPTS = [Prompt(id=f"q{i}", messages=(Message(role="user", content=f"Question {i}?"),)) for i in range(24)]


def constitution(*texts: str) -> Constitution:
    return Constitution(
        name="c",
        principles=tuple(
            Principle(id=f"p{i}", text=t, critique=f"c {t}", revise=f"r {t}", compare=f"which {t}")
            for i, t in enumerate(texts)
        ),
    )


def run(folder: Path, made: Constitution, reuse: Path | None = None) -> dict[str, int]:
    folder.mkdir()
    (folder / "c.yaml").write_text(to_yaml(made))
    wanted = {
        "model": "m",
        "run": folder,
        "constitution": str(folder / "c.yaml"),
        "generate.n": 2,
        "revise.rounds": ROUNDS,
        "label.principles": "all",
    }
    config = load_config(overrides=wanted | ({"reuse": reuse} if reuse else {}))
    engine = FakeEngine("m", EngineConfig())
    counts = run_stages(config, ["generate", "revise", "label"], prompts=PROMPTS, engine=engine)
    return {stage: each.asked for stage, each in counts.items()}


def test_a_reworded_principle_asks_its_votes_and_the_rounds_from_its_first_draw_on(tmp_path: Path) -> None:
    before, after = constitution("one", "two", "three", "four"), constitution("one", "TWO", "three", "four")
    whole = run(tmp_path / "a", before)
    assert whole == {"generate": 48, "revise": 48 * ROUNDS * 2, "label": 24 * 4 * 2}
    first = [
        next((r for r in range(ROUNDS) if draw(before, f"q{i}/{s}", r).id == "p1"), ROUNDS)
        for i in range(24)
        for s in range(2)
    ]
    assert 0 < sum(r < ROUNDS for r in first) < 48
    asked = run(tmp_path / "b", after, tmp_path / "a")
    assert asked == {"generate": 0, "revise": 2 * sum(ROUNDS - r for r in first), "label": 24 * 2}


def test_reordering_asks_nothing_and_the_new_run_stands_alone(tmp_path: Path) -> None:
    before = constitution("one", "two", "three")
    run(tmp_path / "a", before)
    after = before.model_copy(update={"principles": before.principles[::-1]})
    assert set(run(tmp_path / "b", after, tmp_path / "a").values()) == {0}
    with Store.open(tmp_path / "a") as a, Store.open(tmp_path / "b") as b:
        for stage in ("generate", "revise", "label"):
            assert [o.data for o in a.outcomes(stage)] == [o.data for o in b.outcomes(stage)]
        kept = {row_id: list(b.answers_of(row_id)) for row_id in b.row_ids()}
    shutil.rmtree(tmp_path / "a")
    with Store.open(tmp_path / "b") as b:
        assert {row_id: list(b.answers_of(row_id)) for row_id in b.row_ids()} == kept
        assert sum(map(len, kept.values())) == 48 + 48 * ROUNDS * 2 + 24 * 3 * 2


def test_answers_of_another_model_are_not_reused(tmp_path: Path) -> None:
    before = constitution("one", "two")
    run(tmp_path / "a", before)
    config = load_config(overrides={"model": "m", "run": tmp_path / "b", "reuse": tmp_path / "a"})
    other = FakeEngine("another", EngineConfig())
    assert run_stages(config, ["generate"], prompts=PROMPTS, engine=other)["generate"].asked == 24


def test_reuse_of_nothing_or_of_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no run to reuse in .*nowhere .*give the directory of a run"):
        run(tmp_path / "a", constitution("one"), tmp_path / "nowhere")
    run(tmp_path / "b", constitution("one"))
    with Store.open(tmp_path / "b") as store, pytest.raises(UsageError, match="cannot reuse itself"):
        store.reuse(tmp_path / "b")
