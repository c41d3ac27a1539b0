"""Public shapes: each read as prompts, as pairs to label, as pairs to train on and as answers to imitate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from public_shapes import CASES, Case, flat, tree
from registry_examples import add_module, example

from constitute.config.data import ReadConfig
from constitute.data.pairs import read_pairs, read_preferences
from constitute.data.prompts import read_prompts
from constitute.data.readers import FAMILIES
from constitute.data.readers.recognise import Recogniser
from constitute.errors import DataError, UsageError
from constitute.registry import registered
from constitute.train.common.data import read_conversations

EQUAL = "chosen and rejected are equal; such a pair teaches nothing"


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def attempted(read: Any) -> Any:
    """What is read, nothing where a file holds nothing of that kind."""
    try:
        return read()
    except DataError as problem:
        assert "holds no " in str(problem), problem
        return None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.family)
def test_each_shape_is_prompts_pairs_and_answers(tmp_path: Path, case: Case) -> None:
    assert {Recogniser().family(row) for row in case.rows} == {case.family}
    file, notes = write(tmp_path / "rows.jsonl", case.rows), list[str]()
    prompts, _ = read_prompts(file)
    assert [prompt.messages[-1].content for prompt in prompts] == case.prompts
    compared = attempted(lambda: read_pairs(file)[0]) or []
    assert [(pair.a, pair.b, pair.human) for pair in compared] == case.compared
    preferred = attempted(lambda: read_preferences(file, notes.append)) or []
    assert [(pair.chosen, pair.rejected, pair.chosen_prob) for pair in preferred] == case.preferred
    if preferred:
        left_out = {
            note.partition("left out ")[2].partition(": ")[::2] for note in notes if "left out" in note
        }
        assert len(left_out) == len(case.left_out)
        for word, number in case.left_out.items():
            assert [int(n) for n, reason in left_out if word in reason] == [number], left_out
    imitated = attempted(lambda: read_conversations(file, "last")) or []
    assert [each.turns[-1].content for each in imitated] == case.imitated


def test_every_shape_has_a_case_and_says_what_it_is() -> None:
    assert {case.family for case in CASES} == set(FAMILIES)
    for name in FAMILIES:
        assert ":" in registered(FAMILIES, name, "shape").about or name == "scored_pair"


@pytest.mark.parametrize(
    ("family", "reading", "preferred"),
    [
        ("pku_saferlhf", {"criterion": "safer"}, [("one", "two")]),
        ("nectar", {"pairs": "best_worst"}, [("b", "c")]),
        ("nectar", {"min_gap": 2}, [("b", "c")]),
        ("nectar", {"per_prompt": 2}, [("b", "a"), ("a", "c")]),
        ("shp", {"per_prompt": 2}, [("To bind & lift.", "No idea."), ("No idea.", "To bind & lift.")]),
        ("shp", {"min_ratio": 3}, [("To bind & lift.", "No idea."), ("To bind & lift.", "No idea.")]),
        ("scored_pair", {"min_gap": 4}, [("one", "two")]),
        ("gpt4_llm", {"min_gap": 5}, [("3", "12")]),
    ],
)
def test_settings_of_reading(tmp_path: Path, family: str, reading: dict[str, Any], preferred: Any) -> None:
    case = next(case for case in CASES if case.family == family)
    found = read_preferences(write(tmp_path / "r.jsonl", case.rows), print, ReadConfig(**reading))
    assert [(pair.chosen, pair.rejected) for pair in found] == preferred


@pytest.mark.parametrize(
    ("family", "change", "reason"),
    [
        ("shp", {"labels": 0}, "labels is 0 and the votes say the opposite: 9 for A, 3 for B"),
        ("shp", {"score_A": "many"}, "score_A must be a number, not 'many'"),
        ("shp", {"human_ref_A": 3}, "human_ref_A must be text, not 3"),
        ("pku_saferlhf", {"better_response_id": 2}, "better_response_id must be 0 or 1, not 2"),
        ("scored_pair", {"score_chosen": 1}, "score_chosen is 1 and score_rejected 5"),
        ("sharegpt", {"conversations": [{"from": "cat", "value": "m"}]}, "a turn is from 'cat'"),
        ("openai_preference", {"preferred_output": []}, "preferred_output must hold one turn"),
        ("nectar", {"answers": [{"answer": "x", "rank": None}]}, "rank must be a number, not None"),
        ("ranked", {"ranked": ["x", 2]}, "ranked must be a list of texts"),
        ("scored", {"scores": [1, 2]}, r"scores must be 3 numbers, one an answer, not \[1, 2\]"),
    ],
)
def test_a_broken_row_of_a_shape_is_named_and_never_guessed(
    tmp_path: Path, family: str, change: dict[str, Any], reason: str
) -> None:
    case = next(case for case in CASES if case.family == family)
    file = write(tmp_path / "r.jsonl", [case.rows[0], case.rows[0] | change])
    with pytest.raises(DataError, match=r"r\.jsonl:2: .*" + reason):
        read_prompts(file)
    kept, bad = read_prompts(file, skip_bad=True)
    assert (len(kept), [each.where for each in bad]) == (1, [f"{file}:2"])


def test_pairs_of_a_prompt_are_counted_over_rows_and_files(tmp_path: Path) -> None:
    """Our own form and HH's too; what is over is counted, and is no bad line."""
    rows = [{"prompt": q, "chosen": f"{q}{n}", "rejected": "no"} for n in range(3) for q in "ab"]
    hh = {key: f"\n\nHuman: a\n\nAssistant: {key}" for key in ("chosen", "rejected")}
    files = [write(tmp_path / "one.jsonl", rows), write(tmp_path / "two.jsonl", [hh, rows[0]])]
    notes: list[str] = []
    found = read_preferences(files, notes.append, ReadConfig(per_prompt=2))
    assert [pair.chosen for pair in found] == ["a0", "b0", "a1", "b1"]
    over = "more pairs of one prompt than read.per_prompt"
    assert notes[0].endswith(f": left out 4: {over}")
    kept, left_out = read_pairs(files, reading=ReadConfig(per_prompt=3))
    assert [pair.a for pair in kept] == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert [(each.where, each.reason) for each in left_out] == [(f"{files[1]}:{n}", over) for n in (1, 2)]
    assert len(read_preferences(files, print)) == 8


def test_trainers_skip_broken_lines_where_that_is_set(tmp_path: Path) -> None:
    row = {"prompt": "Q", "chosen": "one", "rejected": "two"}
    file, notes = write(tmp_path / "r.jsonl", [row, row | {"rejected": "one"}]), list[str]()
    with pytest.raises(DataError, match=r"read\.skip_bad=true"):
        read_preferences(file, notes.append)
    assert len(read_preferences(file, notes.append, ReadConfig(skip_bad=True))) == 1
    assert notes[0] == f"{file}: skipped 1 bad line, the first at {file}:2: {EQUAL}"


def test_a_shape_can_be_forbidden_or_forced(tmp_path: Path) -> None:
    file = write(tmp_path / "r.jsonl", [{"prompt": "P", "inputs": "Q", "targets": "a"}])
    assert [p.messages[0].content for p in read_prompts(file)[0]] == ["Q"]
    assert [p.messages[0].content for p in read_prompts(file, reading=ReadConfig(shape="own"))[0]] == ["P"]
    with pytest.raises(UsageError, match=r"no such read\.shape: 'flam'; did you mean 'flan'"):
        read_prompts(file, reading=ReadConfig(shape="flam"))


def test_a_message_whose_parent_is_elsewhere_is_left_out(tmp_path: Path) -> None:
    rows = [row for row in flat(tree()) if row["message_id"] != "m4"]
    kept, left_out = read_prompts(write(tmp_path / "r.jsonl", rows))
    assert [p.messages[-1].content for p in kept] == ["Name a river.", "Where?"]
    assert [each.reason.partition(" ")[0] for each in left_out] == ["the", "a"]


def test_a_new_shape_is_one_module_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_module(monkeypatch, "riddles", example("A public shape of rows"))
    monkeypatch.setitem(FAMILIES, "riddles", "riddles:FAMILY")
    file = write(
        tmp_path / "r.jsonl", [{"riddle": "What has keys?", "solution": "A piano.", "guess": "A cat"}]
    )
    assert read_prompts(file)[0][0].messages[0].content == "What has keys?"
    assert [(p.chosen, p.rejected) for p in read_preferences(file, print)] == [("A piano.", "A cat")]
    assert read_conversations(file, "last")[0].turns[-1].content == "A piano."
