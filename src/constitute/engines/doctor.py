"""Examine this machine and a model: what can run, what is missing, and what to do about it."""

from __future__ import annotations

import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from constitute.engines.tokenizer import pad_lack, unused_token
from constitute.errors import ConstituteError, UsageError
from constitute.packaged import model_path
from constitute.types import Message, Record
from constitute.urls import is_url

if TYPE_CHECKING:
    from constitute.engines.render import Renderer

State = Literal["ok", "warn", "fail"]
Version = tuple[int, ...]

# Tested windows, lower bound included, upper excluded; the reasons stand in pyproject.toml.
WINDOWS: dict[str, tuple[Version, Version | None]] = {
    "torch": ((2, 10), None),
    "transformers": ((5, 10, 4), (5, 18)),
    "trl": ((1, 15), (1, 17)),
    "vllm": ((0, 30), (0, 32)),
}
_BF16 = "import torch; a = torch.ones(256, 256, dtype=torch.bfloat16); print(float((a @ a)[0, 0]))"
_GIB = 1 << 30
_QUESTION = Message(role="user", content="Is 7 prime?")


class Check(Record):
    """One thing examined. `fail` means that even the data stages cannot run; `remedy` says what to do."""

    name: str
    state: State
    found: str
    remedy: str = ""


def examine(folder: Path, model: str | None = None) -> list[Check]:
    """Every check, the most important first; `folder` is where runs would be written.

    With `model`, also whether the data stages and the trainers can use it; no weights are loaded.
    """
    packages = {name: installed(name) for name in WINDOWS}
    return [
        check_python(sys.version_info[:3]),
        *(check_package(name, packages[name]) for name in WINDOWS),
        check_engines(packages),
        check_vision(),
        check_bf16(packages["torch"]),
        check_gpu(),
        check_memory(memory_gib()),
        check_disk(folder),
        check_writable(folder),
        check_pocket(),
        *([] if model is None else examine_model(model)),
    ]


def can_run(checks: list[Check]) -> bool:
    """Whether no check failed."""
    return all(check.state != "fail" for check in checks)


def installed(name: str) -> str | None:
    """Version of a package, or None; vLLM's CPU build is a distribution of another name."""
    for distribution in (name, f"{name}-cpu"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return None


def parse_version(text: str) -> Version:
    """Leading numbers of a version: "2.13.0+cpu" is (2, 13, 0)."""
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def check_python(running: tuple[int, ...]) -> Check:
    """Python 3.11 or newer."""
    text = ".".join(map(str, running))
    if running >= (3, 11):
        return Check(name="python", state="ok", found=f"{text} on {platform.system()} {platform.machine()}")
    return Check(name="python", state="fail", found=text, remedy="install Python 3.11 or newer")


def check_package(name: str, found: str | None) -> Check:
    """Whether a package is there and inside the window that was tested."""
    low, high = WINDOWS[name]
    window = f">={_dotted(low)}" + (f",<{_dotted(high)}" if high else "")
    if found is None:
        extra = "vllm] on a GPU or constitute[cpu" if name == "vllm" else "train"
        return Check(
            name=name, state="warn", found="not installed", remedy=f"pip install 'constitute[{extra}]'"
        )
    number = parse_version(found)
    if number < low or (high is not None and number >= high):
        return Check(name=name, state="warn", found=found, remedy=f"tested with {name}{window}; install that")
    return Check(name=name, state="ok", found=f"{found} ({window})")


def check_engines(packages: dict[str, str | None]) -> Check:
    """Which engines can answer; a server by URL always can."""
    ready = ["openai"]
    if packages["torch"] and packages["transformers"]:
        ready.insert(0, "transformers")
        if packages["vllm"]:
            ready.insert(0, "vllm")
    found = ", ".join(ready)
    if ready == ["openai"]:
        remedy = "give --model the URL of a server, or install constitute[cpu] or constitute[vllm]"
        return Check(name="engines", state="warn", found=found, remedy=remedy)
    return Check(name="engines", state="ok", found=found)


def check_vision() -> Check:
    """torchvision built for CUDA beside a CPU torch breaks the import of every transformers model."""
    try:
        vision, torch = version("torchvision"), version("torch")
    except PackageNotFoundError:
        return Check(name="torchvision", state="ok", found="not installed (not needed)")
    if ("+cpu" in torch) != ("+cpu" in vision):
        return Check(
            name="torchvision",
            state="warn",
            found=f"{vision} beside torch {torch}",
            remedy="pip uninstall torchvision torchaudio torchcodec; text models need none of them",
        )
    return Check(name="torchvision", state="ok", found=vision)


def check_bf16(torch: str | None) -> Check:
    """Multiply bf16 matrices in a child process: some CPUs claim the instructions and crash on them."""
    if torch is None:
        return Check(name="bf16", state="ok", found="not probed (no torch)")
    # -P: a `torch.py` in the working directory is not run.
    command = [sys.executable, "-P", "-c", _BF16]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return Check(name="bf16", state="warn", found="no result in 120 s", remedy="keep engine.dtype=auto")
    return judge_bf16(child.returncode, child.stdout, child.stderr)


def judge_bf16(code: int, stdout: str, stderr: str) -> Check:
    """What the probe's exit code and output say: 256 ones times 256 ones is 256."""
    if code == 0 and stdout.strip() == "256.0":
        return Check(name="bf16", state="ok", found="works on the CPU")
    if code in (-signal.SIGILL, 128 + signal.SIGILL):
        remedy = "nothing to do: dtype auto means float32 here; never set engine.dtype=bfloat16"
        return Check(name="bf16", state="warn", found="dies with SIGILL on the CPU", remedy=remedy)
    last = (stderr.strip().splitlines() or ["no message"])[-1]
    return Check(
        name="bf16", state="warn", found=f"probe failed ({code}): {last[:120]}", remedy="reinstall torch"
    )


def check_gpu() -> Check:
    """Name and memory of the first GPU, from nvidia-smi; none is fine."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Check(name="gpu", state="ok", found="none; models up to about 1 B parameters are practical")
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        child = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return Check(name="gpu", state="warn", found="nvidia-smi hangs", remedy="look at the GPU driver")
    if child.returncode != 0 or not child.stdout.strip():
        return Check(name="gpu", state="warn", found="nvidia-smi fails", remedy="look at the GPU driver")
    return Check(name="gpu", state="ok", found="; ".join(child.stdout.strip().splitlines()))


def memory_gib() -> float | None:
    """Memory that can still be taken, in GiB: of this control group where one is set."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    free = next((int(line.split()[1]) / (1 << 20) for line in lines if line.startswith("MemAvailable")), None)
    limit, used = (_number(Path("/sys/fs/cgroup") / name) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None and free is not None:
        return min(free, (limit - used) / _GIB)
    return free


def check_memory(free: float | None) -> Check:
    """At least 4 GiB for the embedded model with vLLM and a trainer beside it."""
    if free is None:
        return Check(name="memory", state="ok", found="unknown on this system")
    if free < 4:
        remedy = "close programs, or set engine.kv_cache_gib=0.25 and engine.in_flight=64"
        return Check(name="memory", state="warn", found=f"{free:.1f} GiB free", remedy=remedy)
    return Check(name="memory", state="ok", found=f"{free:.1f} GiB free")


def check_disk(folder: Path) -> Check:
    """At least 1 GiB where runs are written."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free / _GIB
    if free < 1:
        remedy = "free space, or give --run a folder on another disk"
        return Check(name="disk", state="warn", found=f"{free:.2f} GiB free in {place}", remedy=remedy)
    return Check(name="disk", state="ok", found=f"{free:.0f} GiB free in {place}")


def check_writable(folder: Path) -> Check:
    """Runs are written below `folder`; without that nothing can start."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as problem:
        return Check(
            name="writable",
            state="fail",
            found=f"{place}: {problem.strerror}",
            remedy="change to a folder you may write to, or give --run one",
        )
    return Check(name="writable", state="ok", found=str(place))


def check_pocket() -> Check:
    """Whether the embedded model's weights are in the package."""
    path = model_path("pocket")
    if path == "pocket":
        remedy = "reinstall constitute, or run `make pocket` in a checkout"
        return Check(name="pocket", state="warn", found="weights are missing", remedy=remedy)
    size = sum(file.stat().st_size for file in Path(path).iterdir() if file.is_file()) / (1 << 20)
    return Check(name="pocket", state="ok", found=f"{size:.1f} MiB in {path}")


def examine_model(model: str) -> list[Check]:
    """Whether the model's files are whole, and whether its tokenizer renders, ends and pads answers."""
    if is_url(model):
        return [Check(name="model", state="ok", found=f"the server {model}; its tokenizer is not at hand")]
    if find_spec("transformers") is None:
        return [Check(name="model", state="warn", found="not examined (no transformers)")]
    from constitute.engines.render import Renderer
    from constitute.engines.tokenizer import load_tokenizer, turn_ends

    try:
        tokenizer = load_tokenizer(model_path(model))
        renderer = Renderer(tokenizer, model, turn_ends(model_path(model), tokenizer))
    except UsageError as problem:
        return [Check(name="model", state="fail", found=str(problem))]
    return [
        Check(name="model", state="ok", found=f"{model}: {len(tokenizer)} tokens and a chat template"),
        check_traits(renderer),
        check_answers(renderer),
        check_padding(tokenizer),
    ]


def require_trainable(model: str) -> None:
    """Raise `UsageError` where a trainer would refuse the model's tokenizer; no weights are loaded.

    Warns of a token that pads in the place of a missing pad token.
    """
    from constitute.engines.render import Renderer
    from constitute.engines.tokenizer import check_trainable, load_tokenizer, pad_of, turn_ends

    tokenizer = load_tokenizer(model_path(model))
    check_trainable(tokenizer, model)
    Renderer(tokenizer, model, turn_ends(model_path(model), tokenizer)).answer_ids([_QUESTION], "Yes")
    pad_of(tokenizer, model)


def check_traits(renderer: Renderer) -> Check:
    """What the chat template does with thinking and system turns, and with order, dates and ends of turns."""
    found = "; ".join(renderer.traits.lines())
    if renderer.traits.thinking != "always":
        return Check(name="template", state="ok", found=found)
    remedy = "give generate.thinking_tokens and revise.thinking_tokens room, and judge with another model"
    return Check(name="template", state="warn", found=found, remedy=remedy)


def check_answers(renderer: Renderer) -> Check:
    """Whether an answer can be trained on: its tokens are found, and a token ends it."""
    try:
        end = renderer.answer_ids([_QUESTION], "Yes")[-1]
    except ConstituteError as problem:
        return Check(name="answers", state="warn", found=f"cannot be trained on: {problem}")
    return Check(
        name="answers", state="ok", found=f"end with {renderer.tokenizer.convert_ids_to_tokens(end)}"
    )


def check_padding(tokenizer: Any) -> Check:
    """Whether training has a pad token that is no end of turn, or an unused token in its place."""
    lack = pad_lack(tokenizer)
    if not lack:
        return Check(name="padding", state="ok", found=str(tokenizer.pad_token))
    chosen = unused_token(tokenizer)
    if chosen is None:
        remedy = "set pad_token in tokenizer_config.json to a token no text contains; train needs one"
        return Check(name="padding", state="warn", found=f"{lack}, and no token is unused", remedy=remedy)
    return Check(name="padding", state="ok", found=f"{lack}; training pads with the unused token {chosen}")


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _dotted(number: Version) -> str:
    return ".".join(map(str, number))
