"""Whether a reward model is shown to be better than chance, by its accuracy on held-out pairs."""

from __future__ import annotations

from typing import Any

from constitute.stats import Estimate

# A model that is right in 70 % of pairs, as reward models of people's preferences are (arXiv 2009.01325,
# arXiv 2203.02155), is shown to be better than chance by 100 held-out pairs in 99 of 100 cases; by 30 pairs
# in 59 of 100 only, but it is right in half of 30 or fewer in 2 of 100.
ENOUGH = 100
FEW = 30


def reward_verdict(held_out: dict[str, Any], labels: str = "") -> dict[str, str]:
    """`verdict` or `warning`, a sentence, where a reward model is not shown to be better than chance.

    It is not where the 95 % interval of its held-out accuracy holds 0.5, or lies below. That is a verdict
    from 100 pairs on, and from 30 on where it is right in no more than half of them; with fewer, intervals
    of many good models hold 0.5, so it is a warning. `labels` is the verdict on what it learnt from, which is
    its own.
    """
    if labels:
        return {"verdict": f"the reward model was trained on labels of which it is said: {labels}"}
    accuracy = held_out.get("accuracy")
    if accuracy is None:
        return {"warning": "no held-out pair says how good the reward model is; label more pairs"}
    figure = Estimate.model_validate(accuracy)
    if figure.value is None or figure.low is None or figure.high is None or figure.low > 0.5:
        return {}
    seen = f"the reward model prefers the better of two held-out answers in {figure.text()} of the pairs"
    remedy = (
        "label more pairs, look at the label card (`constitute status --run DIR`, DIR being the run that "
        "labelled them), or set train.reward.held_out higher"
    )
    if figure.n >= ENOUGH or (figure.n >= FEW and figure.value <= 0.5):
        return {"verdict": f"{seen}, which is no better than chance; {remedy}"}
    return {"warning": f"{seen}, which is too few to tell it from chance; {remedy}"}
