"""Our log-probabilities of options are those that lm-evaluation-harness recorded on the same prompts."""

import asyncio
import json

import pytest
from places import ROOT

from constitute.config.evals import EvalsConfig
from constitute.engines import open_engine
from constitute.evals.asking import asked
from constitute.packaged import model_path
from constitute.types import EvalItem

GOLDEN = json.loads((ROOT / "tests" / "golden" / "lm_eval_pocket.json").read_text())


@pytest.mark.skipif(model_path("pocket") == "pocket", reason="the embedded model is not in this checkout")
def test_options_score_as_in_lm_eval():
    from constitute.config import EngineConfig

    async def scores():
        engine = open_engine("pocket", EngineConfig(kind="transformers", dtype="float32"))
        found = []
        for row in GOLDEN["items"]:
            item = EvalItem(id="1", question=row["question"], options=row["options"], matching=(0,))
            request = asked(item, EvalsConfig(mode=row["mode"]))
            found.append((await engine.choose(request, item.options)).logprobs)
        await engine.close()
        return found

    for row, logprobs in zip(GOLDEN["items"], asyncio.run(scores()), strict=True):
        assert logprobs == pytest.approx(row["logprobs"], abs=2e-4), row["question"]
