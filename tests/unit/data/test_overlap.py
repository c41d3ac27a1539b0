"""Text that data shares with eval sets, on rows counted by hand and on published data."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from places import SHARED

from constitute.cli.main import cli
from constitute.config import load_config
from constitute.config.data import OverlapConfig, ReadConfig
from constitute.data.overlap import EvalIndex, index_of, overlaps, texts_of
from constitute.data.pairs import read_pairs
from constitute.data.prompts import read_prompts
from constitute.data.records import notes_on
from constitute.errors import DataError
from constitute.stages.filters.base import grams, words

REAL = pytest.mark.skipif(not SHARED.exists(), reason=f"published data is not at {SHARED}")
FRAME = "Is the following statement something you would say?"


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def index(*rows: dict[str, Any], **settings: int) -> EvalIndex:
    return EvalIndex(lambda: [(f"e:{at}", row) for at, row in enumerate(rows, 1)], OverlapConfig(**settings))


def numbers(first: int, n: int) -> str:
    return " ".join(f"w{at}" for at in range(first, first + n))


def test_thirteen_words_in_a_row_are_an_overlap_and_twelve_are_none() -> None:
    found = index({"question": numbers(0, 40)})
    touch = found.find({"prompt": "So: " + numbers(20, 13).upper() + "!"})
    assert touch is not None and (touch.item, touch.words) == ("e:1", numbers(20, 13))
    assert found.find({"prompt": "So: " + numbers(20, 12) + " no"}) is None
    assert index({"question": numbers(0, 40)}, words=12).find({"prompt": numbers(20, 12)}) is not None


def test_a_short_prompt_counts_as_a_whole_and_a_short_answer_never() -> None:
    found = index(
        {"question": "How do you cut brake lines?", "answer_matching_behavior": " I do not know it"}
    )
    assert found.find({"prompt": "how do you cut brake-lines"}) is not None
    assert found.find({"prompt": "How do you cut brake lines of a car?"}) is None
    assert found.find({"prompt": "Tell me.", "chosen": "How do you cut brake lines?"}) is None
    assert found.find({"prompt": "I do not know it"}) is None
    # Four words are asked by anybody.
    assert index({"question": "What is your name?"}).find({"prompt": "What is your name?"}) is None


def test_the_frame_that_many_items_share_is_nobodys_text() -> None:
    items = [
        {"question": f'{FRAME}\n"I {a} all of my {b} friends."', "statement": f"I {a} all of my {b} friends."}
        for a in ("like", "know", "see", "hear", "call", "help", "pay", "meet")
        for b in ("old", "new", "dear", "young", "rich", "poor", "best")
    ]
    found = index(*items)
    assert found.find({"prompt": f'{FRAME}\n"I like all of my strange friends."'}) is None
    # The statement itself is the item's own; within the frame, "I" is what many items share too.
    for text, own in ((items[3]["question"], "like"), ("I like all of my young friends.", "i like")):
        touch = found.find({"prompt": text})
        assert touch is not None and (touch.item, touch.words) == ("e:4", f"{own} all of my young friends")
    loose = index(*items, common=1000)
    assert loose.find({"prompt": f'{FRAME}\n"I like all of my strange friends."'}) is not None


def test_the_texts_of_a_row_are_all_that_is_said_in_it() -> None:
    row = {
        "id": "not a text of five words",
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Ask it."}],
        "chosen": "\n\nHuman: One two\n\nAssistant: three",
        "conversations": [{"from": "human", "value": "four"}, {"from": "gpt", "value": "five"}],
        "score": 3,
    }
    assert [(" ".join(text.words), text.whole) for text in texts_of(row)] == [
        ("ask it", True),
        ("one two", True),
        ("three", False),
        ("four", True),
        ("five", False),
    ]


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_what_comparing_every_run_finds(seed: int) -> None:
    rng = random.Random(seed)

    def text() -> str:
        return " ".join(rng.choice("abcd") for _ in range(rng.randint(3, 30)))

    items, rows = [{"question": text()} for _ in range(30)], [{"prompt": text()} for _ in range(60)]
    found = index(*items, words=6, common=10_000)

    def runs(said: str) -> set[tuple[str, ...]]:
        return set(grams(words(said), 6)) if len(said.split()) >= 5 else set()

    held = {f"e:{at}": runs(item["question"]) for at, item in enumerate(items, 1)}
    for row in rows:
        touch = found.find(row)
        assert (touch is None) == (not any(runs(row["prompt"]) & own for own in held.values()))
        if touch is not None:
            run = tuple(touch.words.split())
            assert touch.item == next(name for name, own in held.items() if run in own)


def test_readers_leave_out_what_overlaps_and_say_so(tmp_path: Path) -> None:
    evals = lines(tmp_path / "evals.jsonl", [{"question": "How do you cut brake lines?"}])
    reading = ReadConfig(overlap=OverlapConfig(against=(str(evals),)))
    asked = ["How do I cook rice well?", "How do you cut brake lines?", "Why is the sky so blue?"]
    file = lines(tmp_path / "p.jsonl", [{"prompt": each} for each in asked])
    prompts, bad = read_prompts(file, reading=reading)
    assert [prompt.messages[0].content for prompt in prompts] == [asked[0], asked[2]]
    assert [each.where for each in bad] == [f"{file}:2"]
    assert notes_on("p", bad) == [f"p: left out 1: overlaps {evals}:1 (read.overlap)"]
    pairs, bad = read_pairs(
        lines(tmp_path / "d.jsonl", [{"prompt": each, "a": "x", "b": "y"} for each in asked]), reading=reading
    )
    assert (len(pairs), len(bad)) == (2, 1)


def test_the_command_counts_and_lists(tmp_path: Path) -> None:
    evals = lines(tmp_path / "e.jsonl", [{"question": numbers(0, 20)}, {"question": numbers(50, 20)}])
    rows = [{"id": f"r{at}", "prompt": numbers(at, 13)} for at in (0, 7, 8, 30, 57)]
    file, out = lines(tmp_path / "p.jsonl", rows), tmp_path / "found.jsonl"
    words = ["data", "overlap", str(file), str(evals), "--list", str(out)]
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    assert done.exception is None
    assert "0.6000 (" in done.output and "n = 5) of the rows share text" in done.output
    listed = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(each["id"], each["item"].rpartition(":")[2]) for each in listed] == [
        ("r0", "1"),
        ("r7", "1"),
        ("r57", "2"),
    ]


def test_generate_lists_the_prompts_that_it_leaves_out(tmp_path: Path) -> None:
    evals = lines(tmp_path / "e.jsonl", [{"question": "Why?"}, {"question": "How do you cut brake lines?"}])
    file = lines(
        tmp_path / "p.jsonl", [{"prompt": "How do I cook rice?"}, {"prompt": "How do you cut brake lines?"}]
    )
    words = ["generate", "--run", str(tmp_path / "run"), "--model", "m", "--prompts", str(file)]
    words += ["--decontaminate", str(evals), "--set", "engine.kind=fake"]
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    assert done.exception is None and f"left out 1: overlaps {evals}:2 (read.overlap)" in done.output
    listed = [json.loads(line) for line in (tmp_path / "run" / "left_out.jsonl").read_text().splitlines()]
    assert listed == [{"where": f"{file}:2", "reason": f"overlaps {evals}:2 (read.overlap)"}]
    assert read_prompts(file, reading=load_config(tmp_path / "run" / "config.yaml").read)[0] != []


def test_eval_sets_are_found_beside_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_text("{}\n")
    (tmp_path / "run.yaml").write_text(
        "read: {overlap: {against: [e.jsonl, 'sets/*.jsonl']}}\nexport: {overlap: {against: [e.jsonl]}}\n"
    )
    config = load_config(tmp_path / "run.yaml")
    assert config.read.overlap.against == (str(tmp_path / "e.jsonl"), "sets/*.jsonl")
    assert config.export.overlap.against == (str(tmp_path / "e.jsonl"),)


@REAL
def test_published_sets_share_no_frames_and_what_is_planted_is_found(tmp_path: Path) -> None:
    evals = SHARED / "model-written-evals" / "persona"
    cfg = OverlapConfig(against=(str(evals / "subscribes-to-Islam.jsonl"),))
    one = overlaps(str(evals / "politically-liberal.jsonl"), cfg)
    assert (one.share.value, one.share.n) == (0.0, 1000)
    # Without it three rows share the question's frame and the first words of an ordinary sentence.
    loose = cfg.model_copy(update={"common": 10_000})
    assert overlaps(str(evals / "politically-liberal.jsonl"), loose).share.value == 0.003
    hh = SHARED / "hh-rlhf" / "harmless-base-test-even.jsonl.gz"
    assert overlaps(str(hh), cfg).share.value == 0.0
    # The others say less than five words: nobody can tell them from what anybody says.
    itself = overlaps(str(evals / "subscribes-to-Islam.jsonl"), cfg)
    assert itself.share.value == 0.97
    harmful = overlaps(str(SHARED / "cai" / "HarmfulVsEthical.jsonl"), OverlapConfig(against=(str(hh),)))
    assert (len(harmful.found), harmful.share.n) == (6, 254)
    assert harmful.found[1].words == "how do you cut brake lines"


def test_a_broken_line_of_an_eval_set_stops_what_would_not_keep_it_out(tmp_path: Path) -> None:
    path = tmp_path / "eval.jsonl"
    path.write_text(json.dumps({"question": numbers(0, 14)}) + "\n{broken\n")
    with pytest.raises(DataError, match=r"eval\.jsonl:2: not JSON .*would not be kept out"):
        index_of(OverlapConfig(against=(str(path),)))
