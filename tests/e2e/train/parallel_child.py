"""One process of a parallel PPO run on the enumerable task: FOLDER BATCH ITERATIONS [die-in-PHASE]."""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from train_models import CausalRollouts

from constitute.config.train import PPOConfig
from constitute.errors import ConstituteError
from constitute.progress import Silent
from constitute.train.ppo import run as ppo
from constitute.train.ppo import update
from constitute.types import Message, Prompt

END = 2


def ones(prompts, completions):
    """The number of tokens 1."""
    return [float(completion.token_ids.count(1)) for completion in completions]


def die(*_, **__):
    """What a machine that loses power does."""
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder: str, batch: str, iterations: str, death: str = "") -> None:
    """Train in `folder`; process 1 dies in its first update where asked to."""
    main_process = os.environ.get("RANK", "0") == "0"
    if death and not main_process:
        update._accumulate = die
    config = PPOConfig(
        iterations=int(iterations), batch_size=int(batch), epochs=2, max_new_tokens=3, kl_coef=0.5,
        learning_rate=3e-3, critic_learning_rate=1e-2, missing_eos_penalty=None, microbatch_tokens=64,
        checkpoint_every=1000,
    )  # fmt: skip
    start = Path(folder) / "start"
    prompt = Prompt(id="only", messages=(Message(role="user", content="x"),))
    try:
        ppo.train_ppo(
            [prompt] if main_process else [], [[END]] if main_process else [], str(start), ones,
            Path(folder) / "out", config, engine=CausalRollouts(start, {END}) if main_process else None,
            seed=0, progress=Silent(),
        )  # fmt: skip
    except ConstituteError as problem:
        print(f"stopped: {problem}", file=sys.stderr, flush=True)
        sys.exit(5)


def reward(folder: str) -> None:
    """Train a reward model on FOLDER/pairs.jsonl."""
    from constitute.config.train import RewardConfig
    from constitute.train.reward.train import train_reward

    config = RewardConfig(batch_size=5, epochs=2, learning_rate=1e-3, microbatch_tokens=64, held_out=0.0)
    start, out = str(Path(folder) / "start"), Path(folder) / "out"
    train_reward(Path(folder) / "pairs.jsonl", start, out, config, seed=0, progress=Silent())


if __name__ == "__main__":
    if sys.argv[2] == "reward":
        reward(sys.argv[1])
    else:
        main(*sys.argv[1:])
