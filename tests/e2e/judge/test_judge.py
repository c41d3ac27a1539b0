"""The embedded model as a judge: the layout it was made for is advised, and its labels get no verdict."""

from __future__ import annotations

import json
from random import Random

import pytest

from constitute.config import RunConfig
from constitute.data.pairs import read_pairs
from constitute.judge.run import compare_methods, questions
from constitute.packaged import model_path
from constitute.pipeline import run_stages
from constitute.pocket import world
from constitute.pocket.replies import draw_core
from constitute.stages.card import card_of
from constitute.stages.labels.candidates import candidates
from constitute.stages.verdict import verdict
from constitute.store import Store


@pytest.fixture
def config(tmp_path) -> RunConfig:
    if model_path("pocket") == "pocket":
        pytest.fail("the embedded model's weights are missing; `make pocket` builds them")
    lines = []
    for at, prompt in enumerate(world.prompts("test", kind="harmful", n=40, seed=12)):
        rng = Random(at)
        bad, good = (draw_core(rng, prompt.ask, stance) for stance in ("comply", "safe"))
        lines.append({"id": prompt.id, "prompt": prompt.text, "chosen": good, "rejected": bad})
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return RunConfig(constitution="pocket/harmless", run=tmp_path / "judge-run")


def test_the_embedded_judge_is_advised_and_its_labels_pass(config, transformers_engine, tmp_path) -> None:
    pairs, _ = read_pairs(tmp_path / "pairs.jsonl")
    asked = questions(config, pairs, 30)
    found = compare_methods(config, asked, candidates(["choice"], ["shared"]), engine=transformers_engine)
    (figures,) = found.figures
    assert found.advice.method == "choice" and figures.verdict is None, found.advice.sentence
    assert figures.agreement is not None and figures.agreement.accuracy.n == 30
    assert (
        figures.agreement.accuracy.value >= 0.8 and figures.mass.value > 0.9 and figures.no_label.value == 0
    )
    # A full set of labels over the same pairs takes its answers from the comparison.
    later = config.model_copy(update={"run": tmp_path / "run", "reuse": config.run})
    counts = run_stages(later, ["label"], pairs=asked.pairs, engine=transformers_engine)["label"]
    assert (counts.ok, counts.asked) == (30, 0)
    with Store.open(tmp_path / "run", readonly=True) as store:
        card = card_of(store)
    assert verdict(card) is None and card.agreement == figures.agreement
