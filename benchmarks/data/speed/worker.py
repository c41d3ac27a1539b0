"""A side's process: reads the name of a side, does one run of it, and answers with one line of JSON.

Nothing of the toolkit is imported here, as peers run this in environments of their own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

Side = Callable[[], dict[str, Any]]


def serve(sides: Mapping[str, Side]) -> None:
    """Answer each line of stdin until it ends; whatever libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps({"ready": sorted(sides)}), file=answers, flush=True)
    for line in sys.stdin:
        started = time.time()
        try:
            found = sides[line.strip()]()
        except Exception as problem:
            import traceback

            traceback.print_exc()
            found = {"error": f"{type(problem).__name__}: {problem}"[:400]}
        found.setdefault("seconds", time.time() - started)
        print(json.dumps(found), file=answers, flush=True)
