"""Trainings of a tiny sharded model, each on some processes forked here: FOLDER PHASE...

The phase `2:6` trains on two processes up to step 6 and goes on from the checkpoint there is; `2:6!` kills
the first of them when all parts of the last checkpoint are written and it has no
name yet. 0 processes are one
without a group.
"""

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path

import torch
from torch import nn

from constitute.train.common import checkpoint, sharding, shards

MADE_BY = {"kind": "test", "config": {}, "seed": 0, "inputs": {}}


def model_of() -> nn.Module:
    torch.manual_seed(0)
    # Seven rows do not divide by two.
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3, bias=False))


def train(folder: Path, rank: int, size: int, steps: int, dies: bool) -> None:
    model = model_of()
    if size:
        store = torch.distributed.FileStore(str(folder / f"store-{os.getppid()}-{steps}"), size)
        torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=size)
        plan = sharding.Sharding(sharding._mesh("cpu"), True)
        for part in (model[0], model[2]):
            sharding._shard(plan, part, False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: 1 / (1 + done))
    saved = folder / "checkpoints"
    last = checkpoint.last_checkpoint(saved, MADE_BY)
    done = 0 if last is None else checkpoint.load_checkpoint(last, model, optimizer, scheduler)["iteration"]
    for step in range(done, steps):
        rows = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
        own = rows[rank :: size or 1]
        model(own).square().sum().backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        if step % 2:
            if dies and step + 1 == steps:
                shards.begin = partial(_dying, shards.begin)
            # The best is the second.
            state = {"made_by": MADE_BY, "objective": -abs(step - 1.0)}
            checkpoint.save_checkpoint(saved, step + 1, model, optimizer, scheduler, state, keep=2)
    checkpoint.settle()
    whole = {name: sharding.whole(tensor.detach()) for name, tensor in model.state_dict().items()}
    if rank == 0:
        torch.save(whole, folder / f"weights-{steps}.pt")
        (folder / "started.json").write_text(json.dumps(done))
    if size:
        torch.distributed.barrier()


def _dying(begin, place, parts, complete):
    return begin(place, parts, complete and die)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def phase(folder: Path, text: str) -> None:
    """Fork the processes of one phase and wait; one that is left by a killed one is killed, too."""
    size, _, steps = text.removesuffix("!").partition(":")
    children = []
    for rank in range(max(1, int(size))):
        child = os.fork()
        if not child:
            try:
                train(folder, rank, int(size), int(steps), text.endswith("!"))
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    ended = [os.waitpid(children[0], 0)[1]]
    for child in children[1:]:
        if text.endswith("!"):
            os.kill(child, signal.SIGKILL)
        ended.append(os.waitpid(child, 0)[1])
    killed = all(os.WIFSIGNALED(status) for status in ended)
    if not (killed if text.endswith("!") else not any(ended)):
        sys.exit(f"phase {text} ended with {ended}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for one in sys.argv[2:]:
        phase(Path(sys.argv[1]), one)
