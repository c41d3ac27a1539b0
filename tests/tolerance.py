"""How far two fp32 results of the same mathematics may lie apart, and why.

Another processor, thread count, batch or length of padding adds the same terms in another order. A sum of n
terms of size x then differs by about eps * x * sqrt(n), with eps = 1.2e-7. What is computed in Python floats
needs none of these: `pytest.approx` as it is. Bounds on what training reaches are statistical, and stand
where the statistics are.
"""

from collections.abc import Iterable, Mapping

import torch

# A formula of some ten operations on numbers near one; a library's exp or log is right to a few eps.
FORMULA = {"rel": 1e-5, "abs": 1e-6}
# A log-probability, value or score: logits up to 30 from a width of 192 give 1.2e-7 * 30 * 14 = 5e-5. Engines
# that read old weights or the wrong token are off by 0.01 to 10.
LOGPROB = {"rel": 1e-5, "abs": 1e-4}
# A gradient, which adds up about 100 tokens' parts of size one: 1.2e-7 * 1 * 10 in each of some layers.
GRADIENT = {"rel": 1e-4, "abs": 1e-5}
# A figure of a run after some steps: weights that agree to `NEAR` of the way they went give log-probabilities
# that agree to about a thousandth of what training changed.
FIGURE = {"rel": 1e-3, "abs": 1e-4}

# Adam moves a weight by about the learning rate, against the sign of its gradient. Gradients agree to a
# thousandth where they are a thousand times their own error (about 1e-8). Near zero even the sign may differ,
# and the weight then goes the other way at each step; such weights are rare.
NEAR = 1e-3
RARE = 0.01


def summed(terms: int) -> dict[str, float]:
    """The tolerance of a sum of so many log-probabilities."""
    return {"rel": LOGPROB["rel"], "abs": LOGPROB["abs"] * terms}


def decimals(places: int) -> dict[str, float]:
    """The tolerance against a number that is written down with so many decimals."""
    return {"rel": FORMULA["rel"], "abs": 0.6 * 10.0**-places}


def tensors(tolerance: Mapping[str, float]) -> dict[str, float]:
    """The same tolerance as torch names it, for `assert_close`."""
    return {"rtol": tolerance["rel"], "atol": tolerance["abs"]}


def assert_weights(
    found: Iterable[torch.Tensor], expected: Iterable[torch.Tensor], *, rate: float, steps: int
) -> None:
    """Check weights after so many steps of Adam at this rate: all near but a rare one, none beyond reach."""
    pairs = list(zip(found, expected, strict=True))
    assert pairs and all(one.shape == other.shape for one, other in pairs)
    reach = rate * steps
    gaps = torch.cat([(one.detach() - other.detach()).abs().flatten() for one, other in pairs])
    assert bool(torch.isfinite(gaps).all())
    assert (gaps > NEAR * reach).double().mean().item() <= RARE, f"{gaps.max().item():.3g} of {reach:.3g}"
    assert gaps.max().item() <= 2 * reach
