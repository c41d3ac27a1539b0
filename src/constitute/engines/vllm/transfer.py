"""New weights from the trainer's GPU into a server's, by vLLM's own weight transfer (NCCL or CUDA IPC).

vLLM moves the bytes (`vllm.distributed.weight_transfer`); here stand what its trainer side asks of a client,
the order of a push, and which way a server can take at all.
"""

from __future__ import annotations

import base64
import pickle
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from constitute.engines.weight_files import Named, copies
from constitute.errors import EngineError, UsageError

Way = Literal["files", "nccl", "ipc"]
# (path, body) -> (status, answer) of one POST.
Post = Callable[[str, dict[str, Any]], tuple[int, Any]]
# What is on the trainer's GPU beside its own weights at one time, but for one larger tensor.
CHUNK_BYTES = 512 << 20


@dataclass(frozen=True)
class Taker:
    """What a server says of itself: its weights' dtype, its transfer, its GPUs, how many workers.

    `transfer` is `nccl`, `ipc` or empty; `gpus` are the UUIDs of those of its workers that answered.
    """

    base: str
    model: str
    dtype: str = ""
    transfer: str = ""
    gpus: tuple[str, ...] = ()
    workers: int = 1


def taker_of(base: str, model: str, results: Any) -> Taker:
    """Read the answers of the workers to `takes_weights`; what one does not say stays empty."""
    answers = [one for one in results if isinstance(one, dict)] if isinstance(results, list) else []
    first = answers[0] if answers else {}
    workers = first.get("workers")
    return Taker(
        base,
        model,
        dtype=str(first.get("dtype", "")),
        transfer=str(first.get("transfer", "")),
        gpus=tuple(str(one["gpu"]) for one in answers if one.get("gpu")),
        workers=workers if isinstance(workers, int) and workers > 0 else 1,
    )


def way_to(taker: Taker, wanted: str, own_gpu: str, processes: int) -> Way:
    """How weights reach the server: `engine.sync`, or for `auto` what the server was started with.

    `own_gpu` is the UUID of the trainer's GPU, empty without one. Raises `UsageError` for a way that the two
    cannot take.
    """
    if wanted == "files" or (wanted == "auto" and not (taker.transfer and own_gpu)):
        return "files"
    way = taker.transfer if wanted == "auto" else wanted
    problem = _refusal(taker, way, own_gpu, processes)
    if problem:
        raise UsageError(f"engine.sync={way} cannot be used: {problem}")
    return "nccl" if way == "nccl" else "ipc"


def _refusal(taker: Taker, way: str, own_gpu: str, processes: int) -> str:
    """Why weights cannot go to the server that way, and what to do; empty where they can."""
    if not own_gpu:
        return "it sends weights from GPU to GPU, and torch sees none here; set engine.sync=files"
    if taker.transfer != way:
        return (
            f"the server at {taker.base} was not started for it; start it with `constitute serve "
            f"{taker.model} --rollouts --sync {way}`, or set engine.sync=files"
        )
    if way == "nccl" and own_gpu in taker.gpus:
        return "NCCL joins different GPUs, and trainer and server share one; use ipc, on both sides"
    if way == "ipc" and (set(taker.gpus) != {own_gpu} or taker.workers != 1):
        return (
            "ipc hands over memory of one GPU, and the server is not on the trainer's alone; use nccl, on "
            "both sides"
        )
    if way == "ipc" and processes > 1:
        return f"ipc is for one training process, and {processes} train together; set engine.sync=files"
    return ""


class Sender(Protocol):
    """vLLM's trainer side: it sends what its source yields, telling the workers through its client."""

    source: Any

    def send_weights(self) -> None: ...

    def shutdown(self) -> None: ...


# (way, client, source, workers) -> the trainer's side, with the server's joined to it.
Opener = Callable[[Way, "Client", Any, int], Sender]


class Client:
    """Implements vLLM's `VLLMWeightSyncClient` over this package's own connection, its key and limits.

    vLLM begins and ends an update with each round of its sender. A push here is several rounds of a bounded
    size, so `begin` and `end` frame them all, and those of the rounds say nothing.
    """

    def __init__(self, base: str, post: Post) -> None:
        self._base, self._post = base, post

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Have the workers join; blocks until the trainer's side has joined, too."""
        self._ask("/init_weight_transfer_engine", {"init_info": init_info})

    def start_weight_update(self) -> None:
        """Nothing: see `begin`."""

    def update_weights(self, update_info: Any) -> None:
        """Have the workers take one round; blocks until they have it."""
        self._ask("/update_weights", {"update_info": _as_json(update_info)})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Nothing: see `end`."""

    def begin(self) -> None:
        """Have the workers await new weights."""
        self._ask("/start_weight_update", {})

    def end(self, version: str) -> None:
        """Have the workers build what depends on the weights, which are named `version` from now on."""
        self._ask("/finish_weight_update", {"weight_version": version})

    def _ask(self, path: str, body: dict[str, Any]) -> None:
        status, answer = self._post(path, body)
        if status != 200:
            raise EngineError(
                f"{self._base}{path} answered {status or 'nothing'} ({str(answer)[:300]}) and the server may "
                "hold half of the new weights; restart it on the policy's folder and continue from the last "
                "checkpoint"
            )


def _as_json(update_info: Any) -> Any:
    """CUDA's handles of memory are no JSON: pickled, as vLLM's server reads them."""
    if not isinstance(update_info, dict) or update_info.get("ipc_handles") is None:
        return update_info
    rest = {name: value for name, value in update_info.items() if name != "ipc_handles"}
    pickled = base64.b64encode(pickle.dumps(update_info["ipc_handles"])).decode()
    return {**rest, "ipc_handles_pickled": pickled}


class Transfer:
    """Sends weights one way to one server; joined to it at the first push. `device` is the trainer's GPU."""

    def __init__(self, way: Way, client: Client, workers: int, *, device: Any, opener: Opener) -> None:
        self._way, self._client, self._workers = way, client, workers
        self._device, self._opener = device, opener
        self._sender: Sender | None = None

    def send(self, named: Named, dtype: Any, version: str) -> None:
        """Send every tensor in `dtype`. Raises `EngineError` where the server does not take them."""
        if self._sender is None:
            self._sender = self._opener(self._way, self._client, (), self._workers)
        self._client.begin()
        for chunk in chunks(copies(named, dtype, self._device), CHUNK_BYTES):
            self._sender.source = _source(chunk)
            self._sender.send_weights()
            self._sender.source = None
        self._client.end(version)

    def close(self) -> None:
        """Leave the server."""
        if self._sender is not None:
            self._sender.shutdown()
            self._sender = None


def chunks(named: Named, size: int) -> Iterator[list[tuple[str, Any]]]:
    """Tensors in lists of at most `size` bytes each, but for one that is larger by itself."""
    held: list[tuple[str, Any]] = []
    used = 0
    for name, tensor in named:
        if held and used + tensor.nbytes > size:
            yield held
            held, used = [], 0
        held.append((name, tensor))
        used += tensor.nbytes
    if held:
        yield held


def own_gpu() -> str:
    """The UUID of this process's GPU; empty without one."""
    import torch

    if not torch.cuda.is_available():
        return ""
    return str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)


def open_vllm(way: Way, client: Client, source: Any, workers: int) -> Sender:
    """vLLM's own trainer side, joined to the server's workers."""
    from vllm.distributed.weight_transfer import WeightTransferTrainerFactory
    from vllm.distributed.weight_transfer.base import TrainerInitInfo
    from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo
    from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

    info: TrainerInitInfo
    if way == "nccl":
        # One sender and every worker; the server is on this machine, as it listens on loopback alone.
        info = NCCLTrainerInitInfo(
            rank=0, master_address="127.0.0.1", master_port=_free_port(), world_size=1 + workers
        )
    else:
        info = IPCTrainerInitInfo(rank=0, packed=True)
    sender: Sender = WeightTransferTrainerFactory.trainer_init(info, client=client, source=_source(source))
    return sender


def _source(pairs: Any) -> Any:
    """vLLM's `WeightSource` of tensors that are at hand."""
    from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource

    class Held(WeightSource):
        def metadata(self) -> list[Any]:
            return [ParamMeta(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in pairs]

        def __iter__(self) -> Iterator[tuple[str, Any]]:
            return iter(pairs)

    return Held()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
