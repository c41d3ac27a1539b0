"""Configuration: one YAML file, checked key by key, with `--set a.b=c` on top."""

from constitute.config.evals import EvalsConfig
from constitute.config.load import load_config
from constitute.config.run import RunConfig
from constitute.config.stages import EngineConfig, ExportConfig, GenerateConfig, LabelConfig, ReviseConfig
from constitute.config.train import BestOfNConfig, DPOConfig, PPOConfig, RewardConfig, SFTConfig, TrainConfig

__all__ = [
    "BestOfNConfig",
    "DPOConfig",
    "EngineConfig",
    "EvalsConfig",
    "ExportConfig",
    "GenerateConfig",
    "LabelConfig",
    "PPOConfig",
    "ReviseConfig",
    "RewardConfig",
    "RunConfig",
    "SFTConfig",
    "TrainConfig",
    "load_config",
]
