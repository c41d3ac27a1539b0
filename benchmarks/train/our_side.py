"""One run of constitute's PPO: `our_side.py TASK SETTING.json`."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from constitute.progress import Silent

os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}


class Clock(Silent):
    """Notes when training starts and when each update ends, all that stands between included."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.cpu: list[float] = []

    def start(self, stage: str, total: int | None = None, done: int = 0) -> None:
        self.advance(stage)

    def advance(self, stage: str, status: str = "ok", **figures: float) -> None:
        self.times.append(time.perf_counter())
        self.cpu.append(time.process_time())


def main(task: Path, setting: dict[str, object]) -> None:
    """Train and print one JSON line: seconds by update and phase, peak memory, rewards, the floor's parts."""
    from constitute.config import EngineConfig, PPOConfig
    from constitute.engines import open_engine
    from constitute.train.ppo.run import train_ppo
    from constitute.types import Message, Prompt, SamplingParams

    policy = str(task / str(setting["policy"]))
    ids = json.loads((task / "prompts.json").read_text())[str(setting["policy"])]
    prompts = [Prompt(id=str(row), messages=(Message(role="user", content="-"),)) for row in range(len(ids))]
    engine = open_engine(policy, EngineConfig(kind=str(setting["engine"]), kv_cache_gib=0.25, in_flight=256))
    batch = int(setting["batch"])
    raw = []
    # What the engine alone needs for a batch; the first two warm it up.
    lengths = []
    for turn in range(4):
        sampling = SamplingParams(max_tokens=int(setting["new_tokens"]), seed=turn)
        # Other prompts each time: none is in the prefix cache.
        asked = ids[turn * batch : (turn + 1) * batch]
        start = time.perf_counter()
        done = engine.generate_ids(asked, sampling, logprobs=False)
        raw.append(time.perf_counter() - start)
        lengths += [len(completion.token_ids) for completion in done]
    config = PPOConfig(
        iterations=int(setting["updates"]), batch_size=batch, epochs=int(setting["epochs"]),
        max_new_tokens=int(setting["new_tokens"]), critic=setting["critic"], kl_coef=0.05,
        learning_rate=float(setting["rate"]), critic_learning_rate=float(setting["rate"]),
        schedule="constant",
        missing_eos_penalty=None, microbatch_tokens=int(setting["tokens"]), checkpoint_every=10**6,
        samples_kept=0, old_logprobs=setting.get("old_logprobs", "trainer"),
        graph_tokens=int(setting.get("graph_tokens", 0)),
        # TRL 1.12 clips no gradient.
        max_grad_norm=1e9,
    )  # fmt: skip
    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        train_ppo(
            prompts, ids, policy, str(task / "reward"), Path(scratch) / "out", config, engine=engine,
            seed=int(setting["seed"]), progress=clock,
        )  # fmt: skip
        lines = [
            json.loads(line) for line in (Path(scratch) / "out" / "metrics.jsonl").read_text().splitlines()
        ]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    result = {
        "seconds": [end - begin for begin, end in pairwise(clock.times)],
        "cpu": [end - begin for begin, end in pairwise(clock.cpu)],
        "phases": {name: [line["seconds"][name] for line in lines] for name in lines[0]["seconds"]},
        "peak_gib": peak,
        "rewards": [line["reward"] for line in lines],
        "raw_generate": min(raw[2:]),
        "prompt": len(ids[0]),
        # Of all the batches that the engine was asked for alone.
        "lengths": lengths,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
