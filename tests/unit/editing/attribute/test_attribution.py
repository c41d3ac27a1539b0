"""Attribution: a matrix worked by hand, properties, and subsets by brute force."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import combinations

import pytest
from scripted import prompt

from constitute.editing.attribute.alike import side, smallest_subset
from constitute.editing.attribute.figures import Attribution, attribute
from constitute.types import Comparison, LabelledPair, PreferenceLabel, PrincipleVote

WEIGHTS = {"x": 1.0, "y": 1.0, "z": 2.0}
MATRIX = {
    "p1": {"x": 0.9, "y": 0.9, "z": 0.5},
    "p2": {"x": 0.1, "y": 0.1, "z": 0.9},
    "p3": {"x": 0.55, "y": 0.55, "z": 0.55},
    "p4": {"x": 0.2, "y": 0.2, "z": 0.9},
}


def rows(
    matrix: Mapping[str, Mapping[str, float]], weights: Mapping[str, float] = WEIGHTS
) -> list[LabelledPair]:
    found = []
    for name, votes in matrix.items():
        cast = tuple(
            PrincipleVote(principle_id=k, weight=weights.get(k, 1.0), p_ab=p, p_ba=p, mass_ab=1, mass_ba=1)
            for k, p in votes.items()
        )
        pair = Comparison(id=name, prompt=prompt(name), a="yes", b="no")
        label = PreferenceLabel(p_a=0.5, votes=cast)
        found.append(LabelledPair(id=name, comparison=pair, label=label))
    return found


def test_a_matrix_worked_by_hand() -> None:
    done = attribute(rows(MATRIX))
    columns = {c.id: c for c in done.columns}
    assert [columns[n].p_a for n in MATRIX] == pytest.approx([0.7, 0.5, 0.55, 0.55])
    assert [columns[n].deciders for n in MATRIX] == [("x", "y"), (), (), ("z",)]
    assert [columns[n].confident for n in MATRIX] == [True, True, False, True]
    assert [columns[n].conflict for n in MATRIX] == [False, True, False, True]
    x, _, z = done.influences
    assert (x.principle_id, z.principle_id) == ("x", "z")
    assert x.change.value == pytest.approx((0.2 / 3 + 0.4 / 3 + 0.35 / 3) / 4)
    assert z.change.value == pytest.approx((0.2 + 0.4 + 0.35) / 4)
    shares = [(i.decides, i.without, i.agrees, i.silent) for i in (x, z)]
    assert [tuple(share.value for share in each) for each in shares] == [
        (1 / 4, 1 / 4, 2 / 4, 1 / 4),
        (1 / 4, 2 / 4, 2 / 4, 2 / 4),
    ]
    assert z.confidence == pytest.approx(0.425) and z.decides.n == 4
    assert [(g.members, g.same.value, g.same.n) for g in done.groups] == [(("x", "y"), 1, 3), (("z",), 1, 2)]
    assert [(c.first, c.second, c.count) for c in done.conflicts] == [("x", "z", 2), ("y", "z", 2)]
    assert done.subset is not None and done.subset.exact
    # p2 is even, and on p3 no vote is confident: neither is a decision that could be kept.
    assert (done.subset.members, done.subset.kept, done.subset.n) == (("x", "z"), 2, 2)
    assert (done.undecided, done.missing) == (2, 0)


def test_where_nothing_is_decided_there_is_nothing_to_keep() -> None:
    done = attribute(rows({f"p{n}": {"x": 0.55, "y": 0.52} for n in range(34)}))
    assert (done.subset, done.undecided) == (None, 34)


def test_a_missing_vote_is_not_an_even_one() -> None:
    done = attribute(rows({"p1": {"x": 0.9}, "p2": {"y": 0.2}}))
    x, _ = done.influences
    assert done.missing == 2 and (x.missing, x.decides.n, x.decides.value) == (1, 1, 1)
    assert {c.id: c.votes for c in done.columns} == {"p1": (0.9, None), "p2": (None, 0.2)}
    assert {c.id: c.p_a for c in done.columns} == pytest.approx({"p1": 0.9, "p2": 0.2})
    assert x.change.value is None and x.without.n == 0 and len(done.groups) == 2


def test_a_single_principle_decides_where_it_is_confident() -> None:
    done = attribute(rows({"p1": {"x": 0.9}, "p2": {"x": 0.52}, "p3": {"x": 0.4}}))
    assert (done.influences[0].decides.value, done.influences[0].silent.value) == (2 / 3, 1 / 3)
    assert done.subset is not None and done.subset.members == ("x",)


def test_a_weight_of_zero_never_decides_and_no_pairs_are_refused() -> None:
    done = attribute(rows({"p1": {"x": 0.6, "y": 1.0}}, {"x": 1.0, "y": 0.0}))
    assert done.columns[0].deciders == ("x",) and done.columns[0].p_a == pytest.approx(0.6)
    with pytest.raises(ValueError, match="no labelled pairs"):
        attribute([])


def drawn(seed: int, names: str = "abcde", pairs: int = 30) -> dict[str, dict[str, float]]:
    rng = random.Random(seed)
    return {f"p{at:02}": {name: rng.random() for name in names} for at in range(pairs)}


def test_order_changes_nothing_and_a_copy_joins_its_group() -> None:
    matrix = drawn(1)
    turned = {n: dict(reversed(list(matrix[n].items()))) for n in reversed(list(matrix))}
    assert attribute(rows(matrix)) == attribute(rows(turned))
    copied = {n: votes | {"copy": votes["b"]} for n, votes in matrix.items()}
    assert attribute(rows(copied)).groups[0].members == ("b", "copy")


@pytest.mark.parametrize("seed", range(6))
def test_the_smallest_subset_is_that_of_brute_force(seed: int) -> None:
    names, matrix = "abcdef", drawn(seed, "abcdef")
    decided = [({n: 2 * p - 1 for n, p in v.items()}, side(sum(v.values()) - 3)) for v in matrix.values()]

    def kept(subset: tuple[str, ...]) -> int:
        return sum(side(sum(votes[n] for n in subset)) == to for votes, to in decided)

    sizes = [k for k in range(1, 7) for s in combinations(names, k) if kept(s) >= 0.95 * len(decided)]
    exact = smallest_subset(list(names), decided)
    greedy = smallest_subset(list(names), decided, exact_up_to=0)
    assert exact is not None and greedy is not None
    assert len(exact.members) == sizes[0] <= len(greedy.members)
    assert exact.kept == kept(exact.members) == max(kept(s) for s in combinations(names, sizes[0]))
    assert greedy.kept == kept(greedy.members) >= 0.95 * greedy.n and not greedy.exact


def test_the_figures_survive_json() -> None:
    done = attribute(rows(MATRIX))
    assert Attribution.model_validate_json(done.model_dump_json()) == done
