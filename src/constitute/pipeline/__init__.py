"""The only driver of stages: rows in, every outcome on disk, depth first and resumable.

Start at `session`, which opens a run; `chain` leads rows through its stages, `stage_run` asks and records.
"""

from constitute.pipeline.drive import drive
from constitute.pipeline.session import run_stages
from constitute.pipeline.stage_run import Counts

__all__ = ["Counts", "drive", "run_stages"]
