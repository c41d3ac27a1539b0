"""An engine that reads pocket's principles by its grammar and votes by known truth, with a model's noise."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Mapping, Sequence

from constitute.engines.base import ModelIdentity
from constitute.types import Choice, Comparison, Completion, Request

# Log-odds of a vote on a pair that differs on the axis, and their standard deviation on any pair.
SURE, NOISE = 3.0, 1.0


class Reader:
    """Keeps to `Engine`; knows the pairs it was told of by `learn`."""

    context_length = None
    identity = ModelIdentity(engine="reader", name="reader")

    def __init__(self) -> None:
        self._sides: dict[tuple[str, str], Mapping[str, int]] = {}

    def learn(self, pairs: Sequence[Comparison], truth: Sequence[Mapping[str, int]]) -> None:
        """Know the side that a principle against an axis takes on each pair, in both orders."""
        for pair, sides in zip(pairs, truth, strict=True):
            self._sides[pair.a, pair.b] = sides
            self._sides[pair.b, pair.a] = {axis: -side for axis, side in sides.items()}

    def rendered(self, request: Request) -> bytes:
        return json.dumps([[m.role, m.content] for m in request.messages]).encode()

    async def generate(self, request: Request) -> Completion:
        """Another wording of the same predicate, drawn by the request's seed."""
        from constitute.pocket.wordings import read_wording, wordings
        from tools.pocket.opposites import read_turned, turned, turned_wordings

        text = request.messages[-1].content.split("\n\n")[1]
        plain, contrary = read_wording(text), read_turned(text)
        found = plain or contrary
        assert found is not None, text
        given = (found.predicate.axis, found.form)
        every = [*wordings(*given, True), *wordings(*given, False)]
        if plain is None:
            every = [*turned_wordings(*given, True), *turned_wordings(*given, False)]
        same = sorted((w.opening, w) for w in every if w.predicate == found.predicate and w != found)
        chosen = random.Random(request.sampling.seed).choice(same)[1]
        return Completion(text=turned(chosen) if plain is None else chosen.text())

    async def choose(self, request: Request, labels: Sequence[str], *, spelled: bool = False) -> Choice:
        """Log-odds of 3 for the side the principle takes, 0 where it takes none, and noise on top."""
        from constitute.pocket.wordings import read_wording
        from tools.pocket.opposites import read_turned

        text = request.messages[-1].content
        a, b, rule = text.split("\n(A) ", 1)[1].replace("\n\n(B) ", "\n\n").split("\n\n", 2)
        lines = rule.splitlines()
        plain, contrary = read_wording(lines[0]), read_turned(lines[0])
        found = plain or contrary
        assert found is not None, lines[0]
        way = (1 if plain else -1) * (-1 if lines[1].startswith("Now turn it round") else 1)
        digest = hashlib.sha256(self.rendered(request)).digest()
        odds = SURE * way * self._sides[a, b][found.predicate.axis]
        odds += random.Random(digest).gauss(0.0, NOISE)
        p = 1.0 / (1.0 + math.exp(-odds))
        return Choice(labels=tuple(labels), logprobs=(math.log(p), math.log1p(-p)))

    async def close(self) -> None:
        """Nothing is held."""
