"""Draw pairs to be reviewed: at random, or those about which the judge is least to be trusted."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from constitute.data.reviews import Item, add_items, read_items, reviews_folder
from constitute.errors import DataError, UsageError
from constitute.files import read_json, write_json
from constitute.store import Store
from constitute.types import Comparison, LabelledPair, Record

SAMPLE_FILE = "sample.json"
DEFAULT_N = 50


class Drawing(Record):
    """How the items of a run's reviews were drawn; it is the same for every annotator of the run."""

    sample: str = "random"
    seed: int = 0
    question: str = "Which answer is better?"


def _wanted_by_all(pair: LabelledPair) -> float | None:
    return 0.0


def _uncertain(pair: LabelledPair) -> float | None:
    return abs(2 * pair.label.p_a - 1)


def _flipped(pair: LabelledPair) -> float | None:
    return 0.0 if pair.label.flipped else None


def _disagreeing(pair: LabelledPair) -> float | None:
    sides = {vote.p_a > 0.5 for vote in pair.label.votes if vote.p_a != 0.5}
    return 0.0 if len(sides) == 2 else None


# Name -> the rank of a labelled pair, the least first; None for one that does not belong to the sample. Equal
# ranks are ordered by a hash of seed and id, so a larger sample holds the smaller one.
SAMPLES: dict[str, Callable[[LabelledPair], float | None]] = {
    "random": _wanted_by_all,
    "uncertain": _uncertain,
    "flips": _flipped,
    "disagree": _disagreeing,
}


def draw_labelled(pairs: Iterable[LabelledPair], drawing: Drawing, n: int) -> list[Item]:
    """The `n` pairs that the sample ranks first, as items."""
    rank = SAMPLES[drawing.sample]
    ranked = (
        (value, _hash(drawing.seed, pair.id), pair)
        for pair in pairs
        if pair.comparison.a != pair.comparison.b and (value := rank(pair)) is not None
    )
    found = heapq.nsmallest(n, ranked, key=lambda each: each[:2])
    return [item_of(pair.comparison) for _, _, pair in found]


def draw_pairs(pairs: Iterable[Comparison], drawing: Drawing, n: int) -> list[Item]:
    """`n` pairs of a file at random, as items. Raises `UsageError` for a sample that needs labels."""
    if drawing.sample != "random":
        raise UsageError(
            f"the sample {drawing.sample} ranks pairs by their labels, and pairs of a file have none; "
            "label them first, or leave --sample out"
        )
    ranked = ((_hash(drawing.seed, pair.id), pair) for pair in pairs if pair.a != pair.b)
    return [item_of(pair) for _, pair in heapq.nsmallest(n, ranked, key=lambda each: each[0])]


def item_of(pair: Comparison) -> Item:
    return Item(id=pair.id, messages=pair.prompt.messages, options=(pair.a, pair.b))


def labelled_pairs(store: Store) -> Iterator[LabelledPair]:
    """The labels of a run. Raises `DataError` for a stored row that is damaged."""
    for row in store.outcomes("label", "ok"):
        try:
            yield LabelledPair.model_validate(row.data)
        except ValidationError:
            raise DataError(f"{store.folder}: the stored row {row.row_id!r} is damaged; restore it") from None


def prepare(
    run: Path, drawing: Drawing, n: int | None, draw: Callable[[Drawing, int], list[Item]]
) -> tuple[Drawing, list[Item]]:
    """How items are drawn, and all under review, with more drawn where `n` asks for more than there are.

    Raises `UsageError` where the run's items were drawn otherwise, and where there is nothing to review.
    """
    items, path = read_items(run), reviews_folder(run) / SAMPLE_FILE
    if items and path.is_file():
        before = Drawing.model_validate(read_json(path))
        if before.model_copy(update={"question": drawing.question}) != drawing:
            raise UsageError(
                f"the items under review in {run} were drawn with --sample {before.sample} "
                f"--seed {before.seed}; give the same for every annotator, or review in another --run"
            )
        drawing = before
    else:
        write_json(path, drawing.model_dump(mode="json"))
    if n is None and items:
        return drawing, items
    known = {item.id for item in items}
    more = [item for item in draw(drawing, n or DEFAULT_N) if item.id not in known] if n != len(items) else []
    more = more[: max(0, (n or DEFAULT_N) - len(items))]
    add_items(run, more)
    if not items and not more:
        raise UsageError(f"no pair of {run} belongs to the sample {drawing.sample}; give another --sample")
    return drawing, [*items, *more]


def _hash(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"review:{seed}:{name}".encode()).digest()
