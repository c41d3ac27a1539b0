"""One run of generate → revise → label in a process of its own, to be killed.

`kill_child.py RUN LOG [MODEL]`: with the scripted model, or with the model folder MODEL in vLLM. Every
question is appended to LOG before it is asked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from scripted import ScriptedEngine, prompt, question_id

from constitute.config import load_config
from constitute.engines import open_engine
from constitute.engines.base import Engine, ModelIdentity
from constitute.pipeline import run_stages
from constitute.types import Choice, Completion, Request

ROWS = 200
ODD = {3: "[too long]", 50: "[cut]", 51: "[empty]", 120: "[unscored]", 121: "[no mass]", 199: "[cut]"}
STAGES = ["generate", "revise", "label"]


class Logged:
    """An engine whose questions are written down before they are asked."""

    def __init__(self, engine: Engine, log: Path) -> None:
        self._engine = engine
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.context_length = engine.context_length
        self.lacks = engine.lacks

    @property
    def identity(self) -> ModelIdentity:
        return self._engine.identity

    def rendered(self, request: Request) -> bytes:
        return self._engine.rendered(request)

    def prompt_ids(self, request: Request) -> tuple[int, ...] | None:
        return self._engine.prompt_ids(request)

    async def generate(self, request: Request) -> Completion:
        os.write(self._log, f"{question_id(request)}\n".encode())
        return await self._engine.generate(request)

    async def choose(self, request: Request, labels: Sequence[str], *, spelled: bool = False) -> Choice:
        os.write(self._log, f"{question_id(request, labels)}\n".encode())
        return await self._engine.choose(request, labels, spelled=spelled)

    async def close(self) -> None:
        await self._engine.close()


def main(run: str, log: str, model: str = "") -> None:
    constitution = Path(__file__).parent / "kill_constitution.yaml"
    sets = ["generate.n=2", "engine.in_flight=16", "label.principles=2", f"run={run}"]
    sets.append(f"constitution={constitution}")
    if not model:
        rows = [prompt(f"p{n}", ODD.get(n, "")) for n in range(ROWS)]
        scripted = ScriptedEngine(log=Path(log), delay_s=0.02)
        run_stages(load_config(None, sets), STAGES, prompts=rows, engine=scripted)
        return
    # A small model seldom ends its turn by itself and may say nothing of A and B.
    sets += ["generate.keep_truncated=true", "revise.keep_truncated=true", "label.min_mass=0"]
    sets += ["generate.max_tokens=24", "revise.max_tokens=24", "engine.kv_cache_gib=0.25"]
    config = load_config(None, [*sets, "engine.kind=vllm"])
    engine = Logged(open_engine(model, config.engine), Path(log))
    run_stages(config, STAGES, prompts=[prompt(f"p{n}") for n in range(60)], engine=engine)


if __name__ == "__main__":
    main(*sys.argv[1:])
