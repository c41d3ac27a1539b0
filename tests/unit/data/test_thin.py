"""Near-duplicates against comparing every pair, and pairs matched in length, on rows counted by hand."""

from __future__ import annotations

import random
from typing import Any

import pytest

from constitute.data.thin import NearDuplicates, bands, text_of, unmatched
from constitute.stages.filters.base import grams, words


def jaccard(one: str, other: str) -> float:
    a, b = (set(grams(words(text), 5)) for text in (one, other))
    return len(a & b) / len(a | b)


def test_a_near_duplicate_names_the_row_that_stays() -> None:
    text = " ".join(f"w{n}" for n in range(24))  # 20 runs of five words
    near = text + " more"  # 21 runs, 20 of them shared
    assert jaccard(text, near) == 20 / 21
    seen = NearDuplicates(0.95)
    assert [seen.like("a", text), seen.like("b", near), seen.like("c", text)] == [None, "a", "a"]
    strict = NearDuplicates(0.96)
    assert [strict.like("a", text), strict.like("b", near), strict.like("c", near)] == [None, None, "b"]


def test_short_and_empty_texts() -> None:
    seen = NearDuplicates(0.8)
    assert [seen.like("a", "Ask her."), seen.like("b", "ask HER"), seen.like("c", "Ask him.")] == [
        None,
        "a",
        None,
    ]
    assert [seen.like("d", ""), seen.like("e", "…")] == [None, None]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 1.0])
def test_it_finds_what_comparing_every_pair_finds(threshold: float) -> None:
    rng = random.Random(7)
    texts: list[str] = []
    for _ in range(60):
        base = rng.choice(texts).split() if texts and rng.random() < 0.7 else []
        base = base or [f"w{rng.randrange(500)}" for _ in range(rng.randint(5, 30))]
        for _ in range(rng.randint(0, 2)):
            base[rng.randrange(len(base))] = f"v{rng.randrange(500)}"
        texts.append(" ".join(base))
    seen, kept, expected, found = NearDuplicates(threshold), [], [], []
    for at, text in enumerate(texts):
        like = next((k for k in kept if jaccard(text, texts[k]) >= threshold - 1e-9), None)
        expected.append(None if like is None else str(like))
        found.append(seen.like(str(at), text))
        if like is None:
            kept.append(at)
    assert found == expected
    assert 0 < sum(each is not None for each in found) < 60


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [(0.3, (49, 2)), (0.5, (35, 3)), (0.8, (16, 6)), (0.9, (11, 10)), (1.0, (2, 64))],
)
def test_bands_find_a_pair_at_the_threshold_in_99_of_100(threshold: float, expected: tuple[int, int]) -> None:
    number, rows = bands(threshold)
    assert (number, rows) == expected and number * rows <= 128
    assert 1 - (1 - threshold**rows) ** number >= 0.99
    # A band more a row would find too few of them, or need too many functions.
    fewer = 128 // (rows + 1)
    assert rows == 64 or 1 - (1 - threshold ** (rows + 1)) ** fewer < 0.99


def test_near_duplicates_at_the_threshold_are_found_and_no_other_row_is_left_out() -> None:
    """1,000 pairs that share 80 of 100 runs are found, 98 of 100 at least; of 79 of 101, none."""
    rng = random.Random(3)

    def of(number: int) -> list[str]:
        return [f"w{rng.randrange(10**9)}" for _ in range(number)]

    seen, found, wrong = NearDuplicates(0.8), 0, 0
    for at in range(1000):
        # 90 runs of 94 words; a tail of other words leaves 80 runs of 84 words the same: 80 / (90 + 90 - 80).
        same, near = of(84), of(83)
        one, other = " ".join(same + of(10)), " ".join(same + of(10))
        assert at > 20 or jaccard(one, other) == 0.8
        assert seen.like(f"a{at}", one) is None
        found += seen.like(f"b{at}", other) == f"a{at}"
        seen.like(f"c{at}", " ".join(near + of(11)))
        wrong += seen.like(f"d{at}", " ".join(near + of(11))) is not None
    assert found >= 980 and wrong == 0


def pair(name: str, chosen: int, rejected: int, prob: float = 0.9) -> dict[str, Any]:
    said = {"chosen": "x" * chosen, "rejected": "x" * rejected}
    turns = {key: [{"role": "assistant", "content": text}] for key, text in said.items()}
    return {"id": name, "prompt": [{"role": "user", "content": "Q"}], "chosen_prob": prob, **turns}


def test_lengths_are_matched_within_ranges_of_ratios() -> None:
    rows = [
        *(pair(f"l{n}", 120, 100) for n in range(7)),  # ratio 1.2: longer chosen in 7, shorter in 3
        *(pair(f"s{n}", 100, 120) for n in range(3)),
        *(pair(f"L{n}", 300, 100) for n in range(2)),  # ratio 3: 2 against 5
        *(pair(f"S{n}", 100, 300) for n in range(5)),
        pair("lone", 1000, 100),  # ratio 10: nothing to match it with
        pair("equal", 50, 50),
        pair("tie", 90, 50, 0.5),
    ]
    out = unmatched(rows, 0)
    left = [row["id"] for row in rows if row["id"] not in out]
    count = {side: sum(name[0] == side for name in left if name not in ("lone",)) for side in "lsLS"}
    assert count == {"l": 3, "s": 3, "L": 2, "S": 2}
    assert "lone" in out and {"equal", "tie"} <= set(left) and len(out) == 4 + 3 + 1
    assert unmatched(rows[::-1], 0) == out
    assert any(unmatched(rows, seed) != out for seed in range(1, 9))
    assert unmatched([], 0) == set()


def test_what_is_compared_of_a_row() -> None:
    system = {"role": "system", "content": "Be brief."}
    row = pair("p", 2, 1)
    row["prompt"] = [system, *row["prompt"]]
    assert text_of(row, "preferences") == "Q\nxx\nx"
    assert text_of({"messages": [system, *row["chosen"]]}, "sft") == "xx"
