"""The commands generate, revise, label, status and show, as a person or a program sees them."""

from __future__ import annotations

import gzip
import json
import math
import random
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from scripted import ScriptedEngine, constitution

from constitute.cli.errors import run_and_exit
from constitute.cli.main import cli
from constitute.cli.text import table
from constitute.constitution.write import to_yaml
from constitute.engines import ENGINES
from constitute.errors import EngineError
from constitute.store import Store
from constitute.store.unfinished import begin
from constitute.text import grouped_reasons, harmless
from constitute.types import Choice


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Call the command line in a folder with `c.yaml` and `p.jsonl`; gives (code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(to_yaml(constitution()))
    Path("p.jsonl").write_text(
        "".join(json.dumps({"id": f"p{n}", "prompt": f"Question {n}?"}) + "\n" for n in range(4))
    )

    def call(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["constitute", *line.split()])
        code = run_and_exit(cli)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


FAKE = "--model m --set engine.kind=fake"


def test_the_three_stages_and_what_they_print(run) -> None:  # type: ignore[no-untyped-def]
    code, out, err = run(f"generate {FAKE} --prompts p.jsonl -n 2")
    assert code == 0
    assert out.splitlines()[1].split() == ["generate", "8", "8", "0", "0", "0", "8", "0"]
    assert err.splitlines()[-1] == "next: constitute revise --run run --constitution assistant"
    code, out, err = run("revise --constitution c.yaml")
    assert (code, out.splitlines()[1].split()[:3]) == (0, ["revise", "8", "8"])
    code, out, err = run("label --principles 2")
    assert (code, out.splitlines()[1].split()[:3]) == (0, ["label", "4", "4"])
    figures = {line.split("  ")[0]: line for line in out.splitlines()}
    assert "n = 8)" in figures["order flips, of votes"] and "n = 4)" in figures["P(A), mean"]
    code, out, _ = run("status")
    assert [line.split()[:3] for line in out.splitlines()[1:4]] == [
        ["generate", "8", "8"],
        ["revise", "8", "8"],
        ["label", "4", "4"],
    ]
    code, out, _ = run("show p1")
    assert code == 0 and out.count("Question 1?") == 2 and "== label p1/0-1: ok" in out
    code, out, _ = run("generate")
    assert (code, out.splitlines()[1].split()) == (0, ["generate", "8", "8", "0", "0", "8", "0", "0"])


def test_json_is_one_object_a_line_on_stdout(run) -> None:  # type: ignore[no-untyped-def]
    code, out, err = run(f"generate {FAKE} --prompts p.jsonl -n 2 --json")
    events = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [event["event"] for event in events] == ["wait", "waited", "start", "finish", "result"]
    assert (events[0]["text"], events[2]["total"]) == ("opening m", 8)
    assert {key: events[-1][key] for key in ("stage", "ok", "abstain", "failed", "asked")} == {
        "stage": "generate",
        "ok": 8,
        "abstain": 0,
        "failed": 0,
        "asked": 8,
    }
    run("revise --constitution c.yaml")
    _, out, _ = run("label --json --set label.pairs=revision")
    assert json.loads(out.splitlines()[-1])["label_card"]["pairs"] == 8
    _, out, _ = run("status --json")
    assert [json.loads(line)["stage"] for line in out.splitlines()] == ["generate", "revise", "label"]
    _, out, _ = run("show p1/0 --json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["stage"], row["row_id"]) for row in rows] == [
        ("generate", "p1/0"),
        ("revise", "p1/0"),
        ("label", "p1/0-rev"),
    ]


def test_failed_rows_are_counted_explained_and_give_3(run) -> None:  # type: ignore[no-untyped-def]
    code, out, err = run(
        f"generate {FAKE} --prompts p.jsonl --set engine.context_length=16 --set generate.max_tokens=4"
    )
    assert code == 3
    assert out.splitlines()[1].split()[:5] == ["generate", "4", "0", "0", "4"]
    assert "response was cut at 4 tokens" in out
    assert err.splitlines()[-1] == (
        f"4 rows were cut at 4 tokens, as they would be again; `constitute generate {FAKE} --prompts p.jsonl "
        "--set engine.context_length=16 --retry-failed --set generate.max_tokens=8` asks them alone, with "
        "more, or --set generate.keep_truncated=true to keep cut answers"
    )
    for remedy in ("generate.max_tokens=64", "generate.keep_truncated=true"):
        code, out, _ = run(
            f"generate {FAKE} --prompts p.jsonl --run new-{remedy} --reuse run --set generate.max_tokens=4 "
            f"--set {remedy}"
        )
        assert (code, out.splitlines()[1].split()[:3]) == (0, ["generate", "4", "4"])


def test_a_prompt_longer_than_the_context_fails_with_its_length_and_the_limit(run) -> None:  # type: ignore[no-untyped-def]
    Path("p.jsonl").write_text(json.dumps({"prompt": "word " * 50}) + "\n")
    code, out, _ = run(f"generate {FAKE} --prompts p.jsonl --set engine.context_length=16")
    assert code == 3 and "50" in out and "16" in out


def test_own_pairs_are_labelled(run) -> None:  # type: ignore[no-untyped-def]
    lines = [{"prompt": "Hello?", "a": "Hi.", "b": "No."}, {"prompt": "Bye?", "chosen": "x", "rejected": "x"}]
    Path("pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, out, _ = run(f"label {FAKE} --run own --constitution c.yaml --pairs pairs.jsonl --principles all")
    assert code == 0
    assert out.splitlines()[1].split()[:5] == ["label", "2", "1", "1", "0"]
    assert "the two answers are equal" in out


class LastShown(ScriptedEngine):
    """Prefers whichever answer is shown last."""

    def __init__(self, model, config) -> None:  # type: ignore[no-untyped-def]
        super().__init__(model)

    async def choose(self, request, labels, *, spelled=False):  # type: ignore[no-untyped-def]
        return Choice(labels=tuple(labels), logprobs=(math.log(0.2), math.log(0.75)))


def test_labels_that_say_nothing_end_with_4_when_all_is_saved(run, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    module = type(sys)("last_shown")
    module.LastShown = LastShown
    monkeypatch.setitem(sys.modules, "last_shown", module)
    monkeypatch.setitem(ENGINES, "last", "last_shown:LastShown")
    lines = [{"prompt": f"Q{n}?", "chosen": f"yes {n}", "rejected": "no"} for n in range(20)]
    Path("pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    line = "label --model m --set engine.kind=last --constitution c.yaml --pairs pairs.jsonl"
    code, out, err = run(line)
    assert code == 4
    assert out.splitlines()[1].split()[:5] == ["label", "20", "20", "0", "0"]
    assert err.splitlines()[-1].startswith(
        "constitute: these labels say nothing of the answers: the two orders"
    )
    assert "next:" not in err
    code, out, _ = run(f"{line} --json")
    assert (code, json.loads(out.splitlines()[-1])["verdict"]["kind"]) == (4, "order")
    code, out, err = run("status")
    assert code == 0 and "these labels say nothing" in err and "order flips, of pairs" in out
    _, out, _ = run("status --json")
    assert json.loads(out)["verdict"]["share"] == {
        "value": 1.0,
        "low": pytest.approx(0.8389, abs=1e-4),
        "high": 1.0,
        "n": 20,
    }
    code, _, err = run("export")
    assert code == 0 and "these labels say nothing" in err
    code, _, err = run("train reward --model m")
    assert code == 4 and "give --force to train on them" in err


def test_status_lists_what_was_trained_and_what_was_not_finished(run) -> None:  # type: ignore[no-untyped-def]
    run(f"generate {FAKE} --prompts p.jsonl")
    assert "training" not in run("status")[1]
    for name in ("dpo", "reward", "ppo", "sft/checkpoints"):
        (Path("run") / name).mkdir(parents=True)
    for name, summary in (
        ("dpo", {"steps": 3}),
        ("reward", {"steps": 3, "verdict": "no better than chance"}),
    ):
        record = {"made_by": {"kind": name}, "summary": summary}
        (Path("run") / name / "training.json").write_text(json.dumps(record))
    Path("run/ppo/metrics.jsonl").write_text('{"iteration": 1}\n')
    states = {"reward": "finished", "dpo": "finished", "ppo": "not finished", "sft": "not finished"}
    _, out, err = run("status")
    listed = out.split("\n\n")[-1].splitlines()
    assert [line.split(maxsplit=1) for line in listed[1:]] == [list(each) for each in states.items()]
    assert err == "no better than chance\n"
    lines = [json.loads(line) for line in run("status --json")[1].splitlines()[1:]]
    assert {each["training"]: each["finished"] for each in lines} == {
        name: state == "finished" for name, state in states.items()
    }
    assert lines[1]["summary"] == {"steps": 3}


def test_ten_flips_of_ten_are_warned_of_where_no_verdict_is_given(run, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    module = type(sys)("last_shown")
    module.LastShown = LastShown
    monkeypatch.setitem(sys.modules, "last_shown", module)
    monkeypatch.setitem(ENGINES, "last", "last_shown:LastShown")
    # The last shown is right wherever it stands, so P(A) is 0.5 and no label decides: agreement has n = 0.
    lines = [{"prompt": f"Q{n}?", "chosen": f"yes {n}", "rejected": "no"} for n in range(10)]
    Path("pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    line = "label --model m --set engine.kind=last --constitution c.yaml --pairs pairs.jsonl"
    said = "warning: 10 of 10 pairs flip with the order; too few pairs for a verdict: `constitute judge`"
    code, _, err = run(line)
    assert code == 0 and err.splitlines()[-2].startswith(said) and err.splitlines()[-1].startswith("next: ")
    _, out, _ = run(f"{line} --json")
    assert json.loads(out.splitlines()[-1])["warnings"][0].startswith(said[9:])
    _, _, err = run("status")
    assert err.startswith(said)
    _, out, _ = run("status --json")
    assert len(json.loads(out)["warnings"]) == 1
    run("export")
    assert "**Warning:** ``10 of 10 pairs flip with the order" in Path("run/export/README.md").read_text()
    run("report")
    assert "Warning: 10 of 10 pairs flip with the order" in Path("run/report.html").read_text()


def test_agreement_with_people_is_told(run) -> None:  # type: ignore[no-untyped-def]
    """The fake engine is a coin; the card holds exact counts of both sides, length and kappa among them."""
    lines = [{"prompt": f"Q{n}?", "chosen": f"yes {n}", "rejected": "no"} for n in range(20)]
    lines += [{"prompt": "Tie?", "a": "x", "b": "y", "human": "tie"}]
    Path("pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, out, _ = run(f"label {FAKE} --constitution c.yaml --pairs pairs.jsonl")
    assert code == 0 and "agrees with people" in out and "1 undecided by people, 0 by the labels" in out
    (line,) = (each for each in out.splitlines() if each.startswith("the longer answer wins for people"))
    assert line.endswith(" 1.000 (0.839 to 1.000, n = 20)") and "Cohen's kappa with people" in out
    _, out, _ = run("status --json")
    agreement = json.loads(out)["label_card"]["agreement"]
    accuracy, kappa = agreement["accuracy"], agreement["kappa"]
    assert accuracy["n"] == kappa["n"] == 20 and kappa["value"] == pytest.approx(2 * accuracy["value"] - 1)
    run("export")
    assert "- agrees with people: " in Path("run/export/README.md").read_text()
    run("report")
    assert "agrees with people" in Path("run/report.html").read_text()


def test_show_without_an_id_lists_the_first_of_each_stage_and_outcome(run) -> None:  # type: ignore[no-untyped-def]
    run(f"generate {FAKE} --prompts p.jsonl -n 2")
    run("revise --constitution c.yaml --limit 3")
    code, out, err = run("show")
    assert code == 0 and err == "next: constitute show ID --run run\n"
    assert [line.split() for line in out.splitlines()] == [
        ["stage", "status", "rows", "first", "ids"],
        ["generate", "ok", "8", "p0/0,", "p0/1,", "p1/0,", "p1/1,", "p2/0"],
        ["revise", "ok", "6", "p0/0,", "p0/1,", "p1/0,", "p1/1,", "p2/0"],
    ]
    _, out, _ = run("show --json")
    assert json.loads(out.splitlines()[-1]) == {
        "stage": "revise",
        "status": "ok",
        "rows": 6,
        "first": ["p0/0", "p0/1", "p1/0", "p1/1", "p2/0"],
    }
    for shown in json.loads(out.splitlines()[0])["first"]:
        assert run(f"show {shown}")[0] == 0


def test_a_report_makes_no_folder_from_a_slip_of_the_pen(run) -> None:  # type: ignore[no-untyped-def]
    run(f"generate {FAKE} --prompts p.jsonl")
    code, _, err = run("report -o nowhere/r.html")
    assert (code, Path("nowhere").exists()) == (2, False)
    assert "no such folder: nowhere; make it, or give --output another file" in err
    assert run("report -o r.html")[0] == 0 and Path("r.html").is_file()
    page = Path("r.html").read_text()
    assert "Why is under" not in page


def test_a_stopped_server_has_nothing_to_continue(run, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    @contextmanager
    def running(wanted, say):  # type: ignore[no-untyped-def]
        yield None

    def wait(child, log):  # type: ignore[no-untyped-def]
        raise KeyboardInterrupt

    monkeypatch.setattr("constitute.engines.server.running", running)
    monkeypatch.setattr("constitute.engines.server.wait", wait)
    code, out, err = run("serve m --port 8123")
    assert (code, out) == (130, "http://127.0.0.1:8123\n")
    assert err.splitlines()[-1] == "constitute: the server at http://127.0.0.1:8123 is stopped"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("generate --prompts p.jsonl", "no model given; name one with --model"),
        (f"generate {FAKE}", "no prompts given; name a file with --prompts FILE"),
        (f"generate {FAKE} --prompts absent.jsonl", "no such file: absent.jsonl"),
        (f"generate {FAKE} --prompts empty.jsonl", "empty.jsonl"),
        (f"generate {FAKE} --prompts broken.jsonl", "broken.jsonl:2"),
        (
            f"generate {FAKE} --prompts p.jsonl --config absent.yaml",
            "no such configuration file: absent.yaml",
        ),
        (f"generate {FAKE} --prompts p.jsonl --set generate.m=1", "unknown key 'm' in generate"),
        (f"generate {FAKE} --prompts p.jsonl --run c.yaml", "c.yaml is a file; give a folder"),
        (f"generate {FAKE} --prompts p.jsonl --run /dev/null/x", "/dev/null is a file; give a folder"),
        (f"judge {FAKE} --constitution assistant --run c.yaml", "c.yaml is a file; give a folder"),
        ("status --run c.yaml/x", "c.yaml is a file; give a folder"),
        (f"generate {FAKE} --prompts binary.jsonl", "binary.jsonl is not a text file; give JSON lines"),
        (f"label {FAKE} --constitution c.yaml --pairs binary.txt.gz", "binary.txt.gz is not a text file"),
        ("evals run --model m binary.jsonl", "binary.jsonl is not a text file"),
        (f"revise {FAKE} --constitution c.yaml", "no run in run"),
        (f"revise {FAKE} --constitution absent.yaml", "absent.yaml"),
        ("status", "no run in run"),
        ("show p1", "no run in run"),
    ],
)
def test_bad_input_is_one_sentence_and_2(run, line: str, sentence: str) -> None:  # type: ignore[no-untyped-def]
    noise = random.Random(0).randbytes(3000)
    Path("binary.jsonl").write_bytes(noise)
    Path("binary.txt.gz").write_bytes(gzip.compress(noise))
    Path("empty.jsonl").write_text("")
    Path("broken.jsonl").write_text('{"prompt": "a"}\n{"prompt": \n')
    code, out, err = run(line)
    assert (code, out) == (2, "")
    assert sentence in err.splitlines()[-1] and err.splitlines()[-1].startswith("constitute: ")


def test_bad_lines_are_counted_and_skipped_when_told_to(run) -> None:  # type: ignore[no-untyped-def]
    Path("broken.jsonl").write_text('{"prompt": "a"}\n{"prompt": \n{"prompt": "b"}\n')
    code, out, err = run(f"generate {FAKE} --prompts broken.jsonl --skip-bad")
    assert (code, out.splitlines()[1].split()[:3]) == (0, ["generate", "2", "2"])
    assert "skipped 1 bad line, the first at broken.jsonl:2" in err


def test_another_configuration_is_refused_with_what_differs(run) -> None:  # type: ignore[no-untyped-def]
    run(f"generate {FAKE} --prompts p.jsonl")
    code, _, err = run("generate --seed 3")
    assert code == 2 and "seed was 0, now 3" in err and "--run NEW" in err


class Dying(ScriptedEngine):
    """Answers twice."""

    def __init__(self, model, config) -> None:  # type: ignore[no-untyped-def]
        super().__init__(model)
        self.left = 2

    async def generate(self, request):  # type: ignore[no-untyped-def]
        if not self.left:
            raise EngineError("gone")
        self.left -= 1
        return await super().generate(request)


def test_a_dead_engine_gives_5_and_the_command_to_go_on(run, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    line = "generate --model http://127.0.0.1:9 --prompts p.jsonl"
    code, _, err = run(f"{line} --set engine.retries=0")
    assert code == 5 and "127.0.0.1:9" in err
    # Nothing was answered yet, so nothing is kept.
    assert err.splitlines()[-1].endswith("start one with `constitute serve` or check the URL")
    module = type(sys)("dying")
    module.Dying = Dying
    monkeypatch.setitem(sys.modules, "dying", module)
    monkeypatch.setitem(ENGINES, "dying", "dying:Dying")
    line = "generate --model m --set engine.kind=dying --set engine.in_flight=1 --prompts p.jsonl"
    code, _, err = run(f"{line} --run half")
    assert code == 5
    said = f"constitute: gone; every answer so far is kept, continue with: constitute {line} --run half"
    assert err.splitlines()[-1] == said


def test_nothing_a_terminal_acts_on_is_shown() -> None:
    hostile = "a\x1b[31mred\x1b[0m\x1b]8;;http://x\x07link\x1b]8;;\x1b\\ \x9b2J\x07\x08b\rc\u202ed\x00e\tf\ng"
    assert harmless(hostile) == "aredlink bcde\tf\ng"
    assert "\x1b" not in harmless("\x1b" * 5 + "]52;c;aGk=")


def test_a_table_is_aligned_and_holds_no_markup() -> None:
    assert (
        table(("name", "rows"), [("[bold]x", 5), ("y\x1b[1m", 12)])
        == "name     rows\n[bold]x     5\ny          12"
    )


def test_reasons_that_differ_in_numbers_are_one() -> None:
    reasons = [("failed", "cut at 3 tokens", 2), ("failed", "cut at 4 tokens", 1), ("abstain", "equal", 2)]
    assert grouped_reasons(reasons) == [("failed", 3, "cut at 3 tokens"), ("abstain", 2, "equal")]


def test_a_labelling_that_stopped_is_told_wherever_its_rows_are_read(run, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    pairs = [{"id": f"q{n}", "prompt": f"Q{n}?", "a": "yes", "b": f"no {n}"} for n in range(16)]
    Path("pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    label = f"label {FAKE} --constitution c.yaml --pairs pairs.jsonl --set engine.in_flight=1"
    put, ended = Store.put_outcome, []

    def stops(store, stage, outcome, input_hash="") -> None:  # type: ignore[no-untyped-def]
        if len(ended) == 8:
            return
        ended.append(outcome.row_id)
        put(store, stage, outcome, input_hash)
        if len(ended) == 8:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put_outcome", stops)
        code, _, err = run(label)
    assert code == 130 and "run the same command again" in err
    told = "label: 8 of 16 rows, unfinished: run `constitute label` again"
    assert told.replace("` again", " --run run` again") in run("status")[2]
    assert json.loads(run("status --json")[1])["unfinished"] == {"stage": "label", "done": 8, "rows": 16}
    assert told in run("constitution attribute run --out map.html")[2]
    assert told in Path("map.html").read_text()
    attributed = json.loads(run("constitution attribute run --json")[1].splitlines()[-1])
    assert attributed["unfinished"]["rows"] == 16
    assert f"preferences is not complete: {told}" in run("export --what preferences")[2]
    assert told in run(f"constitution diff c.yaml c.yaml --run run {FAKE}")[2]
    assert run("report")[0] == 0
    top, _, rest = Path("run/report.html").read_text().partition('<section id="stages">')
    assert f'<li role="alert">{told[0].upper()}{told[1:]}.</li>' in top
    assert "Every row seen so far ended ok" in rest
    assert run(label)[0] == 0
    assert "unfinished" not in run("status")[2] + run("constitution attribute run")[2]
    assert json.loads(run("status --json")[1])["unfinished"] is None


def test_a_stage_of_which_no_row_ended_is_still_told(run) -> None:  # type: ignore[no-untyped-def]
    with Store.open("run") as store:
        begin(store, "label", 16)
    code, out, err = run("status")
    assert (code, out.splitlines()[1].split()) == (0, ["label", "0", "0", "0", "0"])
    assert err == "label: 0 of 16 rows, unfinished: run `constitute label --run run` again\n"


def test_the_next_stage_says_that_the_one_before_it_stopped_early(run) -> None:  # type: ignore[no-untyped-def]
    run(f"generate {FAKE} --prompts p.jsonl -n 2")
    with Store.open("run") as store:
        begin(store, "generate", 10)
    err = run("revise --constitution c.yaml")[2]
    assert "warning: generate: 8 of 10 rows, unfinished: run `constitute generate` again" in err


def test_show_prints_the_prompt_of_ones_own_pairs_once(run) -> None:  # type: ignore[no-untyped-def]
    """No response came before the pair, so nothing else says what was asked."""
    row = {"id": "own", "prompt": "What is it?", "chosen": "one", "rejected": "two", "chosen_model": "gpt-4"}
    Path("pairs.jsonl").write_text(json.dumps(row) + "\n")
    run(f"label {FAKE} --constitution c.yaml --pairs pairs.jsonl")
    code, out, _ = run("show own")
    lines = out.splitlines()
    assert code == 0 and lines.count("    What is it?") == 1
    assert lines.index("user:") < lines.index("A, chosen, gpt-4:") < lines.index("B, rejected:")


def test_gates_end_with_4_and_name_figure_limit_and_remedy(run, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Eight pairs that all flip have no verdict; a gate stops them at `label`, `export` and in training."""
    module = type(sys)("last_shown")
    module.LastShown = LastShown
    monkeypatch.setitem(sys.modules, "last_shown", module)
    monkeypatch.setitem(ENGINES, "last", "last_shown:LastShown")
    lines = [{"prompt": f"Q{n}?", "chosen": f"yes {n}", "rejected": "no"} for n in range(8)]
    Path("pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    line = "label --model m --set engine.kind=last --constitution c.yaml --pairs pairs.jsonl"
    code, out, err = run(f"{line} --max-order-flip 0.5")
    said = "in 100.0 % (67.6 to 100.0, n = 8) of the pairs, and gates.max_order_flip allows 50 %"
    assert code == 4 and said in err.splitlines()[-1] and "next:" not in err
    assert out.splitlines()[1].split()[:3] == ["label", "8", "8"]
    # The limit is kept with the run, and another one may be given at any time.
    code, out, _ = run("export --json")
    assert code == 4 and json.loads(out)["rows"] == 8
    code, _, err = run("train reward --model m")
    assert code == 4 and said in err and "give --force to train on them" in err
    code, out, _ = run(f"{line} --json --max-order-flip 1")
    assert code == 0 and json.loads(out.splitlines()[-1])["unmet"] == []
    assert run("export --max-order-flip 1")[0] == 0
    code, _, err = run("export --min-agreement 0.9 --max-order-flip 1")
    assert code == 4 and "gates.min_agreement wants 90 %" in err and "the files are written" in err
    assert "**Do not train on these labels:**" in Path("run/export/README.md").read_text()
