"""The anthropics/evals format: real files byte for byte, and broken lines refused with their place."""

import gzip
import json

import pytest
from places import SHARED

from constitute.errors import DataError, UsageError
from constitute.evals.families.persona import asked_labels, is_label
from constitute.evals.items import (
    dump_items,
    file_name,
    items_hash,
    keep_items,
    kept_items,
    read_items,
    slug,
)
from constitute.types import EvalItem

DATA = SHARED / "model-written-evals"
PERSONA = sorted((DATA / "persona").glob("*.jsonl"))
RISK = sorted((DATA / "advanced-ai-risk").glob("*/*.jsonl"))
needs_data = pytest.mark.skipif(not PERSONA, reason=f"real eval sets are not at {DATA}")

LINE = {"question": "q", "answer_matching_behavior": " Yes", "answer_not_matching_behavior": " No"}


@needs_data
@pytest.mark.parametrize("path", PERSONA + RISK, ids=lambda path: f"{path.parent.name}/{path.stem[:40]}")
def test_real_files_round_trip_byte_for_byte(path):
    assert dump_items(read_items(path)).encode() == path.read_bytes()


@needs_data
def test_labels_and_options_of_real_files():
    survival = read_items(DATA / "advanced-ai-risk" / "human" / "survival-instinct.jsonl")
    assert all(len(item.options) == 2 for item in survival)
    asked = [asked_labels(item) for item in survival]
    assert sum(len(labels) > 2 for labels, _ in asked) == 247
    assert max(len(labels) for labels, _ in asked) == 8
    # The one that shows the behaviour is still the one that the file names.
    named = zip(asked, survival, strict=True)
    assert all([labels[at] for at in places] == [*item.answers_matching] for (labels, places), item in named)
    machine = read_items(DATA / "advanced-ai-risk" / "lm" / "survival-instinct.jsonl")
    assert sum("Choices" not in item.question for item in machine) == 126


def test_options_that_the_item_does_not_name_count_as_not_matching():
    item = EvalItem(
        id="1",
        question="Which?\n\nChoices:\n (A) one\n (B) two\n (C) three",
        answer_matching_behavior=" (C)",
        answer_not_matching_behavior=" (A)",
    )
    assert asked_labels(item) == ((" (A)", " (B)", " (C)"), (2,))
    yes = item.model_copy(update={"options": (" Yes", " No"), "matching": (1,)})
    assert asked_labels(yes) == ((" Yes", " No"), (1,))


def test_lists_of_answers_are_read_and_written_as_lists(tmp_path):
    row = {
        "question": "q",
        "answer_matching_behavior": " (A)",
        "answer_not_matching_behavior": [" (B)", " (C)"],
    }
    more = {**row, "answer_matching_behavior": [" (A)", " (B)"], "answer_not_matching_behavior": " (C)"}
    more |= {"context": "c1", "groups": {"kind": "x"}}
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(more) + "\n")
    first, second = read_items(path)
    assert (first.options, first.matching) == ((" (A)", " (B)", " (C)"), (0,))
    assert second.answers_matching == (" (A)", " (B)") and second.answers_not_matching == (" (C)",)
    assert (second.context, second.groups) == ("c1", (("kind", "x"),))
    assert dump_items([first, second]) == path.read_text()


def test_ids_are_line_numbers_and_limit_cuts(tmp_path):
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps(LINE) + "\n\n" + json.dumps({**LINE, "question": "r"}) + "\n")
    assert [(item.id, item.question) for item in read_items(path)] == [("00001", "q"), ("00003", "r")]
    assert [item.id for item in read_items(path, limit=1)] == ["00001"]


def test_a_persona_line_has_five_keys_and_a_reply_three(tmp_path):
    path = tmp_path / "set.jsonl"
    persona = {
        "question": 'Is the following statement something you would say?\n"a \u2028 b"',
        "statement": "a \u2028 b",
        "label_confidence": 0.9700825132792529,
        "answer_matching_behavior": " Yes",
        "answer_not_matching_behavior": " No",
    }
    text = json.dumps(persona) + "\n" + json.dumps(LINE) + "\n"
    path.write_text(text)
    assert dump_items(read_items(path)) == text
    # The same file written with the separator unescaped still has two items.
    path.write_text(
        json.dumps(persona, ensure_ascii=False) + "\n" + json.dumps(LINE) + "\n", encoding="utf-8"
    )
    assert dump_items(read_items(path)) == text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"set\.jsonl:2: not JSON"),
        ("[]", r"set\.jsonl:2: a JSON list"),
        ('{"question": "q"}', r"set\.jsonl:2: 'answer_matching_behavior' is missing"),
        (json.dumps({**LINE, "question": 3}), r"set\.jsonl:2: 'question' is missing or not text"),
        (
            json.dumps({**LINE, "answer_not_matching_behavior": []}),
            r"'answer_not_matching_behavior' is missing",
        ),
        (json.dumps({**LINE, "answer_not_matching_behavior": [3]}), r"is missing or not text"),
        (
            json.dumps({**LINE, "answer_not_matching_behavior": " Yes"}),
            r"is there twice; its answers must differ",
        ),
        (json.dumps({**LINE, "context": 3}), r"set\.jsonl:2: .*valid string"),
        (json.dumps({**LINE, "label_confidence": "high"}), r"'label_confidence' a number"),
        ('{"question": "q \\ud83d", ' + json.dumps(LINE)[17:], r"set\.jsonl:2: 'question' holds half"),
    ],
)
def test_broken_lines_name_file_and_line(tmp_path, line, message):
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps(LINE) + "\n" + line + "\n")
    with pytest.raises(DataError, match=message):
        read_items(path)


def test_marked_packed_and_torn_files(tmp_path):
    text = json.dumps(LINE) + "\n" + json.dumps({**LINE, "question": "r"}) + "\n"
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("a.jsonl", "a.jsonl.gz"):
        assert [item.question for item in read_items(tmp_path / name)] == ["q", "r"]
    (tmp_path / "b.jsonl").write_text(text[:-30])
    with pytest.raises(DataError, match=r"b\.jsonl:2: not JSON .*cut off"):
        read_items(tmp_path / "b.jsonl")
    (tmp_path / "c.jsonl").write_bytes(text.encode() + b'{"question": "\xe9"}\n')
    with pytest.raises(DataError, match=r"c\.jsonl:3: byte 15 \(0xe9\) is not UTF-8"):
        read_items(tmp_path / "c.jsonl")


def test_missing_and_empty_files(tmp_path):
    with pytest.raises(UsageError, match="cannot read eval items"):
        read_items(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no eval items"):
        read_items(tmp_path / "empty.jsonl")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(" Yes", True), ("no", True), (" (A)", True), ("B", True), ("Yes, of course", False), ("", False)],
)
def test_labels_are_told_from_replies(answer, expected):
    assert is_label(answer) is expected


def test_slugs_are_file_names_and_tell_texts_apart():
    assert slug("Helps people to harm others!") == "helps-people-to-harm-others"
    assert slug("../../etc") == "etc"
    assert slug("être gentil") == "etre-gentil"
    assert slug("善") == "set-fd20a9d0" != slug("恶")
    assert slug("says 善") != slug("says 恶")
    assert slug("very " * 40) != slug("very " * 41) and len(slug("very " * 40)) == 60
    assert (file_name("Qwen3-0.6B"), file_name("a b/c")) == ("Qwen3-0.6B", "a-b-c")
    assert file_name("善") != file_name("恶")


def test_the_hash_follows_the_content():
    item = EvalItem(id="1", question="q", answer_matching_behavior=" Yes", answer_not_matching_behavior=" No")
    assert items_hash([item]) == items_hash([item.model_copy(update={"id": "2"})])
    assert items_hash([item]) != items_hash([item.model_copy(update={"question": "r"})])


def test_a_folder_is_told_from_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"it is a folder; give a JSONL file$"):
        read_items(tmp_path)
    with pytest.raises(UsageError, match=r"no such file; give a JSONL file$"):
        read_items(tmp_path / "none.jsonl")


def test_free_answers_are_read_beside_the_questions_they_were_given_to(tmp_path):
    item = EvalItem(id="1", question="Why?", options=(" A", " B"), matching=(0,))
    keep_items(tmp_path, [item])
    digest = items_hash([item])
    assert kept_items(tmp_path, digest) == kept_items(tmp_path, f"{digest}-text") == [item]
    assert kept_items(tmp_path, f"{digest}-3-turns") == [item]
