"""`constitute serve`: what it refuses, what it says, and that nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from conftest import free_port

from constitute.engines.server import ServeOptions, command, last_words

SERVE = [sys.executable, "-m", "constitute", "serve"]


def serve(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SERVE, *words], capture_output=True, text=True, timeout=120, check=False)


def test_a_taken_port_is_one_sentence(tiny_model):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = serve(str(tiny_model), "--port", str(port))
    assert done.returncode == 2
    assert done.stdout == ""
    assert f"port {port} on 127.0.0.1 cannot be used (Address already in use)" in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pocket", "--host", "0.0.0.0"), "add --allow-remote"),
        ((str(Path(__file__).parent),), "holds no config.json"),
        (("./no-such-folder",), "no such model: './no-such-folder'"),
        (("nosuchmodel",), "no such model: 'nosuchmodel'"),
    ],
)
def test_refusals_come_before_anything_starts(words, said):
    done = serve(*words)
    assert done.returncode == 2
    assert said in done.stderr and len(done.stderr.splitlines()) == 1


def test_the_command_line_is_sound_on_cpu_and_gpu():
    options = ServeOptions(model="org/name", port=8001, context_length=512)
    cpu, gpu = command(options, on_cpu=True), command(options, on_cpu=False)
    assert cpu[1:4] == ["-P", "-m", "vllm.entrypoints.openai.api_server"]
    assert cpu[cpu.index("--dtype") + 1] == "float32" and gpu[gpu.index("--dtype") + 1] == "auto"
    assert "--enforce-eager" in cpu and "--enforce-eager" not in gpu
    assert cpu[cpu.index("--max-model-len") + 1] == "512"
    assert not any("trust" in word for word in cpu)


def test_last_words_are_the_end_of_the_log(tmp_path):
    log = tmp_path / "log"
    log.write_text("\n".join(f"line {n}" for n in range(20)))
    assert last_words(log, 2) == f"last lines of {log}:\n  line 18\n  line 19"


@pytest.mark.vllm
def test_the_server_is_healthy_once_its_url_is_printed(vllm_server_url):
    with urllib.request.urlopen(f"{vllm_server_url}/health", timeout=5) as answer_:
        assert answer_.status == 200


def ask(url, path, headers=None, body=None, method=None):
    """(status, headers, body) of one request."""
    data = None if body is None else json.dumps(body).encode()
    sent = {"Content-Type": "application/json"} | (headers or {})
    request = urllib.request.Request(url + path, data, sent, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as got:
            return got.status, dict(got.headers), json.loads(got.read() or b"null")
    except urllib.error.HTTPError as problem:
        return problem.code, dict(problem.headers), json.loads(problem.read() or b"null")


@pytest.mark.vllm
@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
@pytest.mark.parametrize("path", ["/v1/models", "/health", "/collective_rpc", "/no-such-path"])
def test_a_web_page_of_another_site_reaches_nothing(vllm_server_url, headers, path):
    body = {"method": "takes_weights"} if path == "/collective_rpc" else None
    status, found, said = ask(vllm_server_url, path, headers, body)
    assert status == 403 and said["error"]["type"] == "forbidden"
    preflight = headers | {"Access-Control-Request-Method": "POST"}
    refused, answered, _ = ask(vllm_server_url, path, preflight, method="OPTIONS")
    assert refused == 403
    assert not any(name.lower().startswith("access-control") for name in [*found, *answered])


@pytest.mark.vllm
def test_programs_on_this_machine_are_answered(vllm_server_url):
    local = vllm_server_url.replace("127.0.0.1", "localhost")
    assert ask(vllm_server_url, "/v1/models")[0] == ask(local, "/v1/models")[0] == 200
    assert ask(vllm_server_url, "/collective_rpc", body={"method": "takes_weights"})[0] == 200


@pytest.mark.vllm
def test_the_models_own_top_k_does_not_act(vllm_server_url):
    model = ask(vllm_server_url, "/v1/models")[2]["data"][0]["id"]
    settings = json.loads((Path(model) / "generation_config.json").read_text())
    assert settings["top_k"] == 1
    said = {"role": "user", "content": "Tell me about rice and its history."}
    body = {"model": model, "messages": [said], "n": 8, "temperature": 1.0, "max_tokens": 16}
    status, _, answer_ = ask(vllm_server_url, "/v1/chat/completions", body=body)
    assert status == 200
    assert len({choice["message"]["content"] for choice in answer_["choices"]}) > 4


@pytest.mark.vllm
def test_nothing_in_the_working_directory_is_run(vllm_server_url):
    model = ask(vllm_server_url, "/v1/models")[2]["data"][0]["id"]
    trap = Path(model).parent / "trap"
    assert sorted(path.name for path in trap.iterdir()) == ["torch.py", "vllm.py"]


@pytest.mark.vllm
def test_a_child_that_dies_is_quoted(tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    log = tmp_path / "server.log"
    done = serve(str(broken), "--port", str(free_port()), "--log", str(log))
    assert done.returncode == 5
    assert f"last lines of {log}" in done.stderr
    assert done.stdout == ""


@pytest.mark.vllm
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_its_parent(tiny_model, tmp_path, sign):
    words = [str(tiny_model), "--port", str(free_port()), "--log", str(tmp_path / "log")]
    parent = subprocess.Popen([*SERVE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    family: list[psutil.Process] = []
    try:
        while parent.poll() is None and not family:
            family = psutil.Process(parent.pid).children(recursive=True)
            time.sleep(0.2)
        assert family
        os.kill(parent.pid, sign)
        code = parent.wait(120)
        assert code == (-9 if sign == signal.SIGKILL else 130)
        _, alive = psutil.wait_procs(family, timeout=120)
        assert alive == []
    finally:
        for process in family:
            if process.is_running():
                process.kill()
    assert Path(tmp_path / "log").exists()
