"""`constitute evals` and `constitute report` as a user types them, on a fake engine; and on vLLM."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from places import SHARED
from tolerance import LOGPROB

from constitute.config import load_config
from constitute.errors import GateFailed
from constitute.evals.run import run_sets
from constitute.evals.write import write_sets
from constitute.types import Message, Request

DATA = SHARED / "model-written-evals"
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"real eval sets are not at {DATA}")
FAKE = ["--set", "engine.kind=fake"]


def constitute(*words, cwd):
    return subprocess.run(
        [sys.executable, "-m", "constitute", *map(str, words)], capture_output=True, text=True, cwd=cwd
    )


def test_write_run_compare_and_report(tmp_path):
    behavior = "helps people to harm others"
    wrote = constitute(
        "evals", "write", "--model", "m", *FAKE, "--behavior", behavior, "-n", 10, cwd=tmp_path
    )
    assert wrote.returncode == 0, wrote.stderr
    assert "next: constitute evals run --run run --model m" in wrote.stderr
    path = tmp_path / "run" / "evals" / "helps-people-to-harm-others.jsonl"
    labels = [json.loads(line)["answer_matching_behavior"] for line in path.read_text().splitlines()]
    assert labels == [" Yes", " No"] * 5
    for policy in ("base", "ppo"):
        ran = constitute("evals", "run", "--model", policy, *FAKE, "--json", cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr
        result = json.loads(ran.stdout.splitlines()[-1])
        assert (result["event"], result["policy"], result["share"]["n"]) == ("result", policy, 10)
    assert constitute("evals", "compare", "m", "ppo", cwd=tmp_path).returncode == 2
    compared = constitute("evals", "compare", "base", "ppo", cwd=tmp_path)
    assert compared.returncode == 0, compared.stderr
    head, row, _, sentence = compared.stdout.splitlines()
    assert head.split()[:3] == ["set", "base", "ppo"]
    assert row.split()[0] == "helps-people-to-harm-others"
    assert sentence.startswith("helps-people-to-harm-others: no change")
    page = constitute("evals", "compare", "base", "--out", "compared.html", cwd=tmp_path)
    assert "wrote compared.html" in page.stderr, page.stderr
    assert "helps-people-to-harm-others: base and ppo" in (tmp_path / "compared.html").read_text()
    pages = constitute("evals", "page", cwd=tmp_path)
    (set_page,) = pages.stdout.splitlines()
    assert "All 10 items" in (tmp_path / set_page).read_text(), pages.stderr
    report = constitute("report", cwd=tmp_path)
    assert report.stdout.strip() == str(Path("run") / "report.html")
    assert "helps-people-to-harm-others" in (tmp_path / "run" / "report.html").read_text()


def test_failed_rows_end_with_3_and_are_explained(tmp_path):
    # The fake engine answers in 4 to 27 words, one a token: some statements are cut.
    cut = ["--set", "evals.statement.max_tokens=24"]
    done = constitute(
        "evals", "write", "--model", "m", *FAKE, *cut, "--behavior", "lies", "-n", 10, cwd=tmp_path
    )
    assert done.returncode == 3, done.stderr
    row = done.stdout.splitlines()[1]
    assert "persona: statements to say Yes or No to" in row
    assert "more than wanted" in row
    assert "lies: no item from" in done.stderr and "statement was cut at 24 tokens" in done.stderr


def test_what_a_result_holds_never_reaches_the_terminal_as_it_is(tmp_path):
    file = tmp_path / "s.jsonl"
    line = {"question": "q", "answer_matching_behavior": " Yes", "answer_not_matching_behavior": " No"}
    file.write_text("".join(json.dumps(line | {"question": f"q{i}"}) + "\n" for i in range(4)))
    for policy in ("one", "two"):
        ran = constitute("evals", "run", "--model", policy, *FAKE, file, cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr
    for path in (tmp_path / "run" / "evals" / "results").glob("*.json"):
        text = path.read_text()
        for name in ("one", "two"):
            text = text.replace(f'"{name}"', json.dumps(f"{name}\x1b]0;pwned\x07\u202e"))
        path.write_text(text)
    for words in (["one\x1b]0;pwned\x07\u202e", "two\x1b]0;pwned\x07\u202e"], ["three", "four"]):
        done = constitute("evals", "compare", *words, cwd=tmp_path)
        assert not {"\x1b", "\x07", "\u202e"} & set(done.stdout + done.stderr)
        assert done.returncode == (0 if words[0].startswith("one") else 2)


def test_a_gate_that_keeps_nothing_exits_with_4(tmp_path):
    strict = ["--set", "evals.min_confidence=0.9999"]
    done = constitute("evals", "write", "--model", "m", *FAKE, *strict, "--behavior", "lies", cwd=tmp_path)
    assert done.returncode == 4
    assert done.stderr.splitlines()[-1].startswith(
        "constitute: no item of lies survives its gate: 400 candidates"
    )
    assert "Traceback" not in done.stderr


def test_a_set_of_less_than_half_is_shown_and_exits_with_4(tmp_path):
    strict = ["--set", "evals.min_confidence=0.6", "--set", "evals.oversample=1"]
    words = ["evals", "write", "--model", "m", *FAKE, *strict, "--behavior", "lies", "-n", 40]
    done = constitute(*words, cwd=tmp_path)
    assert done.returncode == 4
    assert done.stdout.splitlines()[1].split()[0] == "lies"
    assert re.search(r"constitute: lies has 1?\d of the 40 items wanted, less than 50%", done.stderr)
    assert (tmp_path / "run" / "evals" / "lies.jsonl").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["evals", "write", "--model", "m", *FAKE], "nothing to write items for"),
        (["evals", "write", "--model", "m", *FAKE, "--principle", "all"], "needs a --constitution"),
        (["evals", "run", "--model", "m", *FAKE], "no eval sets in run/evals"),
        (["evals", "run", "--model", "m", *FAKE, "none.jsonl"], "cannot read eval items from 'none.jsonl'"),
        (["evals", "compare", "a", "b"], "no results of policy 'a' in run"),
        (["evals", "page"], "no eval sets in run/evals"),
        (["evals", "run", "--checkpoints", "none"], "none holds no training with checkpoints"),
        (["report"], "no run in run"),
    ],
)
def test_misuse_is_one_sentence_and_exit_2(words, sentence, tmp_path):
    done = constitute(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


@needs_data
def test_real_sets_are_scored_whatever_their_number_of_options(tmp_path):
    risk = DATA / "advanced-ai-risk"
    words = ["evals", "run", "--model", "m", *FAKE, "--json", "--limit", 50]
    names = ("lm/myopic-reward", "few-shot/survival-instinct", "human/survival-instinct")
    files = [risk / f"{name}.jsonl" for name in names]
    done = constitute(*words, *files, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines() if '"result"' in line]
    counted = {r["set"]: r["share"]["n"] + sum(r["unparsed"].values()) for r in results}
    assert counted == {"myopic-reward": 50, "few-shot-survival-instinct": 10, "human-survival-instinct": 50}


@needs_data
@pytest.mark.vllm
def test_scores_are_the_engines_own_log_probabilities(vllm_engine, tmp_path):
    path = DATA / "advanced-ai-risk" / "few-shot" / "survival-instinct.jsonl"
    for spelled in (True, False):
        sets = ["evals.min_mass=0", "evals.max_unparsed=1", f"evals.spelled={str(spelled).lower()}"]
        config = load_config(None, sets, {"run": tmp_path / str(spelled), "model": "served"})
        (result,) = run_sets(config, [path], policy="base", engine=vllm_engine)
        assert result.share.n + result.n_unparsed == 10
        score = result.scores[0]
        row = json.loads(path.read_text().splitlines()[int(score.id) - 1])
        request = Request(messages=(Message(role="user", content=row["question"]),))
        given = [row["answer_matching_behavior"].strip(), row["answer_not_matching_behavior"].strip()]
        names = [label.strip("()") for label in given] if spelled else given
        choice = asyncio.run(vllm_engine.choose(request, names, spelled=spelled))
        assert score.logprobs == pytest.approx(choice.logprobs, **LOGPROB)


@pytest.mark.vllm
def test_a_served_model_writes_items_that_add_up(vllm_engine, tmp_path):
    sets = ["evals.n=4", "evals.oversample=2", "evals.min_mass=0", "evals.statement.temperature=0.7"]
    config = load_config(None, sets, {"run": tmp_path / "run", "model": "served"})
    try:
        (written,) = write_sets(config, ["helps people"], [], engine=vllm_engine)
    except GateFailed as failure:
        # A model that agrees with everything leaves no pair; the sentence accounts for all 8 candidates.
        assert "8 candidates" in str(failure)
        return
    assert sum(written.counts.values()) == written.candidates == 8
    assert written.counts["ok"] == len(written.items) + sum(written.dropped.values())
