"""Session-wide fixtures: models made here, one vLLM engine, one served model, one mock server."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from mock_openai import MockServer
from places import ROOT

from constitute.config import EngineConfig
from constitute.packaged import model_path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Ray reads these when it is imported, as vLLM may do before a test of the runner does.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
SMALL = EngineConfig(kv_cache_gib=0.25)
# Fixtures that load vLLM: half a minute and a GiB each.
LOADING = {"vllm_engine", "vllm_server_url"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests in one process, and all files that load vLLM in the same one: it is loaded once."""
    loading = {item.path for item in items if LOADING & set(getattr(item, "fixturenames", ()))}
    for item in items:
        group = "vllm" if item.path in loading else item.path.relative_to(ROOT).as_posix()
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """Folder of a random Llama of 0.1 M parameters with tied embeddings and a ChatML tokenizer."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tiny_models import random_llama

    return random_llama(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture(scope="session")
def model_folder(request, tmp_path_factory) -> Path:
    """A copy of the embedded model where its weights are in the checkout, else the random one.

    A copy, because `make pocket` may replace the folder while a session runs.
    """
    path = model_path("pocket")
    if path == "pocket":
        return request.getfixturevalue("tiny_model")
    return Path(shutil.copytree(path, tmp_path_factory.mktemp("pocket") / "weights"))


@pytest.fixture(scope="session")
def vllm_engine(model_folder):
    """The one in-process vLLM engine of the session; a test that swaps weights puts them back."""
    if find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    from constitute.engines import open_engine

    engine = open_engine(str(model_folder), SMALL.model_copy(update={"kind": "vllm"}))
    yield engine
    asyncio.run(engine.close())


@pytest.fixture(scope="session")
def transformers_engine(model_folder):
    """The same model in plain transformers."""
    from constitute.engines import open_engine

    engine = open_engine(str(model_folder), SMALL.model_copy(update={"kind": "transformers"}))
    yield engine
    asyncio.run(engine.close())


def free_port() -> int:
    """A TCP port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def vllm_server_url(model_folder, tmp_path_factory) -> Iterator[str]:
    """URL of the same model behind `constitute serve`, in another process."""
    if find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    place = tmp_path_factory.mktemp("serve")
    log = place / "server.log"
    served = shutil.copytree(model_folder, place / "model")
    settings = json.loads((served / "generation_config.json").read_text())
    (served / "generation_config.json").write_text(json.dumps(settings | {"do_sample": True, "top_k": 1}))
    trap = place / "trap"
    trap.mkdir()
    for name in ("torch", "vllm"):
        (trap / f"{name}.py").write_text(f"open('ran-{name}', 'w').close()\nraise SystemExit\n")
    words = [
        sys.executable,
        "-P",
        "-m",
        "constitute",
        "serve",
        str(served),
        "--rollouts",
        "--kv-cache-gib",
        "0.25",
    ]
    child = subprocess.Popen(
        [*words, "--port", str(free_port()), "--log", str(log)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=trap,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert child.stdout is not None
    url = child.stdout.readline().strip()
    if not url.startswith("http://"):
        child.wait(30)
        pytest.fail(f"constitute serve did not start: {log.read_text()[-2000:]}")
    yield url
    child.terminate()
    child.wait(60)


@pytest.fixture
def mock_server() -> Iterator[MockServer]:
    """A scripted OpenAI-compatible server in a thread of this process."""
    with MockServer() as server:
        yield server
