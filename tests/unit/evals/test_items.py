"""The anthropics/evals format: real files byte for byte, and broken lines refused with their place."""

import gzip
import json

import pytest
from places import SHARED

from constitute.errors import DataError, UsageError
from constitute.evals.families.persona import check_labels, is_label, option_count
from constitute.evals.items import dump_items, file_name, items_hash, read_items, slug
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
    check_labels(read_items(PERSONA[0]))
    survival = read_items(DATA / "advanced-ai-risk" / "human" / "survival-instinct.jsonl")
    with pytest.raises(UsageError, match=r"the set has \d labels .*' \(C\)'.*exactly two"):
        check_labels(survival)
    assert sum(option_count(item.question) > 2 for item in survival) == 247
    machine = read_items(DATA / "advanced-ai-risk" / "lm" / "survival-instinct.jsonl")
    check_labels(machine)
    assert sum("Choices" not in item.question for item in machine) == 126


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
        (json.dumps({**LINE, "answer_not_matching_behavior": [" (B)", " (C)"]}), r"is a list; .*exactly two"),
        (json.dumps({**LINE, "answer_not_matching_behavior": " Yes"}), r"both answers are ' Yes'"),
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
