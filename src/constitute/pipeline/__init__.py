"""The only driver of stages: rows in, every outcome on disk, depth first and resumable."""

from constitute.pipeline.chain import STAGES, run_chain
from constitute.pipeline.drive import Counts, drive
from constitute.pipeline.session import run_stages

__all__ = ["STAGES", "Counts", "drive", "run_chain", "run_stages"]
