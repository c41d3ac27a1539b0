"""Run the data stages on a Ray cluster: `ray.data` hands batches of prompts to actors with one engine each.

Deviates from a plain `ray.data` pipeline in one point: what the actors learn goes to the run directory, not
into the data set, and only the counts come back. So nothing is lost with a driver, and a batch that is handed
to another actor goes on from what its first one had acknowledged.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from constitute import errors
from constitute.config import RayConfig, RunConfig
from constitute.constitution.read import load_constitution
from constitute.engines import named_model
from constitute.engines.base import Engine
from constitute.errors import StorageError, UsageError
from constitute.pipeline import Counts
from constitute.pipeline.budget import Limits
from constitute.pipeline.chain import expected_rows
from constitute.pipeline.plan import Plan, check_claims, plan_chain
from constitute.pipeline.session import dated, open_store, sharded
from constitute.pipeline.shards import Part, distinct
from constitute.progress import Progress
from constitute.runners import local
from constitute.runners.ray.worker import Worker
from constitute.runners.ray.writer import Writer
from constitute.types import Prompt
from constitute.urls import is_url

# Nothing is reported, and what starts here listens on this machine alone, to whoever knows a secret.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_DEDUP_LOGS": "0"}
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
_POLL_S = 0.25


def run(
    config: RunConfig,
    prompts: Iterable[Prompt],
    *,
    progress: Progress,
    limits: Limits | None = None,
    opened: Callable[[], Engine] | None = None,
) -> dict[str, Counts]:
    """As `Runner`; everything that can be refused without a model is refused before a cluster is asked."""
    named_model(config.model)
    limits = limits or Limits()
    limits.check()
    prompts = list(prompts)
    config, part, plan, expected = _checked(config, prompts, progress)
    rows = prompts[: config.limit] if part is None else part.rows
    places = range(len(rows)) if part is None else part.places
    if not rows:
        # A shard without prompts: what it was made with is noted all the same.
        return local.run(config, prompts, progress=progress, limits=limits)
    size = config.runner.ray.prompts
    jobs = [
        json.dumps([(places[at], rows[at].model_dump(mode="json")) for at in range(start, stop)])
        for start in range(0, len(rows), size)
        for stop in (min(start + size, len(rows)),)
    ]
    with cluster(config.runner.ray, progress) as ray:
        writer = _on_this_machine(ray, Writer).remote(config, len(rows), part)
        with _stopping(ray, writer, config) as whole:
            before = _told(ray, writer.open.remote(limits))
            with _shown(ray, writer, expected, before, progress):
                counts = _drive(ray, config, limits, writer, jobs)
            whole.append(True)
    return {stage: Counts(stage=stage, **counts[stage]) for stage in plan.steps}


def _checked(
    config: RunConfig, prompts: Sequence[Prompt], progress: Progress
) -> tuple[RunConfig, Part | None, Plan, dict[str, int | None]]:
    """The configuration with its day, this run's shard, the plan and the rows of its stages, checked."""
    for _ in distinct(prompts):
        pass
    constitution = load_constitution(config.constitution, config.tags) if config.constitution else None
    with open_store(config, progress) as store:
        part = sharded(config, config.chain, store, prompts)
        plan = plan_chain(config, constitution, config.chain, store, prompts=prompts)
        check_claims(plan, store)
        total = len(prompts if part is None else part.rows)
        expected = {stage: expected_rows(stage, plan, total, store) for stage in plan.steps}
    return dated(config), part, plan, expected


@contextmanager
def cluster(settings: RayConfig, progress: Progress) -> Iterator[Any]:
    """`ray`, connected: to the cluster of this process, to the one at `address`, or to a new one here."""
    _require_there(settings.address)
    os.environ.update(_QUIET)
    joins = settings.address is not None
    if not joins and "ray" not in sys.modules:
        # Ray reads these when it is imported.
        os.environ.update(_LOOPBACK)
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
        import ray.data
    except ImportError:
        raise UsageError(
            "--on ray needs the package ray; pip install 'constitute[ray]', or leave --on out"
        ) from None
    if ray.is_initialized():
        yield ray
        return
    if not joins and any(os.environ.get(name) != value for name, value in _LOOPBACK.items()):
        said = " ".join(f"{name}={value}" for name, value in _LOOPBACK.items())
        raise UsageError(
            f"ray was imported before it could be told to listen on this machine alone; set {said} and a "
            "RAY_AUTH_TOKEN before that, or start a cluster with ray.init()"
        )
    where = settings.address or "this machine"
    with progress.waiting(f"joining the Ray cluster of {where} (one that starts here takes ten seconds)"):
        try:
            if settings.address is None:
                ray.init(
                    include_dashboard=False,
                    num_cpus=(settings.actors or 1) + 1,
                    object_store_memory=settings.object_store_mib << 20,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                )
            else:
                ray.init(address=settings.address, logging_level=logging.ERROR, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as problem:
            first = str(problem).strip().split("\n")[0]
            raise UsageError(
                f"no Ray cluster at {where} ({first}); start one with `ray start --head`, or leave "
                "runner.ray.address out"
            ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_there(address: str | None) -> None:
    """Raise `UsageError` where nobody listens at `host:port`, which Ray would wait for for many minutes."""
    host, colon, port = (address or "").rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as problem:
        raise UsageError(
            f"no Ray cluster at {address} ({problem}); start one with `ray start --head`, or leave "
            "runner.ray.address out"
        ) from None


def _on_this_machine(ray: Any, actor: type) -> Any:
    """The class as an actor that needs no CPU of its own, on the driver's machine, where the run lies."""
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    return ray.remote(actor).options(num_cpus=0, max_restarts=0, scheduling_strategy=here)


def _told(ray: Any, message: Any) -> Any:
    """What the writer returns, or what it raised itself, without Ray's words around it."""
    try:
        return ray.get(message)
    except ray.exceptions.RayTaskError as problem:
        raise problem.cause if isinstance(problem.cause, errors.ConstituteError) else problem from None


@contextmanager
def _stopping(ray: Any, writer: Any, config: RunConfig) -> Iterator[list[bool]]:
    """Close the run after the block, as whole where the list that is given holds something."""
    from ray.exceptions import RayActorError

    whole: list[bool] = []
    try:
        yield whole
    except RayActorError as problem:
        raise StorageError(
            f"the process that writes {config.run} is gone ({str(problem).strip().splitlines()[0]}); "
            "everything acknowledged is kept, and the same command goes on"
        ) from None
    finally:
        with suppress(RayActorError):
            ray.get(writer.close.remote(bool(whole)))
        ray.kill(writer)


@contextmanager
def _shown(
    ray: Any,
    writer: Any,
    expected: Mapping[str, int | None],
    before: Mapping[str, int],
    progress: Progress,
) -> Iterator[None]:
    """Show what the workers tell, while the block runs and up to the last word."""
    from ray.exceptions import RayActorError

    for stage in expected:
        progress.start(stage, expected[stage], before[stage])
    over = threading.Event()

    def show() -> None:
        last = False
        while not last:
            last = over.wait(_POLL_S)
            try:
                events = ray.get(writer.events.remote())
            except RayActorError:
                return
            for what, stage, value in events:
                if what == "advance":
                    progress.advance(stage, value)
                elif what == "tokens":
                    progress.tokens(stage, value)
                else:
                    progress.note(value)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    for stage in expected:
        progress.finish(stage)


def _drive(
    ray: Any, config: RunConfig, limits: Limits, writer: Any, jobs: Sequence[str]
) -> dict[str, Counter[str]]:
    """Hand the jobs to the actors and add up how their rows ended. Raises what stopped a worker."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    gpus = _gpus(ray, config)
    at_once = 1 + -(-config.engine.in_flight // (config.runner.ray.prompts * config.generate.n))
    pool = ray.data.ActorPoolStrategy(
        size=_actors(ray, config, gpus),
        max_tasks_in_flight_per_actor=at_once + 1,
        max_concurrent_calls_per_actor=at_once,
        enable_true_multi_threading=True,
    )
    made = {"config": config, "limits": limits, "writer": writer}
    counts: dict[str, Counter[str]] = {stage: Counter() for stage in config.chain}
    done = ray.data.from_items([{"job": job} for job in jobs], override_num_blocks=len(jobs)).map_batches(
        Worker, batch_size=None, compute=pool, fn_constructor_kwargs=made, num_gpus=gpus or None, num_cpus=1
    )
    for batch in done.iter_batches(batch_size=None, prefetch_batches=0):
        for text in batch["done"]:
            found = json.loads(str(text))
            if "error" in found:
                raise getattr(errors, found["error"])(found["said"])
            for stage, count in found["counts"].items():
                counts[stage].update({name: n for name, n in count.items() if name != "stage"})
    return counts


def _gpus(ray: Any, config: RunConfig) -> float:
    """GPUs of an actor."""
    if config.runner.ray.num_gpus is not None:
        return config.runner.ray.num_gpus
    if is_url(str(config.model)) or not ray.cluster_resources().get("GPU", 0):
        return 0
    return config.engine.tensor_parallel


def _actors(ray: Any, config: RunConfig, gpus: float) -> int:
    """The number of actors, as many as the GPUs serve where it is not set."""
    if config.runner.ray.actors is not None:
        return config.runner.ray.actors
    return max(1, int(ray.cluster_resources().get("GPU", 0) // gpus)) if gpus else 1
