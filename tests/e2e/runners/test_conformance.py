"""What every runner keeps to: the rows of one process, whatever is killed, refused or gone meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from serving import IN_FLIGHT, PROMPTS, SHARDS, WAYS, Answering, answered, config, dump

from constitute.config import RayConfig
from constitute.errors import EngineError, LimitReached, RunMismatch
from constitute.pipeline.budget import Limits
from constitute.progress import Silent
from constitute.store import Store

CHILD = Path(__file__).parent / "child.py"
STAGES = ["generate", "revise", "label"]
# On a cluster each of these takes ten seconds.
LONG_ON_A_CLUSTER = [pytest.param(way, marks=[pytest.mark.long] * (way == "ray")) for way in WAYS]


class Counting(Silent):
    """Adds up what it is told."""

    def __init__(self) -> None:
        self.started: Counter[str] = Counter()
        self.ended: Counter[tuple[str, str]] = Counter()

    def start(self, stage: str, total: int | None = None, done: int = 0) -> None:
        self.started[stage] += total or 0

    def advance(self, stage: str, status: str = "ok", **figures: float) -> None:
        self.ended[stage, status] += 1


@pytest.fixture(scope="module")
def server() -> Iterator[Answering]:
    with Answering() as started:
        yield started


@pytest.fixture(autouse=True)
def fresh(request: pytest.FixtureRequest) -> None:
    if "server" in request.fixturenames:
        answering = request.getfixturevalue("server")
        answering.asked.clear()
        answering.most, answering.wait_s = None, 0.0


@pytest.fixture(scope="module")
def reference(server: Answering, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The rows of one process, and how often each question was asked."""
    run = tmp_path_factory.mktemp("reference") / "run"
    WAYS["local"](config(server.url, run), PROMPTS, progress=Silent())
    with Store.open(run, readonly=True) as store:
        counts = {stage: store.counts(stage) for stage in STAGES}
    # 40 prompts x 2 samples, of which those of one prompt fail; 3 pairs a prompt, undecided for one.
    assert counts["generate"] == {"ok": 78, "abstain": 0, "failed": 2}
    assert counts["revise"] == {"ok": 78, "abstain": 0, "failed": 0}
    assert counts["label"] == {"ok": 114, "abstain": 3, "failed": 0}
    return {"rows": dump(run), "asked": set(server.asked), "counts": counts}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A cluster of this machine, for all tests of this file; its address."""
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    from constitute.runners.ray.run import cluster as started

    with started(RayConfig(actors=3), Silent()) as ray:
        yield ray.get_runtime_context().gcs_address


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest) -> str:
    if request.param == "ray":
        request.getfixturevalue("cluster")
    return str(request.param)


def at_once(way: str) -> int:
    """Questions that may be on their way together: two actors, each with three batches, on a cluster."""
    return 2 * 3 * IN_FLIGHT if way == "ray" else IN_FLIGHT


def test_the_rows_of_one_process(way: str, server: Answering, reference: dict, tmp_path: Path) -> None:
    """Failed and abstaining rows with their reasons, every row shown once, nothing asked twice."""
    seen = Counting()
    counts = WAYS[way](config(server.url, tmp_path / "run"), PROMPTS, progress=seen)
    assert dump(tmp_path / "run") == reference["rows"]
    assert set(server.asked) == reference["asked"] and max(server.asked.values()) == 1
    for stage in STAGES:
        ended = {status: seen.ended[stage, status] for status in ("ok", "abstain", "failed")}
        assert ended == reference["counts"][stage] == counts[stage].model_dump(include=set(ended))
        assert counts[stage].resumed == 0
    assert seen.started == {"generate": 80, "revise": 80, "label": 120}
    with Store.open(tmp_path / "run", readonly=True) as store:
        assert {status for status, _, _ in store.reasons("label")} == {"abstain"}
        assert any("this prompt is refused" in reason for _, reason, _ in store.reasons("generate"))


def test_a_killed_run_goes_on(way: str, server: Answering, reference: dict, tmp_path: Path) -> None:
    server.wait_s = 0.01
    words = [sys.executable, str(CHILD), way, str(tmp_path / "run"), server.url]
    if way == "ray":
        import ray

        words.append(f"runner.ray.address={ray.get_runtime_context().gcs_address}")
    child = subprocess.Popen(words)
    while server.asked.total() < 150:
        assert child.poll() is None, "the run ended before it was killed"
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    time.sleep(0.2)
    server.wait_s = 0.0
    _again_when_free(way, server, tmp_path)
    assert dump(tmp_path / "run") == reference["rows"]
    assert set(server.asked) == reference["asked"]
    asked_twice = server.asked.total() - len(server.asked)
    assert asked_twice <= at_once(way), "more was asked again than was on its way"


def _again_when_free(way: str, server: Answering, folder: Path) -> None:
    """The same run; a cluster takes a moment to end the writer of a driver that is gone."""
    until = time.monotonic() + 30
    while True:
        try:
            WAYS[way](config(server.url, folder / "run"), PROMPTS, progress=Silent())
            return
        except RunMismatch as problem:
            assert "in use by process" in str(problem) and time.monotonic() < until
            time.sleep(0.2)


@pytest.mark.parametrize("way", LONG_ON_A_CLUSTER, indirect=True)
def test_a_limit_stops_before_it_is_exceeded(
    way: str, server: Answering, reference: dict, tmp_path: Path
) -> None:
    settings = config(server.url, tmp_path / "run")
    with pytest.raises(LimitReached, match="--max-requests 60: the run has asked 60 questions"):
        WAYS[way](settings, PROMPTS, progress=Silent(), limits=Limits(requests=60))
    # Two of them are the prompt that is refused.
    assert server.asked.total() == 60
    assert 58 <= answered(tmp_path / "run") <= 60
    WAYS[way](settings, PROMPTS, progress=Silent(), limits=Limits(requests=10_000))
    assert dump(tmp_path / "run") == reference["rows"]
    assert max(server.asked.values()) == 1


@pytest.mark.parametrize("way", LONG_ON_A_CLUSTER, indirect=True)
def test_a_server_that_dies_ends_the_run_with_5(way: str, reference: dict, tmp_path: Path) -> None:
    with Answering() as dying:
        dying.most = 100
        settings = config(dying.url, tmp_path / "run")
        port = int(dying.url.rsplit(":", 1)[1])
        killed = threading.Thread(target=lambda: _kill_at(dying, 100))
        killed.start()
        with pytest.raises(EngineError) as problem:
            WAYS[way](settings, PROMPTS, progress=Silent())
        killed.join()
    assert problem.value.exit_code == 5
    assert 0 < answered(tmp_path / "run") <= 100
    with Answering(port=port) as alive:
        WAYS[way](settings, PROMPTS, progress=Silent())
        again = [name for name in alive.asked if alive.asked[name] > 1]
    assert not again
    assert dump(tmp_path / "run")["outcomes"] == reference["rows"]["outcomes"]


def _kill_at(server: Answering, asked: int) -> None:
    until = time.monotonic() + 60
    while server.asked.total() < asked and time.monotonic() < until:
        time.sleep(0.005)
    server.kill()


def test_a_worker_that_is_killed_is_replaced(
    cluster: str, server: Answering, reference: dict, tmp_path: Path
) -> None:
    """SIGKILL to an actor in the middle: the run ends by itself, with the rows of one process."""
    server.wait_s = 0.01
    deaths: list[int] = []

    def kill() -> None:
        until = time.monotonic() + 60
        while server.asked.total() < 80 and time.monotonic() < until:
            time.sleep(0.005)
        found = next(each for each in psutil.process_iter(["cmdline"]) if _is_worker(each))
        deaths.append(found.pid)
        os.kill(found.pid, signal.SIGKILL)

    killing = threading.Thread(target=kill)
    killing.start()
    seen = Counting()
    WAYS["ray"](config(server.url, tmp_path / "run"), PROMPTS, progress=seen)
    killing.join()
    assert len(deaths) == 1
    assert dump(tmp_path / "run") == reference["rows"]
    for stage in STAGES:
        ended = {status: seen.ended[stage, status] for status in ("ok", "abstain", "failed")}
        assert ended == reference["counts"][stage]
    assert server.asked.total() - len(server.asked) <= 2 * 3 * IN_FLIGHT


def _is_worker(process: psutil.Process) -> bool:
    words = process.info["cmdline"] or []
    return any("MapWorker(MapBatches(Worker))" in word for word in words)


def test_shards_may_each_have_a_server_of_their_own(reference: dict, tmp_path: Path) -> None:
    """`engine.revision` names what all servers serve, so their addresses are no part of a row."""
    from constitute.config import load_config
    from constitute.pipeline.merge import merge_runs

    folders = []
    with Answering() as one, Answering() as other, Answering() as third:
        for at in range(1, SHARDS + 1):
            shard = f"shard={at}/{SHARDS}"
            # The last shard spreads its requests over two endpoints.
            url, more = ((one.url, []), (other.url, []), (one.url, [f"engine.endpoints=['{third.url}']"]))[
                at - 1
            ]
            folders.append(tmp_path / str(at))
            WAYS["local"](config(url, folders[-1], shard, *more), PROMPTS, progress=Silent())
        assert one.asked and other.asked and third.asked
    merge_runs(folders, tmp_path / "run")
    assert dump(tmp_path / "run") == reference["rows"]
    assert load_config(tmp_path / "run" / "config.yaml").shard is None


def test_a_local_cluster_listens_on_this_machine_alone(cluster: str) -> None:
    listening = []
    for process in psutil.Process().children(recursive=True):
        # One may end while it is looked at.
        with suppress(psutil.NoSuchProcess):
            found = process.net_connections(kind="inet")
            listening += [(process.pid, each.laddr.ip) for each in found if each.status == psutil.CONN_LISTEN]
    assert listening, "the processes of the cluster listen to each other"
    assert {ip for _, ip in listening} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
