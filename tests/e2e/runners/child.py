"""One run of one runner in a process of its own, to be killed: `child.py WAY RUN URL [KEY=VALUE …]`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

from serving import PROMPTS, WAYS, config

from constitute.progress import Silent

if __name__ == "__main__":
    way, run, url, *sets = sys.argv[1:]
    WAYS[way](config(url, Path(run), *sets), PROMPTS, progress=Silent())
