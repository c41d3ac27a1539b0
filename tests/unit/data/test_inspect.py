"""What `data inspect` says of a file: shapes, uses, lengths, repeats, ties, scripts; and its memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from places import SHARED

from constitute.cli.main import cli
from constitute.config.data import ReadConfig
from constitute.data.inspect import Inspected, inspect
from constitute.data.scripts import script_of

HH = SHARED / "hh-rlhf" / "harmless-base-test-even.jsonl.gz"


def webgpt(question: str, one: str, two: str, score: float) -> dict[str, Any]:
    return {
        "question": {"full_text": question},
        "answer_0": one,
        "score_0": score,
        "answer_1": two,
        "score_1": -score,
    }


ROWS: list[Any] = [
    webgpt("What floats?", "Wood and ice do.", "Wood.", 0.5),
    webgpt("What floats?", "Wood and ice do.", "Wood.", 0.5),
    webgpt("Что плавает?", "Лёд.", "Дерево и лёд.", -0.5),
    webgpt("Why?", "So.", "", 0.25),
    webgpt("Why?", "So.", "Thus.", 0.0),
    {"prompt": "Own", "chosen": "yes yes", "rejected": "no"},
    {"nothing": 1},
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mixed.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS) + "{torn\n", encoding="utf-8")
    return path


def rows_of(found: Inspected) -> dict[str, int]:
    return {used.use: used.rows for used in found.uses}


def reasons(found: Inspected, use: str) -> list[tuple[int, str, str]]:
    left_out = next(used.left_out for used in found.uses if used.use == use)
    return [(each.number, each.reason, each.first.rpartition(":")[2]) for each in left_out]


def test_figures_of_a_mixed_file(file: Path) -> None:
    found = inspect(file)
    assert (found.rows, found.files) == (8, 1)
    assert [(shape.name, shape.rows) for shape in found.shapes] == [("webgpt", 5), ("own", 2)]
    assert found.shapes[0].keys == ("question", "answer_0", "answer_1", "score_0", "score_1")
    assert rows_of(found) == {"prompts": 6, "pairs": 5, "preferences": 5, "conversations": 5}
    assert [(each.number, each.first) for each in found.bad] == [(1, f"{file}:8")]
    nothing = "none of the keys prompt, messages, chosen; found 'nothing'"
    assert reasons(found, "prompts") == [(1, nothing, "7")]
    assert reasons(found, "preferences")[0] == (1, "an answer is empty", "4")
    assert reasons(found, "conversations")[0] == (1, "a tie: no answer is the best", "5")
    assert (found.repeated_prompts, found.repeated_pairs, found.most_pairs_of_a_prompt) == (2, 1, 2)
    assert found.ties == 1
    assert found.longer_chosen is not None
    assert (found.longer_chosen.value, found.longer_chosen.n) == (1.0, 4)
    assert found.scripts == {"Latin": 5, "Cyrillic": 1}
    assert found.prompts is not None and found.answers is not None
    # Prompts of 2, 2, 2, 1, 1, 1 words; answers of 4, 1, 4, 1, 1, 3, 1, 1, 1, 2, 1.
    assert (found.prompts.n, found.prompts.median, found.prompts.most) == (6, 2, 2)
    assert (found.answers.n, found.answers.median, found.answers.p95, found.answers.most) == (11, 1, 4, 4)


def test_limit_and_settings(file: Path) -> None:
    assert inspect(file, limit=3).rows == 3
    near = inspect(file, reading=ReadConfig(min_gap=0.6))
    assert (7 - 1, "the scores are nearer than read.min_gap", "4") not in reasons(near, "pairs")
    # Gaps are 1, 1, 1, 0.5 (its answer is empty), 0.
    assert reasons(inspect(file, reading=ReadConfig(min_gap=1.5)), "pairs")[0] == (
        3,
        "the scores are nearer than read.min_gap",
        "1",
    )


def test_near_prompts_and_pairs_of_one_prompt_are_counted(file: Path, tmp_path: Path) -> None:
    assert (inspect(file).near_prompts, inspect(file, near=0.8).near_prompts) == (None, 2)
    capped = inspect(file, reading=ReadConfig(per_prompt=1))
    assert rows_of(capped) == {"prompts": 6, "pairs": 4, "preferences": 4, "conversations": 5}
    over = (1, "more pairs of one prompt than read.per_prompt", "2")
    assert over in reasons(capped, "pairs") and over in reasons(capped, "preferences")
    assert capped.most_pairs_of_a_prompt == 1
    # 20 runs of five words, and 21 with one more word: 20 of 21 are shared.
    text = " ".join(f"w{n}" for n in range(24))
    path = tmp_path / "near.txt"
    path.write_text(f"{text}\n{text} more\n{text}\n")
    for near, number in ((0.95, 2), (0.96, 1)):
        found = inspect(path, near=near)
        assert (found.repeated_prompts, found.near_prompts) == (1, number)


def test_votes_too_near_leave_the_prompt(tmp_path: Path) -> None:
    path = tmp_path / "shp.jsonl"
    row = {
        "history": "Q",
        "human_ref_A": "one",
        "human_ref_B": "two",
        "score_A": 5,
        "score_B": 4,
        "labels": 1,
    }
    path.write_text(json.dumps(row | {"score_ratio": 1.25}))
    found = inspect(path, reading=ReadConfig(min_ratio=2))
    assert rows_of(found) == {"prompts": 1, "pairs": 0, "preferences": 0, "conversations": 0}
    assert reasons(found, "pairs") == [(1, "score_ratio is below read.min_ratio", "1")]


def test_the_command(file: Path) -> None:
    done = CliRunner().invoke(cli, ["data", "inspect", str(file)], standalone_mode=False)
    assert done.exception is None, done.output
    for part in (
        "mixed.jsonl: 8 rows",
        "WebGPT: questions with two answers and their scores",
        "an answer is empty",
        "median 2, 95 % at most 2, longest 2 (n = 6)",
        "Latin 5, Cyrillic 1",
    ):
        assert part in done.output
    done = CliRunner().invoke(
        cli, ["data", "inspect", str(file), "--json", "--limit", "2"], standalone_mode=False
    )
    assert Inspected.model_validate_json(done.stdout) == inspect(file, limit=2)


def test_lengths_in_tokens(file: Path) -> None:
    done = CliRunner().invoke(
        cli, ["data", "inspect", str(file), "--model", "pocket", "--json"], standalone_mode=False
    )
    assert done.exception is None, done.output
    found = Inspected.model_validate_json(done.stdout)
    assert found.unit == "tokens" and found.prompts is not None and found.prompts.most > 2


@pytest.mark.skipif(not HH.is_file(), reason="hh-rlhf is not at ../shared/data/hh-rlhf")
def test_all_of_hh_rlhf() -> None:
    found = inspect(HH)
    assert rows_of(found) == dict.fromkeys(("prompts", "pairs", "preferences", "conversations"), 1156)
    assert found.longer_chosen is not None and found.longer_chosen.n == 1153
    assert found.longer_chosen.value == pytest.approx(0.476, abs=5e-4)


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Hello", "Latin"),
        ("Grüße aus Łódź", "Latin"),
        ("12 + 3", "none"),
        ("Привет, world", "Cyrillic"),
        ("你好世界", "Han"),
        ("日本語のテキスト", "Kana"),
        ("안녕하세요", "Hangul"),
        ("नमस्ते दुनिया", "Devanagari"),
        ("ᏣᎳᎩ", "other"),
    ],
)
def test_scripts(text: str, script: str) -> None:
    assert script_of(text) == script


# The most memory a process had, in KiB on Linux, before and after a long file.
_GROWTH = """
import resource, sys
from constitute.config.data import ReadConfig
from constitute.data.readers.recognise import pieces
from constitute.data.rows import read_rows

def read(path):
    found = sum(each.family == "alpaca" for each in pieces(read_rows(path), ReadConfig()))
    return found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

print(*read(sys.argv[1]), *read(sys.argv[2]))
"""


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_memory_stays_flat_over_200_000_rows(tmp_path: Path, kind: str) -> None:
    """The long file has some 60 MB; reading and recognising hold a piece of it."""
    paths = []
    for rows in (10, 200_000):
        values = ({"instruction": f"{at} " + "word " * 50, "output": "yes"} for at in range(rows))
        path = tmp_path / f"{rows}.{kind}"
        with path.open("w", encoding="utf-8") as out:
            out.write({"json": "[", "csv": "instruction,output\n"}.get(kind, ""))
            for at, value in enumerate(values):
                line = f"{value['instruction']},yes" if kind == "csv" else json.dumps(value)
                out.write(("," if kind == "json" and at else "") + line + "\n")
            out.write("]" if kind == "json" else "")
        paths.append(path)
    assert paths[1].stat().st_size > 50e6
    done = subprocess.run(
        [sys.executable, "-c", _GROWTH, *map(str, paths)], capture_output=True, text=True, check=True
    )
    few, before, many, after = map(int, done.stdout.split())
    assert (few, many) == (10, 200_000)
    assert after - before < 20_000


def test_inspect_keeps_only_numbers(tmp_path: Path) -> None:
    """Eight bytes a length and a hash: 1,500 rows more, of 10 kB each, take next to none."""
    path = tmp_path / "long.jsonl"
    peaks = []
    for rows in (500, 2_000):
        with path.open("w", encoding="utf-8") as out:
            for at in range(rows):
                out.write(json.dumps({"instruction": f"{at} " + "word " * 2_000, "output": "yes"}) + "\n")
        tracemalloc.start()
        assert inspect(path).rows == rows
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 1e6
