"""The demo's summary: figures as JSON, and the table that is made of them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from constitute.cli.demo import _table
from constitute.config import RunConfig
from constitute.engines.base import ModelIdentity
from constitute.pocket.demo import summarise
from constitute.stats import share_of
from constitute.store import Store


def test_the_summary_holds_plain_figures_and_the_table_shows_them(tmp_path) -> None:
    reward = {"value": 0.91, "low": 0.9, "high": 0.92, "n": 64}
    loop: Any = SimpleNamespace(
        config=RunConfig(constitution="pocket/harmless"),
        found={
            "ppo": {"reward_before": reward, "reward_after": {**reward, "value": 0.95}, "kl": 0.04},
            "reward": {"held_out": {}},
            "evals": {},
        },
        seconds={"data": 1.5},
        sampler=lambda: SimpleNamespace(identity=ModelIdentity(engine="fake", name="m")),
    )
    policies = {"base": {"harmful": share_of(247, 250)}, "ppo": {"harmful": share_of(4, 250)}}
    with Store.open(tmp_path / "run") as store:
        summary = summarise(loop, policies, store)
    assert json.loads(json.dumps(summary)) == summary
    assert list(summary["policies"]["base"]["harmful"]) == ["value", "low", "high", "n"]
    assert summary["policies"]["base"]["harmful"]["value"] == 0.988
    assert set(summary["counts"]) == {"generate", "revise", "label"}
    table = _table(summary)
    assert "harmful              98.8 (96.5 to 99.6, n = 250)  1.6 (0.6 to 4.0, n = 250)" in table
    assert "reward model accuracy, held out                   - (n = 0)" in table
