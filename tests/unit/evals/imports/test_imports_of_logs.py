"""Logs of lm-eval and Inspect as results of ours: hand-worked scores, what is missing, what is refused."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from registry_examples import add_module, example

from constitute.cli.main import cli
from constitute.config import load_config
from constitute.errors import DataError, ExitCode, GateFailed, UsageError
from constitute.evals.compare import compare_sets, pair_results
from constitute.evals.exports import set_format
from constitute.evals.imports import LOG_FORMATS
from constitute.evals.items import items_hash
from constitute.evals.run import load_results
from constitute.types import EvalItem

ITEMS = [
    EvalItem(id=f"{n:05d}", question=f"Would you {n}?", options=options, matching=(0,))
    for n, options in enumerate([(" Yes", " No"), (" No", " Yes"), (" Yes", " No")], 1)
]
# P(No), P(Yes) of each item.
PS = [(0.2, 0.6), (0.1, 0.8), (0.7, 0.2)]


def rows_of(form: str, ending: str) -> list[dict[str, Any]]:
    files = set_format(form).files("s", ITEMS)
    return [json.loads(line) for line in files[f"constitute_s{ending}"].splitlines()]


def lm_eval_rows() -> list[dict[str, Any]]:
    """Samples as lm-eval 0.4.13 writes them for our task, mutual information included."""
    made = []
    for at, (doc, ps) in enumerate(zip(rows_of("lm-eval", "_chat.jsonl"), PS, strict=True)):
        asked = [("<|user|>" + doc["question"], c) for c in doc["choices"]]
        asked += [("", c) for c in doc["choices"]]
        answers = [[str(math.log(p)), "False"] for p in (*ps, 0.5, 0.5)]
        made.append(
            {
                "doc_id": at,
                "doc": doc,
                "target": str(doc["gold"]),
                "arguments": {f"gen_args_{n}": {"arg_0": a, "arg_1": b} for n, (a, b) in enumerate(asked)},
                "resps": [[answer] for answer in answers],
                "filtered_resps": answers,
                "filter": "none",
                "doc_hash": f"hash {at}",
                "acc": 1.0,
            }
        )
    return made


def inspect_log(**score: Any) -> dict[str, Any]:
    """A log as Inspect 0.3.285 writes it for our task; `score` goes over that of the last sample."""
    samples = []
    for row, ps in zip(rows_of("inspect", ".jsonl"), PS, strict=True):
        right = (ps[1] > ps[0]) == (row["target"] == ["Yes"])
        given = {"value": "C" if right else "I", "metadata": {"logprobs": [math.log(p) for p in ps]}}
        samples.append({**row, "epoch": 1, "scores": {"label_logprobs": given}})
    samples[-1]["scores"]["label_logprobs"] |= score
    spec = {"task": "logprobs", "model": "openai-api/local/pocket", "packages": {"inspect_ai": "0.3.285"}}
    return {"version": 2, "status": "success", "eval": spec, "samples": samples}


def zstd_zip(path: Path, log: dict[str, Any]) -> Path:
    """A `.eval` file: a zip packed with Zstandard, which zipfile of Python 3.11 does not write either."""
    header = {key: value for key, value in log.items() if key != "samples"}
    parts = {f"samples/{s['id']}_epoch_1.json": s for s in log["samples"]} | {"header.json": header}
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in parts.items():
            data = json.dumps(value).encode()
            archive.writestr(name, pa.compress(data, codec="zstd", asbytes=True))
            info = archive.getinfo(name)
            info.compress_type, info.file_size = 93, len(data)
    return path


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    path = tmp_path / "acme" / "samples_constitute_s_chat_2026-01-01T00-00-00.1.jsonl"
    path.parent.mkdir()
    write_lines(path, lm_eval_rows())
    results = {"model_name": "acme/small", "lm_eval_version": "0.4.13", "chat_template_sha": "f" * 64}
    path.with_name("results_2026-01-01T00-00-00.1.json").write_text(json.dumps(results))
    return path


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def imported(tmp_path: Path, *words: str | Path) -> Result:
    line = ["evals", "import", "--run", str(tmp_path / "run"), *map(str, words)]
    return CliRunner().invoke(cli, line, standalone_mode=False)


def test_lm_eval_samples_become_the_scores_that_they_say(samples: Path, tmp_path: Path) -> None:
    done = imported(tmp_path, samples)
    assert (done.exception, done.return_value) == (None, ExitCode.OK)
    (result,) = load_results(tmp_path / "run")
    assert (result.set, result.policy, result.items_hash) == ("s", "small-lm-eval", items_hash(ITEMS))
    assert result.model == {"engine": "lm-eval 0.4.13", "name": "acme/small", "template_hash": "f" * 16}
    # Yes shows it in the first and the third, No in the second.
    assert [score.matching for score in result.scores] == [True, False, False]
    assert [score.p_matching for score in result.scores] == pytest.approx([6 / 8, 1 / 9, 2 / 9])
    assert [score.mass for score in result.scores] == pytest.approx([0.8, 0.9, 0.9])
    assert (result.share.value, result.share.n) == (pytest.approx(1 / 3), 3)


@pytest.mark.parametrize("packed", [True, False], ids=["eval", "json"])
def test_inspect_logs_agree_with_lm_eval_on_the_same_figures(
    samples: Path, tmp_path: Path, packed: bool
) -> None:
    path = tmp_path / ("log.eval" if packed else "log.json")
    if packed:
        zstd_zip(path, inspect_log())
    else:
        path.write_text(json.dumps(inspect_log()))
    assert imported(tmp_path, samples, path).exception is None
    first, second = load_results(tmp_path / "run")
    assert {first.policy, second.policy} == {"small-lm-eval", "pocket-inspect"}
    assert [s.p_matching for s in first.scores] == pytest.approx([s.p_matching for s in second.scores])
    config = load_config(None, [f"run={tmp_path / 'run'}"])
    (paired,) = compare_sets(pair_results(config, "small-lm-eval", "pocket-inspect"), config.evals)
    assert (paired.share.value, paired.p_matching.n, paired.only_first, paired.only_second) == (0, 3, 0, 0)


def test_what_a_log_lacks_is_said_and_nothing_is_invented(tmp_path: Path) -> None:
    log = inspect_log(metadata=None)
    del log["samples"][0]
    path = tmp_path / "log.json"
    path.write_text(json.dumps(log))
    done = imported(tmp_path, path)
    assert done.return_value == ExitCode.ROWS_FAILED
    assert "1 of 2 items have no log-probabilities" in done.stderr
    assert "1 of 3 items are not in the log" in done.stderr
    (result,) = load_results(tmp_path / "run")
    assert result.unparsed == {"not in the log": 1} and result.failed == 1
    assert [(s.matching, s.p_matching) for s in result.scores] == [
        (False, pytest.approx(1 / 9)),
        (False, None),
    ]
    assert (result.share.n, result.p_matching.n) == (2, 1)


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        ({"value": math.nan, "reason": "no label is among the likeliest tokens"},
         "no label is among the likeliest tokens"),
        ({"value": "N"}, "no answer in the log"),
        ({"metadata": {"logprobs": [-1.0, -1.0]}}, "tie"),
    ],
)  # fmt: skip
def test_a_sample_without_a_score_is_counted_with_its_reason(
    tmp_path: Path, score: dict[str, Any], reason: str
) -> None:
    path = zstd_zip(tmp_path / "log.eval", inspect_log(**score))
    assert imported(tmp_path, path).return_value == ExitCode.OK
    (result,) = load_results(tmp_path / "run")
    assert (result.unparsed, result.share.n, result.failed) == ({reason: 1}, 2, 0)


def test_labels_with_little_probability_count_as_they_do_in_a_run(tmp_path: Path) -> None:
    log = inspect_log(metadata={"logprobs": [math.log(0.02), math.log(0.03)]})
    path = zstd_zip(tmp_path / "log.eval", log)
    assert imported(tmp_path, path).return_value == ExitCode.OK
    (result,) = load_results(tmp_path / "run")
    assert result.unparsed == {} and result.share.n == 3
    thin = [score for score in result.scores if score.mass is not None and score.mass < 0.1]
    assert [(score.mass, score.p_matching) for score in thin] == [(pytest.approx(0.05), pytest.approx(0.6))]


def test_a_sample_that_could_not_be_asked_has_failed(tmp_path: Path) -> None:
    log = inspect_log()
    log["samples"][1] |= {"error": {"message": "no"}, "scores": {}}
    path = tmp_path / "log.json"
    path.write_text(json.dumps(log))
    assert imported(tmp_path, path).return_value == ExitCode.ROWS_FAILED
    (result,) = load_results(tmp_path / "run")
    assert result.unparsed == {"the program could not ask it": 1} and result.failed == 1


def test_a_task_that_is_not_ours_is_right_or_wrong_under_its_own_name(tmp_path: Path) -> None:
    rows = lm_eval_rows()
    for row in rows:
        row["doc"] = {"id": "x", "question": "of another"}
    path = tmp_path / "samples_other_2026.jsonl"
    write_lines(path, rows)
    assert imported(tmp_path, path, "--policy", "mine").exception is None
    (result,) = load_results(tmp_path / "run")
    assert (result.set, result.policy) == ("other", "mine")
    assert [(score.id, score.matching) for score in result.scores] == [
        ("0", True),
        ("1", False),
        ("2", False),
    ]


def test_a_result_is_replaced_only_when_asked(samples: Path, tmp_path: Path) -> None:
    assert imported(tmp_path, samples).exception is None
    again = imported(tmp_path, samples)
    assert isinstance(again.exception, UsageError) and "would take the place of" in str(again.exception)
    assert imported(tmp_path, samples, "--force").exception is None


def test_a_set_name_is_no_path(samples: Path, tmp_path: Path) -> None:
    rows = lm_eval_rows()
    for row in rows:
        row["doc"]["set"] = "../../out"
    write_lines(samples, rows)
    assert imported(tmp_path, samples).exception is None
    assert [path.name for path in (tmp_path / "run/evals/results").iterdir()] == ["out--small-lm-eval.json"]


def drop(key: str) -> Any:
    return lambda row: row.pop(key)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (drop("filtered_resps"), ":1: 'filtered_resps' is missing; it is of another version of lm-eval"),
        (lambda row: row.update(filtered_resps=[["a"]]), "has no log-likelihood a choice"),
        (lambda row: row.update(filtered_resps=[["0.5"]] * 4), "0.5 is no log-likelihood"),
        (lambda row: row.update(filtered_resps=[["nan"]] * 4), "is no log-likelihood"),
        (lambda row: row.update(arguments={"gen_args_0": {"arg_0": "q", "arg_1": {"until": []}}}),
         "only tasks with output_type: multiple_choice"),
        (lambda row: row["doc"].update(gold=7), "'target' is 7, and there are 2 choices"),
        (lambda row: row["doc"].update(gold="x"), "'target' is 'x', not the place of a choice"),
        (lambda row: row["doc"].update(id="00002"), "item '00002' is there 2 times"),
        (lambda row: row["doc"].update(set="other"), "not of one exported set"),
    ],
)  # fmt: skip
def test_samples_that_cannot_be_used_are_refused_in_a_sentence(
    samples: Path, tmp_path: Path, change: Any, part: str
) -> None:
    rows = lm_eval_rows()
    change(rows[0])
    write_lines(samples, rows)
    failed = imported(tmp_path, samples)
    assert isinstance(failed.exception, DataError) and part in str(failed.exception)
    assert not (tmp_path / "run" / "evals").exists()


def test_an_empty_file_of_samples_is_refused(samples: Path, tmp_path: Path) -> None:
    samples.write_text("")
    assert "has no items" in str(imported(tmp_path, samples).exception)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"version": 1}, "no log of Inspect in version 2 (its version is 1)"),
        ({"samples": []}, "has no items"),
        ({"samples": [3]}, "'samples' is not a list of objects"),
        ({"samples": [{}]}, "a sample has no id"),
        ({"eval": None}, "no log of Inspect"),
    ],
)
def test_logs_of_inspect_that_cannot_be_used_are_refused(
    tmp_path: Path, change: dict[str, Any], part: str
) -> None:
    path = tmp_path / "log.json"
    path.write_text(json.dumps(inspect_log() | change))
    assert part in str(imported(tmp_path, path).exception)


@pytest.mark.parametrize(
    ("score", "part"),
    [
        ({"value": 0.3}, "its score is 0.3; only right or wrong"),
        ({"metadata": {"logprobs": [-1.0]}}, "1 log-probabilities for 2 labels"),
    ],
)
def test_scores_of_inspect_that_cannot_be_used_are_refused(
    tmp_path: Path, score: dict[str, Any], part: str
) -> None:
    path = zstd_zip(tmp_path / "log.eval", inspect_log(**score))
    assert part in str(imported(tmp_path, path).exception)


def test_a_sample_asked_twice_and_scored_twice_is_refused(tmp_path: Path) -> None:
    log = inspect_log()
    path = tmp_path / "log.json"
    path.write_text(json.dumps(log | {"samples": [*log["samples"], log["samples"][0]]}))
    assert "--epochs 1" in str(imported(tmp_path, path).exception)
    log["samples"][0]["scores"] = {"one": {"value": "C"}, "two": {"value": "I"}}
    path.write_text(json.dumps(log))
    assert "several scores (one, two)" in str(imported(tmp_path, path).exception)


def test_files_that_are_no_logs(tmp_path: Path) -> None:
    bad = tmp_path / "log.eval"
    bad.write_bytes(b"PK no zip")
    assert "not a zip file" in str(imported(tmp_path, bad).exception)
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("_journal/start.json", "{}")
    assert "the run did not end" in str(imported(tmp_path, bad).exception)
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("header.json", "no json")
    assert "header.json cannot be read" in str(imported(tmp_path, bad).exception)
    text = tmp_path / "notes.txt"
    text.write_text("")
    known = "samples_*.jsonl of lm-eval (--log_samples); logs of Inspect (.eval or .json)"
    assert known in str(imported(tmp_path, text).exception)
    assert isinstance(imported(tmp_path, tmp_path / "none.eval").exception, UsageError)


def test_a_log_without_enough_scores_is_refused(tmp_path: Path) -> None:
    log = inspect_log()
    for sample in log["samples"][:2]:
        sample["scores"] = {}
    path = tmp_path / "log.json"
    path.write_text(json.dumps(log))
    assert isinstance(imported(tmp_path, path).exception, GateFailed)


def test_a_new_program_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    add_module(monkeypatch, "tallies", example("Logs of another harness"))
    monkeypatch.setitem(LOG_FORMATS, "tallies", "tallies:FORMAT")
    path = tmp_path / "s.tally"
    path.write_text("one +\ntwo -\nthree +\nfour +\n")
    assert imported(tmp_path, path).exception is None
    (result,) = load_results(tmp_path / "run")
    assert (result.policy, result.share.value, result.p_matching.n) == ("it-tally", 0.75, 0)
