"""What the doctor concludes from what it finds."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from constitute.engines.doctor import (
    Check,
    can_run,
    check_bf16,
    check_disk,
    check_engines,
    check_memory,
    check_package,
    check_python,
    check_writable,
    examine_model,
    judge_bf16,
    parse_version,
    require_trainable,
)
from constitute.errors import UsageError


@pytest.mark.parametrize(
    ("text", "number"), [("2.13.0+cpu", (2, 13, 0)), ("5.17.0rc1", (5, 17, 0)), ("0.31", (0, 31)), ("?", ())]
)
def test_versions_are_read(text, number):
    assert parse_version(text) == number


@pytest.mark.parametrize(
    ("name", "found", "state"),
    [
        ("vllm", "0.31.0", "ok"),
        ("vllm", "0.32.0", "warn"),
        ("vllm", "0.29.9", "warn"),
        ("transformers", "5.10.3", "warn"),
        ("transformers", "5.10.4", "ok"),
        ("trl", None, "warn"),
        ("torch", "2.13.0+cpu", "ok"),
    ],
)
def test_packages_are_held_against_their_windows(name, found, state):
    check = check_package(name, found)
    assert check.state == state
    assert bool(check.remedy) == (state != "ok")


def test_an_old_python_cannot_run():
    assert check_python((3, 10, 9)).state == "fail"
    assert not can_run([check_python((3, 10, 9))])
    assert check_python((3, 11, 0)).state == "ok"


@pytest.mark.parametrize(
    ("code", "stdout", "state", "found"),
    [
        (0, "256.0\n", "ok", "works"),
        (-signal.SIGILL, "", "warn", "SIGILL"),
        (132, "", "warn", "SIGILL"),
        (0, "0.0\n", "warn", "probe failed"),
        (1, "", "warn", "probe failed"),
    ],
)
def test_the_bf16_probe_survives_illegal_instructions(code, stdout, state, found):
    check = judge_bf16(code, stdout, "")
    assert check.state == state
    assert found in check.found


def test_nothing_in_the_working_directory_is_run(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    (tmp_path / "torch.py").write_text("open('ran', 'w').close()")
    monkeypatch.chdir(tmp_path)
    check = check_bf16("2.13")
    assert not (tmp_path / "ran").exists()
    assert check.name == "bf16" and "AttributeError" not in check.found


def test_engines_follow_from_packages():
    every = {"torch": "2", "transformers": "5", "vllm": "0.31", "trl": "1"}
    assert check_engines(every).found == "vllm, transformers, openai"
    assert check_engines({**every, "vllm": None}).found == "transformers, openai"
    alone = check_engines(dict.fromkeys(every))
    assert (alone.found, alone.state) == ("openai", "warn")


def test_memory_and_disk(tmp_path):
    assert check_memory(3.9).state == "warn"
    assert check_memory(4.0).state == "ok"
    assert check_memory(None).state == "ok"
    assert check_disk(tmp_path / "not" / "yet").found.endswith(str(tmp_path))


def test_a_folder_that_takes_no_files_is_essential(tmp_path):
    assert check_writable(tmp_path / "run").state == "ok"
    check = check_writable(tmp_path / "file")
    assert check.state == "ok"
    locked = check_writable(Path("/proc/none"))
    assert locked.state == "fail"
    assert not can_run([Check(name="x", state="ok", found=""), locked])


def test_the_command_reports_as_json_without_importing_vllm(tmp_path):
    code = (
        "import sys; from constitute.cli.doctor import doctor;\n"
        "try: doctor(['--json', '--run', sys.argv[1]])\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "assert not {'vllm', 'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    checks = [json.loads(line) for line in done.stdout.splitlines()]
    assert [check["name"] for check in checks][:1] == ["python"]
    assert all(check["remedy"] for check in checks if check["state"] != "ok")


def _saved(folder: Path, **kept: str) -> str:
    from tiny_models import CHATML, byte_tokenizer

    given = {"special": ("<|im_start|>", "<|im_end|>"), "eos": "<|im_end|>", "template": CHATML, **kept}
    tokenizer = byte_tokenizer(given.pop("template"), **given)
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return str(folder)


def _found(model: str) -> dict[str, tuple[str, str]]:
    return {check.name: (check.state, check.found) for check in examine_model(model)}


def test_a_model_is_examined_before_any_stage(tmp_path):
    pytest.importorskip("transformers")
    special = ("<|im_start|>", "<|im_end|>", "<|reserved_0|>")
    assert _found(_saved(tmp_path, special=special)) == {
        "model": ("ok", f"{tmp_path}: 259 tokens and a chat template"),
        "template": (
            "ok",
            "knows no thinking; system turns are its own role; turns may follow each other freely; no date; "
            "earlier turns stay as they are; a turn ends with # or <|im_end|>",
        ),
        "answers": ("ok", "end with <|im_end|>"),
        "padding": ("ok", "no pad token; training pads with the unused token <|reserved_0|>"),
    }
    found = _found(_saved(tmp_path, pad="<|im_end|>"))
    assert found["padding"] == ("warn", "a pad token that is its eos token, and no token is unused")


def test_what_a_model_lacks_is_said(tmp_path):
    pytest.importorskip("transformers")
    from tiny_models import LLAMA2

    found = _found(_saved(tmp_path, template=LLAMA2, special=("<s>", "</s>"), eos="</s>"))
    assert found["template"] == (
        "ok",
        "knows no thinking; system text goes into the first user turn; turns must alternate; no date; "
        "earlier turns stay as they are; a turn ends with # or </s>",
    )
    (tmp_path / "chat_template.jinja").unlink()
    checks = examine_model(str(tmp_path))
    assert [check.state for check in checks] == ["fail"] and not can_run(checks)
    assert "has no chat template" in checks[0].found
    assert _found(str(tmp_path / "nowhere"))["model"][0] == "fail"
    assert _found("http://127.0.0.1:1")["model"] == (
        "ok", "the server http://127.0.0.1:1; its tokenizer is not at hand",
    )  # fmt: skip


def test_a_model_that_cannot_be_trained_is_refused_before_any_step_of_the_loop(tmp_path, caplog):
    pytest.importorskip("transformers")
    from constitute.config import RunConfig
    from constitute.loop import Loop, run_loop

    loop = Loop(RunConfig(model=_saved(tmp_path, pad="<|im_end|>"), run=tmp_path / "run"), [], engine=None)
    with pytest.raises(UsageError, match="a pad token that is its eos token and no unused special token"):
        run_loop(loop, "sft")
    assert not (tmp_path / "run").exists()
    require_trainable(_saved(tmp_path, special=("<|im_start|>", "<|im_end|>", "<|reserved_0|>")))
    assert "its unused token <|reserved_0|> pads instead" in caplog.text
