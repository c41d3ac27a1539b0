"""The JSONL of anthropics/evals, byte for byte as the released files are (arXiv 2212.09251)."""

from __future__ import annotations

from constitute.evals.exports.base import SetFormat
from constitute.evals.items import dump_items

FORMAT = SetFormat(
    about="JSONL of anthropics/evals",
    files=lambda name, items: {f"{name}.jsonl": dump_items(items)},
    command="constitute evals run --model MODEL {out}/{name}.jsonl",
)
