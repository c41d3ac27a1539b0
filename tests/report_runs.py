"""Small runs for tests of the report, written with the store's own API."""

import json
from collections.abc import Callable
from pathlib import Path

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
    Response,
)

Word = Callable[[str], str]


def figure(value, n=100):
    return {"value": value, "n": n, "low": max(0.0, value - 0.1), "high": min(1.0, value + 0.1)}


def response(i, word):
    prompt = Prompt(id=word(f"p{i}"), messages=(Message(role="user", content=word(f"Ask {i}")),))
    step = CritiqueRevision(
        principle_id=word(("kind", "brief")[i % 2]), critique=word("It is rude."), revision=word("a b d e")
    )
    return Response(id=f"{prompt.id}/0", prompt=prompt, sample=0, response=word("a b c d"), steps=(step,))


def labelled(row, p_ab, p_ba):
    comparison = Comparison(
        id=f"{row.id}-rev",
        prompt=row.prompt,
        a=row.response,
        b=row.final,
        a_source="response",
        b_source="revision 1",
    )
    vote = PrincipleVote(
        principle_id=row.steps[0].principle_id, weight=1, p_ab=p_ab, p_ba=p_ba, mass_ab=0.9, mass_ba=0.8
    )
    label = PreferenceLabel(p_a=vote.p_a, votes=(vote,))
    return LabelledPair(id=comparison.id, comparison=comparison, label=label)


def write_rows(store: Store, count: int, word: Word) -> None:
    """Every fourth row fails to be generated, every third of the others gets no label."""
    for i in range(count):
        row = response(i, word)
        if i % 4 == 3:
            reason = word(f"response was cut at {i} tokens")
            store.put_outcome("generate", Outcome(row_id=row.id, position=i, status="failed", reason=reason))
            continue
        bare = row.model_copy(update={"steps": ()})
        for stage, kept in (("generate", bare), ("revise", row)):
            data = kept.model_dump(mode="json")
            store.put_outcome(stage, Outcome(row_id=row.id, position=i, status="ok", data=data))
        pair = labelled(row, 0.2, 0.6 if i % 2 else 0.4)
        if i % 3 == 2:
            ended = Outcome(row_id=pair.id, position=i, status="abstain", reason=word("label mass 0.01"))
        else:
            ended = Outcome(row_id=pair.id, position=i, status="ok", data=pair.model_dump(mode="json"))
        store.put_outcome("label", ended)


def write_files(run: Path, word: Word) -> None:
    """Manifest, summary, metrics and eval results beside the store."""
    manifest = {
        "constitute": word("0.1.0"),
        "seed": 3,
        "config": {
            "model": word("pocket"),
            "prompts": word("prompts.jsonl"),
            "constitution": word("nowhere.yaml"),
        },
        "constitution": {
            "name": word("tiny"),
            "hash": word("abc123"),
            "principles": {"kind": "x", "brief": "y"},
        },
        "stages": {"generate": {"settings": {"model": {"engine": word("vllm"), "name": word("pocket")}}}},
        "versions": {word("torch"): word("2.13.0")},
    }
    policies = {word("base"): {word("harmful"): figure(0.9)}, word("ppo"): {word("harmful"): figure(0.1)}}
    (run / "manifest.json").write_text(json.dumps(manifest))
    (run / "summary.json").write_text(json.dumps({"policies": policies, "ppo": {"kl": 2.5}}))
    (run / "ppo").mkdir(parents=True)
    lines = [
        {"iteration": i, "reward": i / 2, "kl": {"value": 0.1 * i}, word("other"): 1} for i in range(1, 5)
    ]
    (run / "ppo" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    results = run / "evals" / "results"
    results.mkdir(parents=True)
    for at, (policy, share) in enumerate({"ppo": 0.2, "base": 0.8}.items()):
        result = {
            "set": word("flatters"),
            "policy": word(policy),
            "model": {"name": word("pocket")},
            "items_hash": "0" * 16,
            "share": figure(share),
            "p_matching": figure(share),
            "mass": 0.97,
            "unparsed": {word("tie"): 4},
            "failed": 0,
            "scores": [],
        }
        (results / f"{at}.json").write_text(json.dumps(result))


def make_run(run: Path, count: int = 12, word: Word = str) -> Path:
    """A run directory whose every free text is `word(text)`."""
    with Store.open(run) as store:
        write_rows(store, count, word)
    write_files(run, word)
    return run
