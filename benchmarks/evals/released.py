"""Sets of anthropics/evals as they were released: what `constitute evals check` finds, and the known copies.

    python -m benchmarks evals.released [--data FOLDER]

FOLDER holds `persona` and `advanced-ai-risk/{lm,human,few-shot}` of anthropics/evals. `all pairs` counts near
copies by comparing every item with every earlier one, without MinHash; `planted` are copies that were put in.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from constitute.cli.text import table
from constitute.config import RunConfig, load_config
from constitute.evals.check import CheckedSet, check_files
from constitute.evals.quality.base import Checked, parts_of, unordered
from constitute.evals.select import fold, near_texts
from constitute.stats import share_of
from constitute.types import EvalItem

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "model-written-evals"
_RUN = 5
# Copies as counted with other tools from the same files: exact, folded, near, and leaks of few-shot examples.
KNOWN: dict[str, dict[str, int]] = {
    "lm/myopic-reward": {"exact": 176, "near": 243, "leaks": 228},
    "lm/survival-instinct": {"leaks": 62},
    "human/myopic-reward": {"near": 155},
    "persona/subscribes-to-Islam": {"folded": 47},
}


def files_of(data: Path) -> dict[str, Path]:
    """The sets in the folder, by kind and name."""
    folders = {"persona": "persona", "lm": "advanced-ai-risk/lm", "human": "advanced-ai-risk/human"}
    return {
        f"{kind}/{path.stem}": path
        for kind, folder in folders.items()
        for path in sorted((data / folder).glob("*.jsonl"))
    }


def examples_of(name: str, data: Path) -> list[Path]:
    """The few-shot examples that the set's writer was shown, where they are known."""
    kind, stem = name.split("/")
    path = data / "advanced-ai-risk" / "few-shot" / f"{stem}.jsonl"
    return [path] if kind != "persona" and path.is_file() else []


def all_pairs_near(items: Sequence[EvalItem], threshold: float) -> set[str]:
    """Ids of items nearly the same as an earlier one that was kept, by comparing each with all."""
    kept: defaultdict[str, list[int]] = defaultdict(list)
    sizes: list[int] = []
    seen, found = set[str](), set[str]()
    for part in map(parts_of, items):
        text, key = fold(part.said), unordered(part)
        runs = {text[at : at + _RUN] for at in range(max(1, len(text) - _RUN + 1))}
        shared = Counter(at for run in runs for at in kept.get(run, ()))
        near = (both >= threshold * (len(runs) + sizes[at] - both) - 1e-9 for at, both in shared.items())
        if key in seen or any(near):
            found.add(part.item.id)
            continue
        seen.add(key)
        for run in runs:
            kept[run].append(len(sizes))
        sizes.append(len(runs))
    return found


def check_one(config: RunConfig, path: Path, shown: Sequence[Path], fix: Path | None = None) -> CheckedSet:
    """What the checks find in a file, or in what is left of it once mended."""
    (one,) = check_files(config, [path], examples=shown, fix=fix)
    return one


def _counts(checked: Checked, *names: str) -> list[int | None]:
    """Figures as counts; None for one that the check did not take."""
    figures = {one.name: one.estimate for one in checked.figures}
    return [
        round((figures[name].value or 0) * figures[name].n) if name in figures else None for name in names
    ]


def furthest(checked: Checked) -> str:
    """The rule that scores furthest from chance, with its share."""
    one = max(checked.figures, key=lambda m: abs((m.estimate.value or 0) - (m.chance or 0)))
    return f"{one.name} {one.estimate.text(2)}"


def set_row(one: CheckedSet, left: int) -> tuple[object, ...]:
    """A line of the first table: what is wrong with a set, and how many items stay when it is mended."""
    by_name = {found.check: found for found in one.checks}
    words = next(m for m in by_name["words"].figures if m.name == "words without content")
    return (
        one.name[:40], len(one.items), "even" if by_name["labels"].ok else "uneven",
        len(by_name["conflicts"].items), *_counts(by_name["duplicates"], "exact", "folded", "near"),
        *_counts(by_name["leaks"], "asks what an example asks"),
        furthest(by_name["cues"]), words.estimate.text(2), left,
    )  # fmt: skip


def planted(items: Sequence[EvalItem], threshold: float) -> tuple[int, int, int]:
    """Of 100 unlike items, copied with other case and punctuation: copies found, put in, and false alarms."""
    seen = near_texts(threshold)
    unlike = [item for item in items if seen.like(item.id, parts_of(item).said) is None][:100]
    finder, wrong, found = near_texts(threshold), 0, 0
    for item in unlike:
        wrong += finder.like(item.id, parts_of(item).said) is not None
    for item in unlike:
        found += finder.like(f"copy of {item.id}", parts_of(item).said.upper() + "!") == item.id
    return found, len(unlike), wrong


def main(arguments: Sequence[str]) -> None:
    """Print what is in each set, then the finders beside known copies."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks evals.released")
    parser.add_argument("--data", type=Path, default=DATA)
    given = parser.parse_args(arguments)
    files = files_of(given.data)
    if not files:
        sys.exit(f"{given.data} holds no sets of anthropics/evals; give their folder with --data")
    sets: list[tuple[object, ...]] = []
    finders: list[tuple[object, ...]] = []
    ours = every = 0
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(None, [], {"run": Path(folder) / "run"})
        threshold = config.evals.near_duplicate
        for name, path in files.items():
            shown = examples_of(name, given.data)
            one = check_one(config, path, shown)
            sets.append(
                (name.split("/")[0], *set_row(one, len(check_one(config, path, shown, Path(folder)).items)))
            )
            near = next(set(found.items) for found in one.checks if found.check == "duplicates")
            pairs = all_pairs_near(one.items, threshold)
            ours, every = ours + len(near & pairs), every + len(pairs)
            plant, put, wrong = planted(one.items, threshold)
            known = ", ".join(f"{key} {number}" for key, number in KNOWN.get(name, {}).items())
            finders.append(
                (name[:40], len(pairs), len(near), len(near & pairs), f"{plant} of {put}", wrong, known)
            )
    head = ("kind", "set", "items", "labels", "conflicts", "exact", "folded", "near", "leaks")
    print(table((*head, "rule furthest from chance", "words without content", "left"), sets))
    beside = ("set", "near, all pairs", "near, ours", "both", "planted found", "false alarms", "known")
    print(f"\n{table(beside, finders)}")
    print(f"near copies found of those that comparing all pairs finds: {share_of(ours, every).text()}")
