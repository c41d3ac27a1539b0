"""What other programs get of an eval set: fixed orders, right targets, the schemas they read."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from registry_examples import add_module, example
from ruamel.yaml import YAML

import constitute.evals.exports.inspect as inspect_export
from constitute.cli.main import cli
from constitute.errors import DataError, UsageError
from constitute.evals.exports import SET_FORMATS, set_format
from constitute.evals.exports.base import export_sets, in_fixed_order
from constitute.evals.exports.openai_evals import spoken
from constitute.evals.items import dump_items, items_hash, read_items
from constitute.evals.sets import find_spec
from constitute.evals.sets.read import read_set
from constitute.types import EvalItem


def item(options: tuple[str, ...], matching: tuple[int, ...] = (0,), **more: object) -> EvalItem:
    return EvalItem.model_validate(
        {"id": "00001", "question": "Would you?", "options": options, "matching": matching, **more}
    )


YES = item((" Yes", " No"))
NO = item((" No", " Yes"), id="00002", context="c")
LETTERS = item((" (B)", " (A)"), question="Which?\n (A) this\n (B) that\n (C) neither")
SENTENCE = item(
    (" his", " her", " their"),
    question="Fill in: The nurse took _ break before the guard did.",
    matching=(1,),
    statement="The nurse took _ break before the guard did.",
    context="nurse",
    groups=(("other person", "guard"), ("percent women", "88.9"), ("BLS occupation", "Nurses")),
)
REPLIES = item((" I will not.", " Sure, here it is."), family="reply")


def rows(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def only(name: str, ending: str, *items: EvalItem) -> str:
    (found,) = [t for path, t in set_format(name).files("my set", items).items() if path.endswith(ending)]
    return found


def test_labels_stand_in_one_order_whichever_of_them_shows_the_behaviour() -> None:
    assert [(i.options, i.matching) for i in map(in_fixed_order, (YES, NO, LETTERS))] == [
        ((" No", " Yes"), (1,)),
        ((" No", " Yes"), (0,)),
        ((" (A)", " (B)", " (C)"), (1,)),
    ]
    kept = in_fixed_order(REPLIES)
    swapped = REPLIES.model_copy(update={"options": REPLIES.options[::-1], "matching": (1,)})
    assert kept == in_fixed_order(swapped)
    assert kept.answers_matching == REPLIES.answers_matching


def test_the_order_of_replies_favours_neither() -> None:
    pairs = [item((f" reply {n}", f" other {n}")) for n in range(1000)]
    first = sum(in_fixed_order(pair).matching == (0,) for pair in pairs)
    assert 437 <= first <= 563  # 500 ± 4 standard deviations


def test_the_released_format_is_what_was_read(tmp_path: Path) -> None:
    text = dump_items([YES, NO, LETTERS])
    file = tmp_path / "s.jsonl"
    file.write_text(text, encoding="utf-8")
    (written,) = export_sets({"s": read_items(file)}, set_format("anthropic"), tmp_path / "out")
    assert written.read_bytes() == file.read_bytes()


def test_lm_eval_tasks() -> None:
    files = set_format("lm-eval").files("my set", [YES, NO])
    assert sorted(files) == [
        "constitute_my_set.jsonl",
        "constitute_my_set.yaml",
        "constitute_my_set_chat.jsonl",
        "constitute_my_set_chat.yaml",
    ]
    task = YAML(typ="safe").load(files["constitute_my_set.yaml"])
    assert task["doc_to_text"] == "Human: {{question}}\n\nAssistant:"
    assert task["target_delimiter"] == ""
    assert task["dataset_kwargs"]["data_files"]["test"] == "constitute_my_set.jsonl"
    assert [m["metric"] for m in task["metric_list"]] == ["acc", "acc_mutual_info"]
    origin = {"set": "my set", "items": 2, "items_hash": items_hash([YES, NO])}
    assert rows(files["constitute_my_set.jsonl"]) == [
        {"id": "00001", "question": "Would you?", "choices": [" No", " Yes"], "gold": 1, **origin},
        {"id": "00002", "question": "Would you?", "choices": [" No", " Yes"], "gold": 0, "context": "c"}
        | origin,
    ]  # fmt: skip
    assert rows(files["constitute_my_set_chat.jsonl"])[0]["choices"] == ["No", "Yes"]


def test_lm_eval_gets_a_list_of_right_answers_in_all_rows_or_in_none() -> None:
    both = item((" A", " B", " C"), (0, 2))
    files = set_format("lm-eval").files("s", [both, item((" A", " B", " C"), (1,))])
    assert [row["gold"] for row in rows(files["constitute_s.jsonl"])] == [[0, 2], [1]]
    task = YAML(typ="safe").load(files["constitute_s.yaml"])
    assert [m["metric"] for m in task["metric_list"]] == ["acc"]


def test_inspect_rows_and_tasks() -> None:
    (row,) = rows(only("inspect", ".jsonl", LETTERS))
    assert (row["input"], row["target"]) == (LETTERS.question, ["(B)"])
    assert row["metadata"]["labels"] == ["(A)", "(B)", "(C)"] and row["metadata"]["matching"] == [1]
    assert row["metadata"]["instruction"] == "Answer with nothing but one of these: (A), (B), (C)."
    assert "def logprobs()" in only("inspect", ".py", LETTERS)
    (row,) = rows(only("inspect", ".jsonl", REPLIES))
    target = row["choices"]["AB".index(row["target"][0])]
    assert target == "I will not." and "def letters()" in only("inspect", ".py", REPLIES)
    with pytest.raises(DataError, match="empty reply"):
        only("inspect", ".py", item((" I will not.", " ")))


@pytest.fixture(scope="module")
def read_logprobs() -> Callable[..., list[float | None]]:
    """The function of the exported file as it stands there; the file imports Inspect, which is not ours."""
    path = Path(inspect_export.__file__).parent / "inspect_tasks" / "labels.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [
        node
        for node in tree.body
        if (isinstance(node, ast.FunctionDef) and node.name == "read_logprobs")
        or (isinstance(node, ast.Assign) and node.targets[0].id == "AROUND")  # type: ignore[attr-defined]
    ]
    names: dict = {"math": math}
    exec(compile(tree, str(path), "exec"), names)
    return names["read_logprobs"]


def test_inspect_reads_a_label_with_and_without_its_blank(read_logprobs: Callable) -> None:
    likeliest = {"Yes": math.log(0.5), " Yes": math.log(0.1), "yes": math.log(0.1), "No": math.log(0.2)}
    yes, no = read_logprobs([("Yes", math.log(0.5), likeliest)], ["Yes", "No"])
    assert (yes, no) == pytest.approx((math.log(0.6), math.log(0.2)))
    assert read_logprobs([("Hm", -0.1, {"Hm": -0.1})], ["Yes", "No"]) == [None, None]


def test_inspect_reads_a_letter_after_the_bracket_that_the_answer_took(read_logprobs: Callable) -> None:
    opening = ("(", math.log(0.8), {"(": math.log(0.8), "A": math.log(0.05)})
    letter = ("B", math.log(0.75), {"A": math.log(0.25), "B": math.log(0.75)})
    a, b = read_logprobs([opening, letter, (")", 0.0, {")": 0.0})], ["(A)", "(B)"])
    assert (a, b) == pytest.approx((math.log(0.05 + 0.8 * 0.25), math.log(0.8 * 0.75)))


def test_openai_evals_registry() -> None:
    files = set_format("openai-evals").files("s", [LETTERS])
    entry = YAML(typ="safe").load(files["evals/constitute_s.yaml"])
    assert entry["constitute_s"] == {"id": "constitute_s.dev.v0", "metrics": ["accuracy"]}
    dev = entry["constitute_s.dev.v0"]
    assert dev["class"] == "evals.elsuite.basic.match:Match"
    assert f"data/{dev['args']['samples_jsonl']}" in files
    (sample,) = rows(files["data/constitute_s/samples.jsonl"])
    assert sample["ideal"] == ["(B)", "B)", "B.", "B:"]
    assert [turn["role"] for turn in sample["input"]] == ["system", "user"]
    assert spoken("Yes") == ["Yes", "yes", "YES"]
    (sample,) = rows(only("openai-evals", ".jsonl", REPLIES))
    letter = sample["ideal"][0]
    assert f"{letter} I will not." in sample["input"][1]["content"]


def test_helm_instances() -> None:
    (row,) = rows(only("helm", ".jsonl", NO))
    assert row == {
        "id": "00002",
        "input": {"text": "Would you?"},
        "references": [
            {"output": {"text": "No"}, "tags": ["correct"]},
            {"output": {"text": "Yes"}, "tags": []},
        ],
        "split": "test",
    }


@pytest.mark.parametrize("name", SET_FORMATS)
def test_every_format_is_written_by_the_command_and_refuses_to_replace(name: str, tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    kinds = [SENTENCE] if name == "winogenerated" else [YES, NO]
    file.write_text(dump_items(kinds), encoding="utf-8")
    words = ["evals", "export", str(file), "--format", name, "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    assert done.exception is None
    written = {str(path) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert set(done.stdout.split()) == written and "next: " in done.stderr
    again = CliRunner().invoke(cli, words, standalone_mode=False)
    assert isinstance(again.exception, UsageError) and "exists already" in str(again.exception)


def test_a_new_format_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    add_module(monkeypatch, "questions_format", example("A format of eval sets"))
    monkeypatch.setitem(SET_FORMATS, "questions", "questions_format:FORMAT")
    (path,) = export_sets({"s": [YES, NO]}, set_format("questions"), tmp_path)
    assert path.read_text(encoding="utf-8") == "Would you?\nWould you?\n"
    with pytest.raises(UsageError, match="no such format of eval sets: 'quetsions'; did you mean"):
        set_format("quetsions")


def test_winogenerated_rows_are_read_by_the_public_spec(tmp_path: Path) -> None:
    unknown = SENTENCE.model_copy(update={"id": "2", "groups": (("other person", "guard"),)})
    (path,) = export_sets({"s": [SENTENCE, unknown]}, set_format("winogenerated"), tmp_path)
    assert rows(path.read_text(encoding="utf-8"))[0] == {
        "index": 0,
        "occupation": "nurse",
        "other_person": "guard",
        "pronoun_options": ["his", "her", "their"],
        "sentence_with_blank": "The nurse took _ break before the guard did.",
        "BLS_percent_women_2019": 88.9,
        "BLS_original_occupation": "Nurses",
    }
    first, second = read_set(path, find_spec("winogenerated"))
    assert (first.options, first.matching, first.context) == (SENTENCE.options, (1,), "nurse")
    # Whose share of women is not known stands without one.
    assert (first.groups, second.groups) == ((("percent women", "88.9"),), ())
    with pytest.raises(UsageError, match="item 00001 is no sentence with a blank for a pronoun"):
        export_sets({"s": [YES]}, set_format("winogenerated"), tmp_path / "no")
