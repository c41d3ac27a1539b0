"""Trainers refuse labels and reward models that say nothing, at default settings, and say why."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from constitute.config import ExportConfig, RunConfig
from constitute.data.export import export_run
from constitute.data.sets import labels_verdict
from constitute.errors import GateFailed
from constitute.progress import Silent
from constitute.stats import share_of
from constitute.store import Store
from constitute.train.common.trust import check_labels
from constitute.train.dpo import run_dpo
from constitute.train.imitation.conditioned import run_conditioned
from constitute.train.reward.train import run_reward
from constitute.train.reward.verdict import reward_verdict
from constitute.train.rewards.parts import RewardPart
from constitute.train.rewards.trust import check_rewards
from constitute.train.sft import run_sft
from constitute.types import (
    Comparison,
    CritiqueRevision,
    LabelledPair,
    Message,
    Outcome,
    PreferenceLabel,
    PrincipleVote,
    Prompt,
    Response,
)


class Notes(Silent):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def make(folder: Path, p_ab: float, p_ba: float, n: int = 20) -> Path:
    """A run of n revisions, each labelled with these two answers."""
    with Store.open(folder) as store:
        for i in range(n):
            prompt = Prompt(id=f"p{i}", messages=(Message(role="user", content="Why?"),))
            step = CritiqueRevision(principle_id="k", critique="no", revision=f"better {i}")
            row = Response(id=f"p{i}/0", prompt=prompt, sample=0, response=f"first {i}", steps=(step,))
            vote = PrincipleVote(principle_id="k", weight=1, p_ab=p_ab, p_ba=p_ba, mass_ab=1, mass_ba=1)
            pair = Comparison(id=f"p{i}/0-rev", prompt=prompt, a=row.response, b=row.final)
            label = PreferenceLabel(p_a=vote.p_a, votes=(vote,))
            both = {"revise": row, "label": LabelledPair(id=pair.id, comparison=pair, label=label)}
            for stage, record in both.items():
                data = record.model_dump(mode="json")
                store.put_outcome(stage, Outcome(row_id=record.id, position=i, status="ok", data=data))
    return folder


@pytest.fixture
def blind(tmp_path: Path) -> Path:
    return make(tmp_path / "blind", 0.9, 0.2)


def test_an_export_carries_the_verdict_for_people_and_programs(blind):
    export_run(blind, ExportConfig())
    noted = json.loads((blind / "export" / "labels.json").read_text())
    assert noted["verdict"]["kind"] == "order" and noted["sets"] == ["preferences.jsonl"]
    assert noted["label_card"]["flipped"] == 20
    card = (blind / "export" / "README.md").read_text()
    assert "**Do not train on these labels:** `` these labels say nothing of the answers" in card
    assert "order flips, of votes: 1.000 (0.839 to 1.000, n = 20)" in card


def test_an_export_of_good_labels_has_no_verdict(tmp_path):
    run = make(tmp_path / "good", 0.99, 0.98)
    export_run(run, ExportConfig())
    assert json.loads((run / "export" / "labels.json").read_text())["verdict"] is None
    assert "Do not train" not in (run / "export" / "README.md").read_text()
    assert labels_verdict(run / "export" / "preferences.jsonl") == ""


def test_only_sets_that_depend_on_labels_are_refused(blind):
    export_run(blind, ExportConfig())
    check_labels(blind / "export" / "sft.jsonl", Silent(), force=False)
    export_run(blind, ExportConfig(revisions="best"), kinds=("sft",))
    with pytest.raises(GateFailed, match="say nothing"):
        check_labels([blind / "export" / "sft.jsonl"], Silent(), force=False)
    export_run(blind, ExportConfig(revisions="last"), kinds=("sft",))
    check_labels(blind / "export" / "sft.jsonl", Silent(), force=False)
    assert labels_verdict(blind / "export" / "preferences.jsonl") != ""


@pytest.mark.parametrize("train", [run_reward, run_dpo, run_conditioned])
@pytest.mark.parametrize("own", [True, False])
def test_trainers_refuse_before_a_model_is_opened(blind, train, own):
    """From the run itself, and from a copy of its export folder."""
    export_run(blind, ExportConfig())
    copy = blind.rename(blind.with_name("copy"))
    config = RunConfig(model="no-such-model", run=copy if own else blind.with_name("other"))
    data = None if own else copy / "export" / "preferences.jsonl"
    with pytest.raises(GateFailed, match=r"say nothing of the answers.*or give --force to train on them"):
        train(config, data=data)


def test_sft_on_answers_that_such_labels_chose_is_refused(blind):
    export_run(blind, ExportConfig(revisions="best"), kinds=("sft",))
    with pytest.raises(GateFailed, match="say nothing"):
        run_sft(RunConfig(model=str(blind), run=blind))


def test_force_trains_and_says_so(blind):
    export_run(blind, ExportConfig())
    notes = Notes()
    sentence = check_labels(blind / "export" / "preferences.jsonl", notes, force=True)
    assert sentence.startswith("these labels say nothing") and sentence in notes.said[0]
    assert reward_verdict({}, sentence)["verdict"].endswith(sentence)


@pytest.mark.parametrize(
    ("right", "n", "outcome"),
    [
        (55, 100, "verdict"),  # 0.452 to 0.644
        (60, 100, None),  # 0.502 to 0.691
        (59, 100, "verdict"),  # 0.492 to 0.681
        (62, 99, None),  # 0.528 to 0.715
        (55, 99, "warning"),  # 0.457 to 0.649
        (15, 30, "verdict"),
        (16, 30, "warning"),
        (14, 29, "warning"),
        (5, 5, None),  # 0.566 to 1
        (3, 3, "warning"),  # 0.438 to 1
        (0, 0, "warning"),
        (20, 100, "verdict"),
    ],
)
def test_the_rule_for_reward_models_by_hand(right, n, outcome):
    found = reward_verdict({"accuracy": share_of(right, n).model_dump()} if n else {})
    assert list(found) == ([] if outcome is None else [outcome])
    if n and outcome:
        assert f"n = {n}" in found[outcome] and "`constitute status --run DIR`" in found[outcome]


@pytest.mark.parametrize(("n", "most"), [(10, 0.0), (30, 0.04), (60, 0.01), (100, 0.02), (300, 0.001)])
def test_a_reward_model_that_is_right_in_70_percent_is_hardly_ever_stopped(n, most):
    rng = random.Random(n)
    stopped = 0
    for _ in range(3000):
        right = sum(rng.random() < 0.7 for _ in range(n))
        stopped += "verdict" in reward_verdict({"accuracy": share_of(right, n).model_dump()})
    assert stopped / 3000 <= most


def recorded(folder: Path, **summary: str) -> str:
    folder.mkdir()
    (folder / "training.json").write_text(json.dumps({"made_by": {}, "summary": summary}))
    return str(folder)


def test_a_reward_by_chance_is_not_optimised_without_force(tmp_path):
    bad = recorded(tmp_path / "bad", verdict="no better than chance")
    few = recorded(tmp_path / "few", warning="too few")
    notes = Notes()
    check_rewards(
        [RewardPart("f", few), RewardPart("g", len), RewardPart("hub", "org/name")], notes, force=False
    )
    assert notes.said == [f"{few}: too few"]
    with pytest.raises(GateFailed, match=r"bad: no better than chance; or give --force"):
        check_rewards([RewardPart("b", bad)], notes, force=False)
    check_rewards([RewardPart("b", bad)], notes, force=True)
    check_rewards([RewardPart("b", bad, weight=0.0), RewardPart("g", len)], notes, force=False)
    assert notes.said[1:] == [f"{bad}: no better than chance"] * 2
