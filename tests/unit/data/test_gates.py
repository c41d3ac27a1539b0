"""What filters and the judge keep out of training sets, counted and named row by row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from constitute.config import ExportConfig
from constitute.data.export import export_run
from constitute.store import Store
from constitute.types import (
    Comparison,
    CritiqueRevision,
    LabelledPair,
    Message,
    Outcome,
    PreferenceLabel,
    PrincipleVote,
    Prompt,
    Record,
    Response,
)

PROMPT = Prompt(id="p", messages=(Message(role="user", content="Why?"),))


def response(at: int, revision: str | None = None, text: str = "") -> Response:
    steps = (CritiqueRevision(principle_id="c", critique="no", revision=revision),) if revision else ()
    said = text or f"first {at}"
    return Response(id=f"p/{at}", prompt=PROMPT, sample=at, response=said, steps=steps)


def vote(p_ab: float, p_ba: float | None, name: str = "c", weight: float = 1.0) -> PrincipleVote:
    return PrincipleVote(principle_id=name, weight=weight, p_ab=p_ab, p_ba=p_ba, mass_ab=None, mass_ba=None)


def pair(row: Response, *votes: PrincipleVote, decided: tuple[str, ...] = ()) -> LabelledPair:
    """The label of a response against its revision."""
    comparison = Comparison(
        id=f"{row.id}-rev",
        prompt=PROMPT,
        a=row.response,
        b=row.final,
        a_source="response",
        b_source="revision 1",
    )
    mean = sum(v.p_a for v in votes) / len(votes)
    label = PreferenceLabel(p_a=mean, votes=votes, decided_by=decided)
    return LabelledPair(id=comparison.id, comparison=comparison, label=label)


def put(store: Store, stage: str, *rows: Record | tuple[str, str]) -> None:
    for at, row in enumerate(rows):
        if isinstance(row, tuple):
            outcome = Outcome(row_id=row[0], position=at, status="abstain", reason=row[1])
        else:
            data = row.model_dump(mode="json")
            outcome = Outcome(row_id=data["id"], position=at, status="ok", data=data)
        store.put_outcome(stage, outcome)


def exported(folder: Path, kind: Any, **settings: Any) -> tuple[list[str], dict[str, int]]:
    (written,) = export_run(folder, ExportConfig(**settings), kinds=[kind])
    left = folder / "export" / "removed.jsonl"
    lines = [json.loads(line) for line in left.read_text().splitlines()] if left.is_file() else []
    lines = [line for line in lines if line["set"] == written.path.name]
    for reason, number in written.left_out.items():
        assert sum(line["reason"] == reason for line in lines) == number
    assert len(lines) == sum(written.left_out.values())
    return [json.loads(line)["id"] for line in written.path.read_text().splitlines()], written.left_out


LOOP = "removed by repetition: the text repeats itself in a loop"


def test_what_a_filter_removed_is_in_no_set(tmp_path: Path) -> None:
    rows = [response(at, f"second {at}") for at in range(3)]
    with Store.open(tmp_path) as store:
        put(store, "generate", *(row.model_copy(update={"steps": ()}) for row in rows))
        put(store, "revise", *rows)
        put(store, "filter", rows[0], ("p/1", LOOP))
        put(store, "label", *(pair(row, vote(0.2, 0.2)) for row in rows))
        store.put_meta("stage:filter", {"filter": {"use": ["standard"]}})
    waiting = "not filtered yet; `constitute filter` goes on"
    assert exported(tmp_path, "sft") == (["p/0"], {LOOP: 1, waiting: 1})
    assert exported(tmp_path, "preferences") == (["p/0-rev"], {LOOP: 1, waiting: 1})
    first = (tmp_path / "export" / "removed.jsonl").read_text().splitlines()[0]
    assert json.loads(first) == {"set": "sft.jsonl", "id": "p/1", "reason": LOOP}
    # The filter saw the revision, so the response before it stays.
    assert exported(tmp_path, "sft", revisions="none") == (["p/0", "p/1", "p/2"], {})
    card = (tmp_path / "export" / "README.md").read_text()
    export_run(tmp_path, ExportConfig(), kinds=["sft"])
    assert '- filters: `{"use": ["standard"]}`' in card
    assert f"- not exported, ok but {LOOP}: 1" in (tmp_path / "export" / "README.md").read_text() != card


def test_a_filter_of_responses_leaves_out_pairs_of_samples(tmp_path: Path) -> None:
    both = Comparison(
        id="p/0-1", prompt=PROMPT, a="first 0", b="first 1", a_source="response 0", b_source="response 1"
    )
    label = PreferenceLabel(p_a=0.9, votes=(vote(0.9, 0.9),))
    other = both.model_copy(update={"id": "p/2-3", "a_source": "response 2", "b_source": "response 3"})
    own = both.model_copy(update={"id": "mine", "a_source": "", "b_source": ""})
    with Store.open(tmp_path) as store:
        rows = [response(at) for at in range(4)]
        put(store, "generate", *rows)
        put(store, "filter", *rows[:3], ("p/3", LOOP))
        put(store, "label", *(LabelledPair(id=c.id, comparison=c, label=label) for c in (both, other, own)))
    assert exported(tmp_path, "preferences") == (["p/0-1", "mine"], {LOOP: 1})
    assert exported(tmp_path, "sft", revisions="none") == (["p/0", "p/1", "p/2"], {LOOP: 1})


def test_a_filter_leaves_out_pairs_of_every_scheme(tmp_path: Path) -> None:
    def pair_named(name: str, a_source: str, b_source: str) -> Comparison:
        return Comparison(id=name, prompt=PROMPT, a="one", b="two", a_source=a_source, b_source=b_source)

    label = PreferenceLabel(p_a=0.9, votes=(vote(0.9, 0.9),))
    kept = [
        pair_named("p/0-1", "response 0, for x", "response 1, against x"),
        pair_named("p/1-against", "response 1 by m", "response 1 by n, label.against"),
        pair_named("p/0-rev1-2", "revision 1", "revision 2"),
        pair_named("mine", "chosen: response 3", "rejected: revision 1"),
    ]
    left_out = [
        pair_named("p/best-worst", "response 1", "response 3"),
        pair_named("p/2-3", "response 2, against x", "response 3, for x"),
        pair_named("p/3-against", "response 3 by m", "response 3 by n, label.against"),
        pair_named("p/3-rev0-1", "response", "revision 1"),
    ]
    with Store.open(tmp_path) as store:
        put(store, "generate", *(response(at) for at in range(4)))
        put(store, "filter", *(response(at) for at in range(3)), ("p/3", LOOP))
        put(store, "label", *(LabelledPair(id=c.id, comparison=c, label=label) for c in kept + left_out))
    found, reasons = exported(tmp_path, "preferences")
    assert (set(found), reasons) == ({pair.id for pair in kept}, {LOOP: len(left_out)})


def test_the_judge_must_prefer_the_revision_in_both_orders(tmp_path: Path) -> None:
    rows = [response(at, f"second {at}") for at in range(7)]
    rows.append(response(7, "same", "same"))
    labels = [
        pair(rows[0], vote(0.1, 0.4)),
        pair(rows[1], vote(0.1, 0.6)),  # P(revision) is 0.65, and hangs on the order
        pair(rows[2], vote(0.7, 0.9)),
        pair(rows[3], vote(0.5, 0.5)),
        # By weight: 3 votes of 0.4 and one of 0.7 are 0.475, in the one order and in the other.
        pair(rows[4], vote(0.4, 0.4, "x", 3.0), vote(0.7, 0.7, "y")),
        # What did not decide does not count; a method without orders counts in both.
        pair(rows[5], vote(0.3, None, "x"), vote(1.0, None, "y"), decided=("x",)),
    ]
    with Store.open(tmp_path) as store:
        put(store, "revise", *rows)
        put(store, "label", *labels)
    out = {
        "the judge prefers the revision in one order only": 1,
        "the judge does not prefer the revision": 2,
        "no label of its revision to accept it by": 1,
        "the revision is the response, so no judge could prefer it": 1,
    }
    assert exported(tmp_path, "sft", accept="both_orders") == (["p/0", "p/4", "p/5"], out)
    assert "whose revision the judge prefers in both orders" in (tmp_path / "export/README.md").read_text()
    assert json.loads((tmp_path / "export/labels.json").read_text())["sets"] == ["sft.jsonl"]
    assert len(exported(tmp_path, "sft")[0]) == 8
    # With `best`, a response that the label prefers is imitated: no revision has to be accepted.
    ids, out = exported(tmp_path, "sft", accept="both_orders", revisions="best")
    assert ids == ["p/0", "p/2", "p/4", "p/5"]
    with pytest.raises(ValidationError, match="no label judges other revisions"):
        ExportConfig(accept="both_orders", revisions="all")


def test_near_duplicates_and_lengths_of_a_set(tmp_path: Path) -> None:
    long = " ".join(f"w{n}" for n in range(30))
    rows = [response(0, long), response(1, f"{long} more"), response(2, "Another answer it is.")]
    with Store.open(tmp_path) as store:
        put(store, "revise", *rows)
        put(store, "label", *(pair(row, vote(0.2, 0.2)) for row in rows))
    reason = "nearly the same as an earlier row (export.near_duplicates)"
    assert exported(tmp_path, "sft", near_duplicates=0.8) == (["p/0", "p/2"], {reason: 1})
    line = json.loads((tmp_path / "export/removed.jsonl").read_text())
    assert line == {"set": "sft.jsonl", "id": "p/1", "reason": reason, "like": "p/0"}
    # All three longer answers are chosen, so none can be matched.
    with pytest.raises(ValueError, match="3 left out so that lengths match"):
        exported(tmp_path, "preferences", match_lengths=True)
    card = (tmp_path / "export/README.md").read_text()
    assert "Near-duplicates from a Jaccard index of 0.8 are left out." in card
    assert exported(tmp_path, "sft") == (["p/0", "p/1", "p/2"], {})
    assert not (tmp_path / "export/removed.jsonl").exists()


def test_a_share_of_the_prompts_becomes_sft_rows_and_all_of_them_preferences(tmp_path: Path) -> None:
    prompts = [PROMPT.model_copy(update={"id": f"p{n}"}) for n in range(40)]
    rows = [response(n, f"It is {n}.").model_copy(update={"prompt": prompts[n]}) for n in range(40)]
    with Store.open(tmp_path) as store:
        put(store, "revise", *rows)
        put(store, "label", *(pair(row, vote(0.2, 0.2)) for row in rows))
    ids, out = exported(tmp_path, "sft", sft_share=0.25)
    assert out == {"left to labels and to reinforcement learning (export.sft_share)": 40 - len(ids)}
    # 40 draws at 1/4: 3 to 18 with a probability of 0.999.
    assert 3 <= len(ids) <= 18
    assert "SFT rows: of 25% of the prompts (seed 0)." in (tmp_path / "export/README.md").read_text()
    # A larger share keeps what a smaller one has, another seed chooses others, and pairs are all there.
    assert set(ids) < set(exported(tmp_path, "sft", sft_share=0.75)[0])
    assert exported(tmp_path, "sft", sft_share=0.25, seed=1)[0] != ids
    assert len(exported(tmp_path, "preferences", sft_share=0.25)[0]) == 40
