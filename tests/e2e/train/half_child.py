"""Small trainings whose passes are in float32, then in bfloat16, on a CPU: FOLDER CASE...

A process of its own, for a CPU that only claims to have bfloat16 dies of it. Each case trains into
FOLDER/<precision>/<case> and says in held.json what its weights were held in.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from accelerate.state import AcceleratorState
from e2e.train.sharded_child import END, PAIRS, PPO, CausalRollouts, ones, prepare
from train_models import tiny_causal

from constitute.config import RunConfig
from constitute.config.train import DPOConfig, PPOConfig, RewardConfig, SFTConfig
from constitute.progress import Silent
from constitute.train import dpo
from constitute.train.common import lora, precision, sharding
from constitute.train.common.batching import collate
from constitute.train.common.models import Actor
from constitute.train.dpo import train_dpo
from constitute.train.imitation import conditioned
from constitute.train.ppo import run as ppo
from constitute.train.reward import train as reward
from constitute.train.reward.train import train_reward
from constitute.train.sft import train_sft
from constitute.types import Message, Prompt

SFT = {"epochs": 4, "batch_size": 4, "learning_rate": 1e-3}


def held(model) -> dict[str, list[str]]:
    """The types of the weights that learn and of the others."""
    kinds = {"learns": set(), "frozen": set()}
    for weight in model.parameters():
        kinds["learns" if weight.requires_grad else "frozen"].add(str(weight.dtype).removeprefix("torch."))
    return {name: sorted(found) for name, found in kinds.items()}


def watched(module, name, seen) -> None:
    """Have `seen` keep what `module.name` returns."""
    original = getattr(module, name)
    original = getattr(original, "unwatched", original)

    def wrapper(*arguments, **named):
        found = original(*arguments, **named)
        seen.append(found)
        return found

    wrapper.unwatched = original
    setattr(module, name, wrapper)


def train_policy(folder: Path, out: Path, changes) -> None:
    """PPO on the one prompt there is."""
    prompt = Prompt(id="only", messages=(Message(role="user", content="x"),))
    start = folder / "start"
    ppo.train_ppo(
        [prompt], [[END]], str(start), ones, out, PPOConfig(**PPO | changes),
        engine=CausalRollouts(start, {END}), seed=0, progress=Silent(),
    )  # fmt: skip


def run(folder: Path, case: str, out: Path) -> dict[str, list[str]]:
    """Train one case; returns what its weights were held in."""
    pairs, start, seen = folder / "pairs.jsonl", str(folder / "start"), []
    kind, _, how = case.partition("_")
    rank = 2 if how == "lora" else 0
    if kind == "reward":
        watched(reward, "open_network", seen)
        train_reward(pairs, start, out, RewardConfig(**PAIRS, lora_rank=rank), seed=0, progress=Silent())
        return held(seen[0][0])
    if kind == "dpo":
        watched(dpo, "open_actor", seen)
        train_dpo(pairs, start, out, DPOConfig(**PAIRS, lora_rank=rank), seed=0, progress=Silent())
        return held(seen[0].model)
    if kind == "sft":
        train_sft(
            folder / "chats.jsonl", start, out, SFTConfig(**SFT, lora_rank=rank), seed=0, progress=Silent()
        )
        return {}
    if kind == "conditioned":
        watched(conditioned, "start_actor", seen)
        settings = PAIRS | {"lora_rank": rank, "held_out": 0.4}
        config = RunConfig(run=out / "run", train={"conditioned": settings})
        conditioned.run_conditioned(config, data=pairs, model=start, out=out, force=True)
        return held(seen[0][0].model)
    watched(ppo, "set_up", seen)
    train_policy(folder, out, {"lora_rank": rank, "learning_rate": 3e-3})
    return held(seen[0].learner.model)


def copies(half: bool, rank: int) -> dict[str, float]:
    """Bytes of bfloat16 weights that a forward pass of a sharded actor leaves for its backward, and of all.

    `half` says whether weights are gathered in bfloat16; with adapters of `rank` the base is held so.
    """
    torch.manual_seed(0)
    model = tiny_causal(vocab=64, width=64, layers=4)
    if rank:
        lora.add_adapter(model.to(torch.bfloat16), lora.POLICY, rank)
    shapes = {weight.shape for weight in model.parameters() if weight.dim() == 2}
    size = sum(weight.numel() for weight in model.parameters()) * 2
    actor = Actor(model)
    plan = sharding.Sharding(sharding._mesh("cpu"), True, half)
    sharding.shard_actor(plan, actor)
    kept = {}

    def keep(tensor):
        if tensor.dtype == torch.bfloat16 and (tensor.shape in shapes or tensor.shape[::-1] in shapes):
            kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    batch = collate([[1, 2, 3, 4, 5]] * 3, [2] * 3, 0, torch.device("cpu"))
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with torch.autocast("cpu", dtype=torch.bfloat16), hooks:
        logprobs_N, _ = actor(batch, 1.0)
    # Of a gathered weight that was freed the storage is empty.
    held = sum(storage.nbytes() for storage in kept.values())
    logprobs_N.sum().backward()
    types = {weight.grad.dtype for weight in model.parameters() if weight.grad is not None}
    assert types == {torch.float32}, types
    return {"held": held, "model": size, "mean": logprobs_N.mean().item()}


def planned(folder: Path) -> dict[str, list[int]]:
    """Planned bytes of an update and those PyTorch held, under adapters with a base in bfloat16."""
    from unit.train.plan import test_plan as plan

    model = folder / "planned"
    tiny_causal(512, **plan.SIZE).save_pretrained(model)
    found = {}
    for name, changes, critic in (
        ("rloo", {"advantage": "rloo", "samples_per_prompt": 2, "lora_rank": 8}, False),
        ("gae", {"lora_rank": 8}, True),
    ):
        config = plan.settings(model, rewards=[{"source": "a:f"}], **changes)
        (one,) = plan.plan_training(config, ["ppo"], str(model), plan.Gpu(plan.GIB), prompt=plan.PROMPT)
        extra = next(part.bytes for part in one.parts if part.name == "CUDA and fragments")
        held = plan.measured(config.train.ppo, critic, torch.bfloat16)
        found[name] = [one.phases["update"] - extra, held]
    return found


def main(folder: Path, name: str, cases: list[str]) -> None:
    """All cases in one precision."""
    if not (folder / "start").exists():
        prepare(folder)
    precision.half = lambda: name == "bfloat16"
    for case in cases:
        # accelerate keeps the first precision of a process for good.
        AcceleratorState._reset_state(reset_partial_state=True)
        out = folder / name / case
        if case in ("sharded", "planned") and name == "float32":
            continue
        if case == "sharded":
            torch.distributed.init_process_group(
                "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
            )
            found = {"plain": copies(False, 0), "mixed": copies(True, 0), "adapters": copies(True, 2)}
            torch.distributed.destroy_process_group()
        elif case == "planned":
            found = planned(folder)
        else:
            found = run(folder, case, out)
        out.mkdir(parents=True, exist_ok=True)
        (out / "held.json").write_text(json.dumps(found))


if __name__ == "__main__":
    for kind in ("float32", "bfloat16"):
        main(Path(sys.argv[1]), kind, sys.argv[2:])
