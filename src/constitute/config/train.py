"""Settings of every trainer, put together; each default names where it comes from."""

from __future__ import annotations

from constitute.config.best_of_n import BestOfNConfig
from constitute.config.dpo import DPOConfig
from constitute.config.ppo import PPOConfig
from constitute.config.reward import RewardConfig
from constitute.config.sft import SFTConfig
from constitute.types import Record

__all__ = ["BestOfNConfig", "DPOConfig", "PPOConfig", "RewardConfig", "SFTConfig", "TrainConfig"]


class TrainConfig(Record):
    """Settings of the trainers."""

    sft: SFTConfig = SFTConfig()
    reward: RewardConfig = RewardConfig()
    dpo: DPOConfig = DPOConfig()
    best_of_n: BestOfNConfig = BestOfNConfig()
    ppo: PPOConfig = PPOConfig()
