"""The whole configuration of a run: the composition of every section."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from constitute.config.data import (
    ContrastConfig,
    ExportConfig,
    FilterConfig,
    GatesConfig,
    GenerateConfig,
    LabelConfig,
    ReadConfig,
    ReviseConfig,
)
from constitute.config.engine import EngineConfig
from constitute.config.evals import EvalsConfig
from constitute.config.prompts import WritePromptsConfig
from constitute.config.runner import RunnerConfig, Shard
from constitute.config.train import TrainConfig
from constitute.types import Record


class RunConfig(Record):
    """Everything one run depends on. `judge` labels pairs when it is not the model itself."""

    model: str | None = None
    judge: str | None = None
    constitution: str | None = None
    tags: tuple[str, ...] = Field(default=(), description="only the principles that have one of these tags")
    prompts: str | None = None
    run: Path = Path("run")
    reuse: Path | None = Field(default=None, description="run whose answers are used where they still hold")
    seed: int = Field(default=0, ge=0)
    limit: int | None = Field(default=None, ge=1)
    shard: Shard | None = Field(default=None, description="i/N: only every N-th prompt, from the i-th on")
    runner: RunnerConfig = RunnerConfig()
    chain: tuple[str, ...] = Field(
        default=("generate", "revise", "label"), description="the data stages in their order"
    )
    stages: dict[str, dict[str, Any]] = Field(
        default={}, description="settings of further stages of the chain, by the stage's name"
    )
    read: ReadConfig = ReadConfig()
    engine: EngineConfig = EngineConfig()
    generate: GenerateConfig = GenerateConfig()
    contrast: ContrastConfig = ContrastConfig()
    revise: ReviseConfig = ReviseConfig()
    filter: FilterConfig = FilterConfig()
    label: LabelConfig = LabelConfig()
    gates: GatesConfig = GatesConfig()
    export: ExportConfig = ExportConfig()
    train: TrainConfig = TrainConfig()
    evals: EvalsConfig = EvalsConfig()
    write_prompts: WritePromptsConfig = WritePromptsConfig()

    def with_stage(self, name: str) -> RunConfig:
        """The configuration with a stage of responses in its chain: as it is, else put before `label`."""
        if name in self.chain:
            return self
        at = self.chain.index("label") if "label" in self.chain else len(self.chain)
        return self.model_copy(update={"chain": (*self.chain[:at], name, *self.chain[at:])})
