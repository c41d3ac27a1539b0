"""The command line of the server that `serve` starts."""

from __future__ import annotations

import asyncio

import pytest

from constitute.engines.server import (
    ServeOptions,
    check,
    check_devices,
    command,
    environment,
    phase_of,
    phase_teller,
)
from constitute.engines.vllm.guard import HOST_VARIABLE, HostGuard
from constitute.errors import UsageError


@pytest.mark.parametrize("on_cpu", [True, False])
def test_the_models_own_sampling_defaults_do_not_act(on_cpu):
    words = command(ServeOptions(model="m"), on_cpu=on_cpu)
    assert words[words.index("--generation-config") + 1] == "vllm"


def test_serving_rollouts_opens_the_control_routes_on_loopback_only(monkeypatch):
    monkeypatch.delenv("VLLM_SERVER_DEV_MODE", raising=False)
    with pytest.raises(UsageError, match=r"--rollouts with --host 0\.0\.0\.0 .* use --host 127\.0\.0\.1"):
        check(ServeOptions(model="pocket", host="0.0.0.0", allow_remote=True, rollouts=True))
    words = command(ServeOptions(model="m", rollouts=True), on_cpu=True)
    assert words[words.index("--worker-extension-cls") + 1] == "constitute.engines.vllm.worker.WeightSync"
    assert environment(ServeOptions(model="m", rollouts=True))["VLLM_SERVER_DEV_MODE"] == "1"
    assert "--worker-extension-cls" not in command(ServeOptions(model="m"), on_cpu=True)
    assert "VLLM_SERVER_DEV_MODE" not in environment(ServeOptions(model="m"))


def test_flags_for_gpus_reach_vllm():
    wanted = ServeOptions(
        model="m",
        context_length=4096,
        dtype="bfloat16",
        gpu_memory=0.85,
        tensor_parallel=4,
        pipeline_parallel=2,
        data_parallel=3,
        rollouts=True,
        sync="nccl",
    )
    words = command(wanted, on_cpu=False)
    for flag, value in {
        "--tensor-parallel-size": "4",
        "--pipeline-parallel-size": "2",
        "--data-parallel-size": "3",
        "--gpu-memory-utilization": "0.85",
        "--max-model-len": "4096",
        "--dtype": "bfloat16",
        "--weight-transfer-config": '{"backend": "nccl"}',
    }.items():
        assert words[words.index(flag) + 1] == value, flag
    plain = command(ServeOptions(model="m"), on_cpu=False)
    assert not {"--tensor-parallel-size", "--gpu-memory-utilization", "--weight-transfer-config"} & set(plain)
    # A pickle from whoever reaches the server is code; it is read for CUDA's handles alone.
    for sync, value in (("files", None), ("nccl", None), ("ipc", "1")):
        found = environment(ServeOptions(model="m", rollouts=True, sync=sync))
        assert found.get("VLLM_ALLOW_INSECURE_SERIALIZATION") == value


def test_vllms_own_parser_takes_the_flags(monkeypatch):
    """No flag of another version of vLLM."""
    parsers = pytest.importorskip("vllm.entrypoints.launchers.cli_args")
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    words = command(
        ServeOptions(
            model="m", gpu_memory=0.5, tensor_parallel=2, data_parallel=2, rollouts=True, sync="ipc"
        ),
        on_cpu=False,
    )
    parsed = parsers.make_arg_parser(FlexibleArgumentParser()).parse_args(words[4:])
    assert (parsed.tensor_parallel_size, parsed.data_parallel_size) == (2, 2)
    assert parsed.gpu_memory_utilization == 0.5 and parsed.weight_transfer_config.backend == "ipc"


@pytest.mark.parametrize(
    ("changes", "on_cpu", "words"),
    [
        ({"sync": "nccl"}, False, "add --rollouts"),
        ({"sync": "nccl", "rollouts": True}, True, "sends weights from GPU to GPU, and there is none here"),
        ({"gpu_memory": 0.5}, True, "--gpu-memory is a share of a GPU, and there is none here"),
        ({"sync": "ipc", "rollouts": True, "tensor_parallel": 2}, False, "give --sync nccl"),
    ],
)
def test_flags_that_cannot_work_are_refused(changes, on_cpu, words):
    with pytest.raises(UsageError, match=words):
        check_devices(ServeOptions(model="m", **changes), on_cpu=on_cpu)


def test_no_code_from_the_working_directory_and_no_foreign_origin():
    words = command(ServeOptions(model="m"), on_cpu=True)
    assert words[1] == "-P" and environment(ServeOptions(model="m"))["PYTHONSAFEPATH"] == "1"
    assert words[words.index("--allowed-origins") + 1] == "[]"
    assert words[words.index("--middleware") + 1] == f"{HostGuard.__module__}.{HostGuard.__name__}"


def answer(headers, *, kind="http", host="127.0.0.1", server=("127.0.0.1", 8000)):
    """The status that the guard answers (0: passed on)."""
    sent = []

    async def app(scope, receive, send):
        sent.append(0)

    async def send(message):
        sent.append(message.get("status", message.get("code")))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOST_VARIABLE, host)
        guard = HostGuard(app)
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    asyncio.run(guard({"type": kind, "headers": encoded, "server": server}, None, send))
    return sent[0]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("host", "127.0.0.1:8000")], 0),
        ([("Host", "LOCALHOST:8000")], 0),
        ([("host", "localhost.:8000")], 0),
        ([("host", "[::1]:8000")], 0),
        ([("host", "127.0.0.1:8000"), ("origin", "http://127.0.0.1:8000")], 0),
        ([("host", "evil.example")], 403),
        ([("host", "evil.example:8000")], 403),
        ([("host", "127.0.0.1.evil.example")], 403),
        ([("host", "localhost@evil.example")], 403),
        ([("host", "evil.example/127.0.0.1")], 403),
        ([("host", "[::1")], 403),
        ([("host", "")], 403),
        ([], 403),
        ([("host", "127.0.0.1"), ("host", "evil.example")], 403),
        ([("host", "127.0.0.1:8000"), ("origin", "http://evil.example")], 403),
        ([("host", "127.0.0.1:8000"), ("origin", "http://127.0.0.1:3000")], 403),
        ([("host", "127.0.0.1:8000"), ("Origin", "null")], 403),
    ],
)
def test_foreign_hosts_and_origins_are_refused(headers, status):
    assert answer(headers) == status
    assert answer(headers, kind="websocket") == (1008 if status else 0)
    assert answer(headers, kind="lifespan") == 0


def test_the_bound_address_is_answered():
    assert answer([("host", "box.lan:8000")], host="box.lan", server=("10.0.0.5", 8000)) == 0
    assert answer([("host", "10.0.0.5:8000")], host="0.0.0.0", server=("10.0.0.5", 8000)) == 0
    assert answer([("host", "10.0.0.6:8000")], host="0.0.0.0", server=("10.0.0.5", 8000)) == 403


@pytest.mark.parametrize(
    ("line", "phase"),
    [
        (
            "(Worker pid=7) INFO 11-26 14:12:27 [default_loader.py:484] Loading weights took 1.38 seconds",
            "Loading weights took 1.38 seconds",
        ),
        (
            "(EngineCore pid=7) INFO 11-26 14:11:49 [core.py:129] Initializing a V1 LLM engine "
            "(v0.31.0) with config: model='m'",
            "Initializing a V1 LLM engine (v0.31.0)",
        ),
        (
            f"INFO 11-26 14:12:26 [r.py:69] Starting to load model {'m' * 99}...",
            f"Starting to load model {'m' * 56}…",
        ),
        ("(APIServer pid=7) INFO 11-26 14:12:40 [launcher.py:69] Route: /ping, Methods: GET", None),
        ("Loading weights took 1.38 seconds", None),
        ("", None),
    ],
)
def test_the_phases_of_vllms_start_are_read_from_its_log(line, phase):
    assert phase_of(line) == phase


def test_each_new_phase_is_said_once_and_a_half_written_line_is_waited_for(tmp_path):
    log, said = tmp_path / "server.log", []
    old = "INFO 11-26 14:12:27 [l.py:1] Loading weights took 9 seconds\n"
    log.write_text(old)
    tell = phase_teller(log, len(old), said.append)
    tell()
    assert said == []
    with log.open("a") as file:
        file.write("(Worker pid=7) INFO 11-26 14:12:27 [l.py:1] Loading weights took 1 seconds\n" * 2)
        file.write("INFO 11-26 14:12:27 [core.py:1] init engine (profile")
        file.flush()
        tell()
        assert said == ["   0 s  Loading weights took 1 seconds"]
        file.write(", warmup) took 4.57 s\n")
        file.flush()
        tell()
    assert said[1:] == ["   0 s  init engine (profile, warmup) took 4.57 s"]
