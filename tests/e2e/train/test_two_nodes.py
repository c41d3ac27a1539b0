"""Two groups of two processes, as on two machines, train as one process does, by the files for that."""

import os
import subprocess
import sys

import pytest
from conftest import free_port
from e2e.train.sharded_child import prepare
from e2e.train.test_sharded import CHILD, EXAMPLES, check_same, launch
from ruamel.yaml import YAML

CASES = ("reward", "separate")


def words_of(kind, rank, port):
    """What starts the processes of machine `rank`; for DDP on CPUs accelerate itself starts none."""
    file = EXAMPLES / f"two-nodes-{kind}.yaml"
    said = YAML(typ="safe").load(file)
    machines = str(said["num_machines"])
    assert said["machine_rank"] == 0 and said["num_processes"] == 8 * said["num_machines"]
    if kind == "ddp":
        assert said["distributed_type"] == "MULTI_GPU" and said["rdzv_backend"] == "static"
        return [
            "-m", "torch.distributed.run", "--nnodes", machines, "--node_rank", str(rank), "--nproc_per_node",
            "2", "--master_addr", said["main_process_ip"], "--master_port", str(port),
        ]  # fmt: skip
    return [
        "-m", "accelerate.commands.launch", "--config_file", str(file), "--machine_rank", str(rank),
        "--num_processes", "4", "--main_process_port", str(port),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    done = launch(folder, "one", *CASES)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("kind", [pytest.param("ddp", marks=pytest.mark.long), "fsdp2"])
def test_two_machines_learn_what_one_process_does(tmp_path, one, kind):
    prepare(tmp_path)
    port = free_port()
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "ACCELERATE_USE_CPU": "true",
    }
    children = [
        subprocess.Popen(
            [sys.executable, *words_of(kind, rank, port), str(CHILD), str(tmp_path), *CASES],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in (0, 1)
    ]
    said = [child.communicate(timeout=280)[1] for child in children]
    assert [child.returncode for child in children] == [0, 0], said[0][-3000:]
    for case in CASES:
        check_same(one, tmp_path, case)
    assert len(list((tmp_path / "separate").glob("held-*.json"))) == 4
