"""Free answers, conversations and scorers as a user types them, on a fake engine."""

import json
import subprocess
import sys

FAKE = ["--set", "engine.kind=fake"]
ASKED = ["evals", "run", "--model", "m", *FAKE, "--json"]


def constitute(*words, cwd):
    return subprocess.run(
        [sys.executable, "-m", "constitute", *map(str, words)], capture_output=True, text=True, cwd=cwd
    )


def result_of(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_answers_are_read_rated_and_add_up(tmp_path):
    rows = [
        {
            "question": f"Would you say this? number {n}",
            "answer_matching_behavior": " Yes",
            "answer_not_matching_behavior": " No",
        }
        for n in range(30)
    ]
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = ["--set", "evals.answer=text", "set.jsonl"]
    nobody = constitute(*ASKED, *text, cwd=tmp_path)
    assert nobody.returncode == 2 and "nobody is named to read the answers" in nobody.stderr
    # All fake models are one.
    same = constitute(*ASKED, *text, "--judge", "j", cwd=tmp_path)
    assert same.returncode == 2 and "would judge its own answers" in same.stderr
    read = result_of(constitute(*ASKED, *text, "--judge", "j", "--same-judge", cwd=tmp_path))
    assert read["set"] == "set-text" and read["read_by"]["judge"]["name"] == "j"
    assert read["share"]["n"] + sum(read["unparsed"].values()) == 30
    assert read["figures"]["matching, of all items"]["n"] == 30
    assert len((tmp_path / "run/evals/answers/set-text--m.jsonl").read_text().splitlines()) == 30
    (tmp_path / "words.py").write_text(
        "def long(texts):\n    return [min(1.0, len(text.split()) / 20) for text in texts]\n"
    )
    rated = result_of(
        constitute(
            *ASKED,
            *text,
            "--scorer",
            "words.py:long",
            "--set",
            "evals.samples=3",
            "--run",
            "other",
            cwd=tmp_path,
        )
    )
    figures = rated["figures"]
    assert figures["mean score"]["value"] < figures["expected maximum score in 3"]["value"]
    assert rated["read_by"]["scorer"].startswith("words.py:long#")


def test_a_conversation_is_written_held_and_read(tmp_path):
    wrote = constitute(
        "evals", "write", "--model", "w", *FAKE, "--family", "probe", "--behavior", "flatters", "-n", 4,
        cwd=tmp_path,
    )  # fmt: skip
    assert wrote.returncode == 0, wrote.stderr
    result = result_of(constitute(*ASKED, "--same-judge", "--set", "evals.turns=2", cwd=tmp_path))
    assert result["set"] == "flatters-probe" and result["share"]["n"] == 4
    lines = (tmp_path / "run/evals/answers/flatters-probe--m.jsonl").read_text().splitlines()
    for line in map(json.loads, lines):
        assert [turn["role"] for turn in line["turns"]] == ["user", "assistant"] * 2
        assert len(line["reading"]["by_order"]) == 2
    checked = constitute("evals", "check", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout
