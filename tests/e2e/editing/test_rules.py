"""The embedded model's labels under three rules: asked once, and the levels decide as the file has it."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from constitute.config import RunConfig, load_config
from constitute.constitution.read import load_constitution
from constitute.constitution.write import to_yaml
from constitute.data.pairs import read_pairs
from constitute.editing.attribute.run import attribute_run
from constitute.pipeline import run_stages
from constitute.pocket import world
from constitute.pocket.replies import draw_core
from constitute.store import Store
from constitute.types import Comparison, LabelledPair


def pairs_in(folder: Path) -> list[Comparison]:
    lines = []
    for at, prompt in enumerate(world.prompts("test", kind="harmful", n=12, seed=12)):
        rng = Random(at)
        bad, good = (draw_core(rng, prompt.ask, stance) for stance in ("comply", "safe"))
        lines.append({"id": prompt.id, "prompt": prompt.text, "chosen": good, "rejected": bad})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_pairs(folder / "pairs.jsonl")[0]


def test_the_same_pairs_under_three_rules_are_asked_about_once(transformers_engine, tmp_path: Path) -> None:
    found = load_constitution("pocket/harmless")
    first, *rest = found.principles[:4]
    ranked = (first.model_copy(update={"priority": "root"}), *rest)
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(found.model_copy(update={"principles": ranked})))
    pairs = pairs_in(tmp_path)

    def config(rule: str) -> RunConfig:
        wanted = {"model": "pocket", "constitution": str(file), "run": tmp_path / rule}
        wanted |= {"label.principles": "all", "label.rule": rule}
        return load_config(overrides=wanted | ({} if rule == "mean" else {"reuse": tmp_path / "mean"}))

    asked, made = {}, {}
    for rule in ("mean", "priority", "least"):
        counts = run_stages(config(rule), ["label"], pairs=pairs, engine=transformers_engine)["label"]
        asked[rule], labelled = counts.asked, counts.ok
        assert labelled == 12
        with Store.open(tmp_path / rule, readonly=True) as store:
            rows = [LabelledPair.model_validate(row.data) for row in store.outcomes("label", "ok")]
        made[rule] = {row.id: row.label for row in rows}
    assert asked == {"mean": 12 * 4 * 2, "priority": 0, "least": 0}
    for name, label in made["priority"].items():
        p = {vote.principle_id: vote.p_a for vote in label.votes}
        if abs(p[first.id] - 0.5) >= 0.1:
            assert (label.level, label.decided_by, label.p_a) == ("root", (first.id,), p[first.id])
        low, high = min(p.values()), max(p.values())
        assert abs(made["least"][name].p_a - low / (low + 1 - high)) < 1e-6
    assert sum(label.level == "root" for label in made["priority"].values()) >= 6
    figures = attribute_run(config("mean")).figures
    others = {other.rule: other for other in figures.others}
    for rule in ("priority", "least"):
        turned = sum((label.p_a > 0.5) != (made[rule][n].p_a > 0.5) for n, label in made["mean"].items())
        assert others[rule].turned == turned
