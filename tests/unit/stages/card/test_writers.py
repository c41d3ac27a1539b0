"""Who wrote what the judge compares, and whether it prefers its own."""

from __future__ import annotations

import pytest
from scripted import prompt

from constitute.stages.card import label_card
from constitute.stages.card.lines import card_lines
from constitute.stages.card.writers import Authors, families, kin
from constitute.stages.verdict import label_warnings
from constitute.types import Comparison, LabelledPair, PreferenceLabel, PrincipleVote


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", {"smollm"}),
        ("Qwen/Qwen2.5-7B-Instruct", {"qwen"}),
        ("meta-llama/Llama-3.1-8B", {"llama"}),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", {"deepseek", "qwen"}),
        ("gpt-4o-mini", {"gpt"}),
        ("mistralai/Mixtral-8x7B", {"mistral"}),
        ("cognitivecomputations/dolphin-2", set()),
        ("run/sft", set()),
        ("qwen-folder/sft", set()),
    ],
)
def test_families_by_name(name, found):
    assert families(name) == found


def test_kin_are_one_model_or_one_family():
    assert kin("run/sft", "run/sft") and kin("Qwen2.5-7B", "qwen3-0.6b")
    assert not kin("run/sft", "other/sft") and not kin("gpt-4", "claude-3-opus")


def pair(
    p_a: float, a_model: str, b_model: str, human: float | None = None, source: str = ""
) -> LabelledPair:
    vote = PrincipleVote(principle_id="k", weight=1, p_ab=p_a, p_ba=None, mass_ab=None, mass_ba=None)
    both = {"a_model": a_model, "b_model": b_model, "a_source": source, "b_source": source}
    comparison = Comparison(id="p", prompt=prompt("p"), a="a", b="b", human=human, **both)
    return LabelledPair(id="p", comparison=comparison, label=PreferenceLabel(p_a=p_a, votes=(vote,)))


def test_a_taste_for_its_own_by_hand():
    """gpt-4 judges: of 4 pairs against claude it prefers gpt's answer in 3, people in 1 of the 2 they judged.

    A pair of two kin and one whose other writer is unknown show no taste.
    """
    rows = [
        pair(0.9, "gpt-3.5", "claude-2", human=1.0),
        pair(0.2, "claude-2", "gpt-3.5", human=1.0),
        pair(0.7, "gpt-4", "claude-2"),
        pair(0.3, "gpt-4", "claude-2"),
        pair(0.9, "gpt-4", "gpt-3.5"),
        pair(0.9, "gpt-4", ""),
    ]
    card = label_card(rows, 0, 0, authors=Authors("gpt-4"))
    found = card.writers
    assert found.by == {"gpt-4": 4, "claude-2": 4, "gpt-3.5": 3}
    assert (found.kin, found.answers) == (7, 12)
    assert (found.own.value, found.own.n) == (0.75, 4)
    assert (found.own_human.value, found.own_human.n) == (0.5, 2)
    warned = label_warnings(card)[-1]
    assert warned.startswith(
        "the judge gpt-4 is of the family of gpt-4, gpt-3.5, which wrote 7 of the 12 answers, and it prefers "
        "them in 75.0 % (30.1 to 95.4, n = 4) of the pairs where the other answer is not, people in 50.0 %"
    )
    names = {line.name: line.text for line in card_lines(card)}
    assert names["the judge prefers its family's answer"] == "0.750 (0.301 to 0.954, n = 4)"


def test_a_run_knows_who_wrote_its_answers():
    rows = [pair(0.9, "", "", source="response 1"), pair(0.9, "", "", source="revision 2")]
    made_by = {"response": "pocket", "revision": "SmolLM2"}
    card = label_card(rows, 0, 0, authors=Authors("pocket", made_by))
    assert (card.writers.by, card.writers.kin) == ({"SmolLM2": 2, "pocket": 2}, 2)
    warned = label_warnings(card)[-1]
    assert warned.startswith("the judge pocket wrote 2 of the 4 answers; judges favour answers of their own")


@pytest.mark.parametrize("judge", ["", "claude-3", "elsewhere"])
def test_a_judge_of_another_family_is_not_warned_of(judge):
    card = label_card([pair(0.9, "gpt-4", "gpt-4")], 0, 0, authors=Authors(judge))
    assert (card.writers.kin, label_warnings(card)) == (0, [])
