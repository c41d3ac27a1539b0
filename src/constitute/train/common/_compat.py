"""Every import from TRL, and the settings its libraries must see before they are imported."""

from __future__ import annotations

import os
import warnings
from typing import Any


def quiet() -> None:
    """Turn off the libraries' telemetry and progress bars. Call it before they are imported.

    TRL's trainers report each start to the Hub, and transformers draws bars over our own lines.
    """
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from datasets.utils.logging import disable_progress_bar
    from transformers.utils import logging

    logging.disable_progress_bar()
    disable_progress_bar()
    # One process without workers has no use for pinned memory, and says so at every start on a CPU.
    warnings.filterwarnings("ignore", message=".*pin_memory.*")


def sft_trainer() -> Any:
    """TRL's SFTTrainer and its configuration class."""
    quiet()
    from trl import SFTConfig, SFTTrainer

    return SFTTrainer, SFTConfig
