"""Weights from GPU to GPU: which way, what the server is told in which order, and what is sent.

NCCL and CUDA's shared memory need GPUs; what vLLM does with them is replaced by a sender that notes it.
"""

from __future__ import annotations

import asyncio
import base64
import pickle

import pytest

from constitute.config import EngineConfig
from constitute.engines.vllm import transfer
from constitute.engines.vllm.transfer import Client, Taker, Transfer, chunks, taker_of, way_to
from constitute.errors import EngineError, UsageError

torch = pytest.importorskip("torch")
BASE = "http://127.0.0.1:8001"


def taker(way="nccl", gpus=("GPU-b",), workers=1):
    return Taker(BASE, "m", "bfloat16", way, gpus, workers)


@pytest.mark.parametrize(
    ("server", "wanted", "own", "way"),
    [
        (taker(), "auto", "GPU-a", "nccl"),
        (taker("ipc", ("GPU-a",)), "auto", "GPU-a", "ipc"),
        (taker(""), "auto", "GPU-a", "files"),
        (taker(), "auto", "", "files"),
        (taker(), "files", "GPU-a", "files"),
        (taker(), "nccl", "GPU-a", "nccl"),
    ],
)
def test_the_way_is_the_servers_unless_the_settings_say_one(server, wanted, own, way):
    assert way_to(server, wanted, own, 1) == way


@pytest.mark.parametrize(
    ("server", "wanted", "own", "processes", "words"),
    [
        (taker(), "nccl", "", 1, r"engine\.sync=nccl cannot be used: .*torch sees none.*engine\.sync=files"),
        (taker("ipc"), "ipc", "", 1, r"engine\.sync=ipc cannot be used: .*torch sees none"),
        (taker(""), "nccl", "GPU-a", 1, "start it with `constitute serve m --rollouts --sync nccl`"),
        (taker("nccl", ("GPU-a",)), "auto", "GPU-a", 1, "share one; use ipc"),
        (taker("ipc", ("GPU-b",)), "auto", "GPU-a", 1, "not on the trainer's alone; use nccl"),
        (taker("ipc", ("GPU-a",), 2), "auto", "GPU-a", 1, "not on the trainer's alone; use nccl"),
        (taker("ipc", ("GPU-a",)), "auto", "GPU-a", 2, r"2 train together; set engine\.sync=files"),
    ],
)  # fmt: skip
def test_ways_that_cannot_work_are_refused(server, wanted, own, processes, words):
    with pytest.raises(UsageError, match=words):
        way_to(server, wanted, own, processes)


def test_what_workers_say_is_read_and_what_they_do_not_say_is_empty():
    said = {"takes_weights": True, "dtype": "bfloat16", "transfer": "nccl", "gpu": "GPU-b", "workers": 4}
    assert taker_of(BASE, "m", [said, {**said, "gpu": "GPU-c"}]) == Taker(
        BASE, "m", "bfloat16", "nccl", ("GPU-b", "GPU-c"), 4
    )
    assert taker_of(BASE, "m", [{"takes_weights": True}]) == Taker(BASE, "m")
    assert taker_of(BASE, "m", None) == Taker(BASE, "m")


def test_tensors_are_sent_in_bounded_rounds():
    tensors = [(str(size), torch.zeros(size, dtype=torch.uint8)) for size in (3, 3, 2, 9, 1, 7, 1)]
    found = [[name for name, _ in chunk] for chunk in chunks(tensors, 8)]
    assert found == [["3", "3", "2"], ["9"], ["1", "7"], ["1"]]
    assert list(chunks([], 8)) == []


class Sender:
    """vLLM's trainer side without its transport: the calls of a `send_weights`, and what it would send."""

    def __init__(self, client, told):
        self.client, self.source, self.told = client, None, told
        client.init_weight_transfer_engine({"world_size": 3, "packed": True})

    def send_weights(self):
        metas = self.source.metadata()
        self.client.start_weight_update()
        self.client.update_weights(
            {
                "names": [meta.name for meta in metas],
                "dtype_names": [str(meta.dtype).removeprefix("torch.") for meta in metas],
                "shapes": [list(meta.shape) for meta in metas],
            }
        )
        self.told.append([(name, tensor.clone()) for name, tensor in self.source])
        self.client.finish_weight_update()

    def shutdown(self):
        self.told.append("left")


class Server:
    """The routes of a push; `broken` answers 500."""

    def __init__(self):
        self.asked, self.broken = [], ""

    def __call__(self, path, body):
        self.asked.append((path, body))
        return (500, {"error": "no"}) if path == self.broken else (200, {})


def opened(server, told):
    def opener(way, client, source, workers):
        assert (way, workers) == ("nccl", 2)
        return Sender(client, told)

    return Transfer("nccl", Client(BASE, server), 2, device="cpu", opener=opener)


def weights(step):
    place = torch.zeros(2)
    for number in range(3):
        place.fill_(number + step / 256)
        yield f"w{number}", place
    yield "steps", torch.tensor([step])


def test_a_push_is_one_update_of_several_rounds_in_the_servers_dtype(monkeypatch):
    pytest.importorskip("vllm")
    monkeypatch.setattr(transfer, "CHUNK_BYTES", 8)
    server, told = Server(), []
    sent = opened(server, told)
    sent.send(weights(1), torch.bfloat16, "run-1")

    def rounds(names, dtypes, shapes):
        return ("/update_weights", {"update_info": {"names": names, "dtype_names": dtypes, "shapes": shapes}})

    push = [
        ("/start_weight_update", {}),
        rounds(["w0", "w1"], ["bfloat16"] * 2, [[2], [2]]),
        rounds(["w2"], ["bfloat16"], [[2]]),
        rounds(["steps"], ["int64"], [[1]]),
    ]
    init = ("/init_weight_transfer_engine", {"init_info": {"world_size": 3, "packed": True}})
    assert server.asked == [init, *push, ("/finish_weight_update", {"weight_version": "run-1"})]
    got = {name: tensor for sent_round in told for name, tensor in sent_round}
    # 2 + 1/256 is not a bfloat16; copies of what the caller overwrites.
    assert [got[f"w{number}"][0].item() for number in range(3)] == [1 / 256, 1.0, 2.0]
    assert got["w0"].dtype == torch.bfloat16 and got["steps"].item() == 1
    server.asked.clear()
    sent.send(weights(2), torch.bfloat16, "run-2")
    # The server is joined once.
    assert [path for path, _ in server.asked] == [path for path, _ in push] + ["/finish_weight_update"]
    sent.close()
    assert told[-1] == "left"


@pytest.mark.parametrize("broken", ["/start_weight_update", "/update_weights", "/finish_weight_update"])
def test_a_push_that_the_server_refuses_ends_the_run(broken):
    pytest.importorskip("vllm")
    server = Server()
    server.broken = broken
    with pytest.raises(EngineError, match=rf"{broken} answered 500 .*restart it on the policy's folder"):
        opened(server, []).send(weights(1), torch.bfloat16, "run-1")
    assert server.asked[-1][0] == broken


def test_handles_of_cuda_memory_travel_as_vllms_server_reads_them():
    server = Server()
    handles = {"GPU-a": ("rebuild", (1, 2), b"handle")}
    Client(BASE, server).update_weights({"names": ["w"], "ipc_handles": handles})
    ((_, body),) = server.asked
    info = body["update_info"]
    assert info["names"] == ["w"] and "ipc_handles" not in info
    assert pickle.loads(base64.b64decode(info["ipc_handles_pickled"])) == handles


def test_vllms_own_trainer_side_is_what_the_client_and_source_are_made_for():
    """The names that vLLM asks for, from its own classes."""
    base = pytest.importorskip("vllm.distributed.weight_transfer.base")
    from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo, IPCWeightTransferUpdateInfo
    from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo, NCCLWeightTransferUpdateInfo

    assert isinstance(Client(BASE, Server()), base.VLLMWeightSyncClient)
    source = transfer._source([("w", torch.zeros(2, 3, dtype=torch.bfloat16))])
    assert isinstance(source, base.WeightSource)
    assert source.metadata() == [base.ParamMeta("w", torch.bfloat16, (2, 3))]
    assert [name for name, _ in source] == ["w"]
    NCCLTrainerInitInfo(rank=0, master_address="127.0.0.1", master_port=1, world_size=2)
    IPCTrainerInitInfo(rank=0, packed=True)
    NCCLWeightTransferUpdateInfo(names=["w"], dtype_names=["bfloat16"], shapes=[[2, 3]])
    assert "ipc_handles_pickled" in IPCWeightTransferUpdateInfo.__dataclass_fields__


def test_on_a_cpu_nccl_and_ipc_are_refused_and_a_folder_carries_the_engines_dtype(
    mock_server, tiny_model, tmp_path
):
    from safetensors.torch import load_file

    from constitute.engines.openai.rollout import RolloutServer

    loaded = {}

    def control(body):
        if body["method"] == "takes_weights":
            return {"takes_weights": True, "dtype": "bfloat16", "transfer": "nccl", "gpu": "GPU-b"}
        loaded.update(load_file(f"{body['args'][0]}/model.safetensors"))
        return {"tensors": len(loaded)}

    entry = {"id": "m", "owned_by": "vllm", "max_model_len": 64, "root": str(tiny_model)}
    mock_server.models, mock_server.control = {"data": [entry]}, control
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    for way in ("nccl", "ipc"):
        with pytest.raises(UsageError, match=rf"engine\.sync={way} cannot be used: .*torch sees none here"):
            RolloutServer(mock_server.url, EngineConfig(sync=way))
    engine = RolloutServer(mock_server.url, EngineConfig(sync_folder=str(tmp_path)))
    engine.update_weights([("w", torch.tensor([1.0, 1 / 3])), ("n", torch.tensor([7]))], fingerprint="new")
    assert loaded["w"].dtype == torch.bfloat16 and loaded["n"].dtype == torch.int64
    assert torch.equal(loaded["w"], torch.tensor([1.0, 1 / 3], dtype=torch.bfloat16))
    assert engine.dtype == "bfloat16" and engine.overlaps
    asyncio.run(engine.close())
