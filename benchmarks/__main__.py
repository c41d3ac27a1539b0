"""Run every benchmark, or those named: `python -m benchmarks [pipeline ...]`."""

from __future__ import annotations

import sys
from importlib import import_module

BENCHMARKS = ("pipeline",)


def main(names: list[str]) -> None:
    """Run the benchmarks in turn; each prints its own table."""
    for name in names or BENCHMARKS:
        if name not in BENCHMARKS:
            sys.exit(f"no such benchmark: {name!r}; known: {', '.join(BENCHMARKS)}")
        import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main(sys.argv[1:])
