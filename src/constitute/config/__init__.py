"""What can be set, and to what: run.yaml checked key by key, with `--set a.b=c` on top.

Start at `run`, which holds every section; `load` reads the file.
"""

from constitute.config.data import (
    ContrastConfig,
    ExportConfig,
    FilterConfig,
    GatesConfig,
    GenerateConfig,
    LabelConfig,
    ReviseConfig,
)
from constitute.config.engine import EngineConfig
from constitute.config.evals import EvalsConfig
from constitute.config.load import load_config
from constitute.config.run import RunConfig
from constitute.config.runner import RayConfig, RunnerConfig, Shard
from constitute.config.train import BestOfNConfig, DPOConfig, PPOConfig, RewardConfig, SFTConfig, TrainConfig

__all__ = [
    "BestOfNConfig",
    "ContrastConfig",
    "DPOConfig",
    "EngineConfig",
    "EvalsConfig",
    "ExportConfig",
    "FilterConfig",
    "GatesConfig",
    "GenerateConfig",
    "LabelConfig",
    "PPOConfig",
    "RayConfig",
    "ReviseConfig",
    "RewardConfig",
    "RunConfig",
    "RunnerConfig",
    "SFTConfig",
    "Shard",
    "TrainConfig",
    "load_config",
]
