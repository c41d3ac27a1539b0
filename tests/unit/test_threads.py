"""Threads by the size of the model, and the spin count of every process that imports the package."""

import os
import subprocess
import sys

import pytest

import constitute
from constitute.config import load_config
from constitute.errors import UsageError
from constitute.packaged import model_path
from constitute.threads import SMALL, cpu_threads, parameter_count, use_threads


def said(code, **environment):
    """What a fresh process prints, which inherits no spin count and wait policy but those given."""
    kept = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    words = [sys.executable, "-c", f"import os, sys\n{code}"]
    done = subprocess.run(words, env=kept | environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_small_model_takes_one_thread_and_a_larger_one_every_core():
    assert [cpu_threads(n, 4) for n in (1, 3_000_000, SMALL - 1, SMALL, 135_000_000)] == [1, 1, 1, 4, 4]
    assert cpu_threads(None, 4) == 4
    assert cpu_threads(None, 0) == cpu_threads(1, 0) == 1


def test_the_spin_count_reaches_a_process_and_its_children():
    code = (
        "import subprocess\nimport constitute\nprint(os.environ['GOMP_SPINCOUNT'], flush=True)\n"
        "subprocess.run([sys.executable, '-c', 'import os; print(os.environ[\"GOMP_SPINCOUNT\"])'])"
    )
    assert said(code) == ["1000", "1000"]


def test_the_users_own_way_of_waiting_wins():
    code = "import constitute\nprint(os.environ.get('GOMP_SPINCOUNT'))"
    assert said(code, GOMP_SPINCOUNT="7") == ["7"]
    assert said(code, OMP_WAIT_POLICY="active") == ["None"]


def test_weights_are_counted_from_the_headers_of_a_folder(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(3, 5), "b": torch.zeros(())}, tmp_path / "one.safetensors", {"format": "pt"})
    save_file({"c": torch.zeros(7)}, tmp_path / "two.safetensors")
    assert parameter_count(str(tmp_path)) == 3 * 5 + 1 + 7
    assert parameter_count(str(tmp_path / "absent")) is None
    assert parameter_count("somebody/model-on-the-hub") is None
    (tmp_path / "three.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    assert parameter_count(str(tmp_path)) is None


def test_the_embedded_model_is_small():
    if model_path("pocket") == "pocket":
        pytest.skip("pocket's weights are not in this checkout")
    assert 1_000_000 < (parameter_count(model_path("pocket")) or 0) < SMALL


@pytest.fixture
def on_a_cpu():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("the rule is for CPUs")
    before = torch.get_num_threads()
    yield torch
    torch.set_num_threads(before)


def test_the_setting_comes_before_the_environment_and_the_size(tiny_model, on_a_cpu, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    use_threads(str(tiny_model), wanted=3)
    assert on_a_cpu.get_num_threads() == 3


THREADS = (
    "from constitute.threads import use_threads\nimport torch\n"
    "use_threads('somebody/model'); print(torch.get_num_threads())\n"
    "use_threads({tiny!r}); print(torch.get_num_threads())"
)


def test_the_environment_comes_before_the_size(tiny_model, on_a_cpu):
    assert said(THREADS.format(tiny=str(tiny_model)), OMP_NUM_THREADS="2") == ["2", "2"]


def test_the_size_decides_where_nothing_is_set(tiny_model, on_a_cpu, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    large, small = said(THREADS.format(tiny=str(tiny_model)))
    assert int(large) >= 1 and small == "1"


@pytest.mark.parametrize("name", ["run_sft", "run_reward", "run_dpo", "run_ppo", "run_best_of_n"])
def test_every_trainer_takes_the_threads_of_the_settings(name, tiny_model, tmp_path, on_a_cpu):
    """Each stops at what the empty run lacks, which is looked for after the threads are set."""
    config = load_config(None, ("engine.threads=3",), {"model": str(tiny_model), "run": str(tmp_path)})
    prompts = ([],) if name in ("run_ppo", "run_best_of_n") else ()
    with pytest.raises(UsageError):
        getattr(constitute, name)(config, *prompts)
    assert on_a_cpu.get_num_threads() == 3


def test_training_takes_every_core_whatever_the_size(tiny_model, on_a_cpu, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    code = (
        "from constitute.threads import use_threads\nimport torch\nprint(torch.get_num_threads())\n"
        f"use_threads({str(tiny_model)!r}, training=True); print(torch.get_num_threads())"
    )
    every, training = said(code)
    assert training == every
