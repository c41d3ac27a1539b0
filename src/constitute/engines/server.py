"""Run vLLM's OpenAI-compatible server as a child process that never outlives its parent."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from constitute.engines.locate import require
from constitute.engines.vllm.guard import HOST_VARIABLE, LOOPBACK
from constitute.errors import EngineError, UsageError
from constitute.packaged import model_path
from constitute.text import harmless

_STOP_S = 15.0
# How the lines of vLLM's log begin that tell a phase of its start.
_PHASES = (
    "Resolved architecture",
    "Initializing a V1 LLM engine",
    "Starting to load model",
    "Loading weights took",
    "torch.compile",
    "Capturing CUDA graph",
    "Graph capturing finished",
    "init engine",
    "Starting vLLM server",
)
# `(EngineCore pid=7) INFO 11-26 14:11:14 [core.py:129] `
_LOG_PREFIX = re.compile(r"^(?:\([^)]*\) )?[A-Z]+ \d\d-\d\d [\d:]+ \[[^\]]*\] ")
_PHASE_CHARACTERS = 80
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class ServeOptions:
    """The options of `serve`. `kv_cache_gib` is used on a CPU, where vLLM would take most of the memory.

    `gpu_memory` is the share of each GPU's memory, vLLM's own (0.9) where None. One copy of the model takes
    `tensor_parallel` x `pipeline_parallel` GPUs, and there are `data_parallel` copies. `rollouts` lets PPO
    replace the weights (`engine.rollout_url`), which arrive by `sync`.
    """

    model: str
    host: str = "127.0.0.1"
    port: int = 8000
    allow_remote: bool = False
    context_length: int | None = None
    kv_cache_gib: float = 1.0
    dtype: str = "auto"
    gpu_memory: float | None = None
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    data_parallel: int = 1
    sync: str = "files"
    log: Path | None = None
    rollouts: bool = False
    start_s: float = 900.0

    @property
    def url(self) -> str:
        """Where the server answers."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def check(options: ServeOptions) -> None:
    """Raise `UsageError` for what cannot work, before anything is started."""
    check_devices(options, on_cpu=not _has_gpu())
    if options.rollouts and options.host not in LOOPBACK:
        raise UsageError(
            f"--rollouts with --host {options.host} would let other machines replace the weights: vLLM's "
            "/collective_rpc asks for no password; use --host 127.0.0.1"
        )
    if options.host not in LOOPBACK and not options.allow_remote:
        raise UsageError(
            f"--host {options.host} would let other machines in, and the server asks for no password; "
            "use 127.0.0.1, or add --allow-remote"
        )
    if find_spec("vllm") is None:
        raise UsageError("vLLM is not installed; install constitute[vllm] (GPU) or constitute[cpu]")
    require(model_path(options.model))
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((options.host, options.port))
        except OSError as problem:
            raise UsageError(
                f"port {options.port} on {options.host} cannot be used ({problem.strerror}); "
                f"stop what listens there or give another --port"
            ) from problem


def check_devices(options: ServeOptions, *, on_cpu: bool) -> None:
    """Refuse options of GPUs where there is none, and a way for weights that nobody sends."""
    if options.sync != "files" and not options.rollouts:
        raise UsageError(
            f"--sync {options.sync} says how PPO's weights arrive; add --rollouts, or leave it out"
        )
    if on_cpu and options.sync != "files":
        raise UsageError(
            f"--sync {options.sync} sends weights from GPU to GPU, and there is none here; leave it out"
        )
    if on_cpu and options.gpu_memory is not None:
        raise UsageError("--gpu-memory is a share of a GPU, and there is none here; give --kv-cache-gib")
    if (
        options.sync == "ipc"
        and options.tensor_parallel * options.pipeline_parallel * options.data_parallel > 1
    ):
        raise UsageError(
            "--sync ipc is for a server on the trainer's one GPU; give --sync nccl for several GPUs"
        )


def command(options: ServeOptions, *, on_cpu: bool) -> list[str]:
    """The child's command line. The console script `vllm serve` fails with the CPU package; this works."""
    # -P: a `vllm` or `torch.py` in the working directory is not run.
    words = [sys.executable, "-P", "-m", "vllm.entrypoints.openai.api_server"]
    words += ["--model", model_path(options.model), "--served-model-name", options.model]
    words += ["--host", options.host, "--port", str(options.port)]
    words += ["--load-format", "safetensors", "--no-enable-log-requests"]
    # The model's generation_config.json would set top_k and penalties that no request asks for.
    words += ["--generation-config", "vllm"]
    # vLLM's own default answers every web page.
    words += ["--allowed-origins", "[]", "--middleware", "constitute.engines.vllm.guard.HostGuard"]
    if options.rollouts:
        words += ["--worker-extension-cls", "constitute.engines.vllm.worker.WeightSync"]
    if options.sync != "files":
        words += ["--weight-transfer-config", json.dumps({"backend": options.sync})]
    for name in ("tensor_parallel", "pipeline_parallel", "data_parallel"):
        if getattr(options, name) > 1:
            words += [f"--{name.replace('_', '-')}-size", str(getattr(options, name))]
    if options.context_length is not None:
        words += ["--max-model-len", str(options.context_length)]
    if on_cpu:
        words += ["--dtype", "float32" if options.dtype == "auto" else options.dtype, "--enforce-eager"]
        words += ["--kv-cache-memory-bytes", str(int(options.kv_cache_gib * (1 << 30)))]
        # A seeded request with a split prompt kills vLLM 0.31 on a CPU (see engines/vllm/engine.py).
        words += ["--no-enable-chunked-prefill"]
    else:
        words += ["--dtype", options.dtype]
        if options.gpu_memory is not None:
            words += ["--gpu-memory-utilization", str(options.gpu_memory)]
    return words


def environment(options: ServeOptions) -> dict[str, str]:
    """The child's environment: ours, with every kind of telemetry off; `rollouts` opens /collective_rpc."""
    quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    control = {"VLLM_SERVER_DEV_MODE": "1"} if options.rollouts else {}
    if options.sync == "ipc":
        # CUDA's handles of memory reach vLLM pickled, and only so.
        control["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"
    # The processes that vLLM starts take no code from the working directory either.
    python = {"PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}
    return {**os.environ, **quiet, **control, **python, HOST_VARIABLE: options.host}


@contextmanager
def running(
    options: ServeOptions, say: Callable[[str], None] = lambda _: None
) -> Iterator[subprocess.Popen[bytes]]:
    """Keep a server running for the block; raises `EngineError` with the end of its log if it dies."""
    check(options)
    log = options.log or Path(tempfile.mkdtemp(prefix="constitute-serve-")) / "server.log"
    with log.open("ab") as sink:
        written = sink.tell()
        child = subprocess.Popen(
            command(options, on_cpu=not _has_gpu()),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=environment(options),
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
    try:
        say(f"starting vLLM for {options.model}, which takes about a minute (log: {log})")
        wait_healthy(child, options, log, phase_teller(log, written, say))
        yield child
    finally:
        stop(child)


def wait_healthy(
    child: subprocess.Popen[bytes], options: ServeOptions, log: Path, tell: Callable[[], None] = lambda: None
) -> None:
    """Return once /health answers, and `tell` meanwhile; raises `EngineError` if it dies or takes long."""
    end = time.monotonic() + options.start_s
    while time.monotonic() < end:
        tell()
        if child.poll() is not None:
            raise EngineError(f"the server ended with code {child.returncode}; {last_words(log)}")
        try:
            with urllib.request.urlopen(f"{options.url}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (OSError, urllib.error.URLError):
            pass
        time.sleep(0.25)
    raise EngineError(f"the server is not healthy after {options.start_s:g} s; {last_words(log)}")


def phase_of(line: str) -> str | None:
    """The phase of its start that a line of vLLM's log tells, shortened; None for any other line."""
    prefix = _LOG_PREFIX.match(line)
    words = line[prefix.end() :].strip() if prefix else ""
    if not words.startswith(_PHASES):
        return None
    words = words.partition(" with config")[0]
    return words if len(words) <= _PHASE_CHARACTERS else words[: _PHASE_CHARACTERS - 1] + "…"


def phase_teller(log: Path, start: int, say: Callable[[str], None]) -> Callable[[], None]:
    """What says each new phase in the log after byte `start`, with the seconds so far, once."""
    began, place, told = time.monotonic(), start, set[str]()

    def tell() -> None:
        nonlocal place
        with log.open("rb") as file:
            file.seek(place)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        place += len(whole)
        for line in whole.decode("utf-8", "replace").splitlines():
            phase = phase_of(line)
            if phase is not None and phase not in told:
                told.add(phase)
                say(harmless(f"{time.monotonic() - began:4.0f} s  {phase}"))

    return tell


def last_words(log: Path, lines: int = 8) -> str:
    """The last lines of a log file, with its name before them."""
    tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-lines:]
    return f"last lines of {log}:\n  " + "\n  ".join(tail or ["(empty)"])


def wait(child: subprocess.Popen[bytes], log: Path | None) -> None:
    """Wait for the child to end, which raises `EngineError`: only leaving `running` should stop it."""
    code = child.wait()
    words = last_words(log) if log else "give --log FILE to keep its log"
    raise EngineError(f"the server ended with code {code}; {words}")


def stop(child: subprocess.Popen[bytes]) -> None:
    """End the child and every process it started: with SIGTERM, and after a while with SIGKILL."""
    for sign, patience in ((signal.SIGTERM, _STOP_S), (signal.SIGKILL, _STOP_S)):
        try:
            os.killpg(child.pid, sign)
        except ProcessLookupError:
            break
        try:
            child.wait(patience)
        except subprocess.TimeoutExpired:
            continue
    child.wait()


def _die_with_parent() -> None:
    # The kernel sends SIGTERM to the child when this process dies, even by SIGKILL.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _has_gpu() -> bool:
    """Whether an NVIDIA or AMD driver is loaded; torch is not imported for it."""
    return any(Path(path).exists() for path in ("/dev/nvidiactl", "/dev/kfd"))
