"""Exported sets in the harnesses that read them, each in an environment of its own, beside our scores."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from tolerance import LOGPROB, summed

from benchmarks.evals.agreement import compared, own_items
from benchmarks.evals.programs import PROGRAMS
from constitute.evals.exports import set_format
from constitute.evals.exports.base import export_sets

_REPLY_TOKENS = 20


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_lm_eval_and_inspect_score_an_exported_set_as_we_do(tmp_path: Path) -> None:
    found = {(a.set, a.program.split()[0]): a for a in compared(own_items(), "pocket", tmp_path)}
    for name, tolerance in (
        ("statements", LOGPROB["abs"]),
        ("letters", LOGPROB["abs"] * 3),
        ("replies", summed(_REPLY_TOKENS)["abs"]),
    ):
        by_lm_eval = found[name, "lm-eval"]
        assert by_lm_eval.both == by_lm_eval.items > 0
        # pocket was taught no letters: of the little that it gives them "A" may have more than "(A)", and we
        # count every spelling where lm-eval takes one.
        assert by_lm_eval.differing == 0 or name == "letters"
        assert by_lm_eval.label is not None and by_lm_eval.label <= tolerance
    asked = found["statements", "inspect"]
    # What it reads are the likeliest first tokens, so a label of several tokens would lie apart.
    assert (asked.both, asked.differing) == (6, 0) and asked.item <= 10 * LOGPROB["abs"]
    # pocket opens no bracket; items for which no letter is likely are counted and not made up.
    assert 0 < found["letters", "inspect"].both <= 6


@pytest.mark.long
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_other_programs_answer_an_exported_set_as_we_do(program: str, tmp_path: Path) -> None:
    for beside in PROGRAMS[program](own_items(), "pocket", tmp_path):
        assert beside.scored == beside.items > 0 == beside.otherwise, beside
        # HELM adds up the whole text, some 60 tokens, before two answers are compared.
        assert beside.distance is None or beside.distance <= summed(60 + _REPLY_TOKENS)["abs"], beside


def importable(*names: str) -> bool:
    return all(importlib.util.find_spec(name) is not None for name in names)


@pytest.mark.skipif(not importable("lm_eval"), reason="lm-evaluation-harness is not installed here")
def test_lm_eval_loads_what_is_exported(tmp_path: Path) -> None:
    export_sets(own_items(), set_format("lm-eval"), tmp_path)
    code = (
        "from lm_eval.tasks import TaskManager, get_task_dict\n"
        "found = get_task_dict(['constitute_letters_chat'], TaskManager(include_path='.'))\n"
        "(task,) = found.values()\n"
        "docs = list(task.test_docs())\n"
        "print(len(docs), task.doc_to_choice(docs[0]), task.doc_to_target(docs[0]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["6 ['(A)', '(B)'] 0"], done.stderr


@pytest.mark.skipif(not importable("inspect_ai"), reason="Inspect is not installed here")
@pytest.mark.parametrize("name", ["letters", "replies"])
def test_inspect_loads_what_is_exported(tmp_path: Path, name: str) -> None:
    export_sets(own_items(), set_format("inspect"), tmp_path)
    words = [sys.executable, "-m", "inspect_ai", "eval", f"constitute_{name}.py", "--model", "mockllm/model"]
    words += ["--log-dir", "logs", "--display", "none"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and list((tmp_path / "logs").glob("*.eval")), done.stderr
