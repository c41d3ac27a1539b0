"""Who wrote the answers that a judge compares, and whether it prefers those of its own family.

Judges prefer answers of their own: arXiv 2404.13076 and 2306.05685, section 3.3.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from constitute.stages.card.records import Writers
from constitute.stages.card.texts import Wins
from constitute.types import Comparison

# Family -> words in the names of its models, those of well-known fine-tunings among them.
FAMILIES: dict[str, tuple[str, ...]] = {
    "claude": ("claude",),
    "command": ("command",),
    "deepseek": ("deepseek",),
    "falcon": ("falcon",),
    "gemma": ("gemma", "gemini", "bard", "palm"),
    "glm": ("glm", "chatglm"),
    "gpt": ("gpt", "chatgpt", "davinci", "instructgpt"),
    "granite": ("granite",),
    "grok": ("grok",),
    "internlm": ("internlm",),
    "kimi": ("kimi", "moonlight"),
    "llama": ("llama", "codellama", "alpaca", "vicuna", "koala", "tulu", "ultralm", "wizardlm", "guanaco"),
    "minimax": ("minimax",),
    "mistral": ("mistral", "mixtral", "ministral", "magistral", "zephyr"),
    "mpt": ("mpt",),
    "nemotron": ("nemotron",),
    "olmo": ("olmo", "olmoe"),
    "phi": ("phi",),
    "pocket": ("pocket",),
    "pythia": ("pythia", "dolly", "oasst"),
    "qwen": ("qwen", "qwq"),
    "smollm": ("smollm",),
    "stablelm": ("stablelm", "starchat"),
    "yi": ("yi",),
}


@cache
def families(model: str) -> frozenset[str]:
    """Families named by a model's name; a distilled model may name two, and many names name none."""
    said = set(re.findall(r"[a-z]+", model.rsplit("/", 1)[-1].casefold()))
    return frozenset(family for family, names in FAMILIES.items() if said.intersection(names))


def kin(one: str, other: str) -> bool:
    """Whether two names are of one model, or of models of one family."""
    return one == other or bool(families(one) & families(other))


@dataclass
class Authors:
    """Answers by their writer, seen from `judge`; `made_by` are the writers of a run's own answers by stage.

    A row may name the writers of its answers itself. Without a judge's name, nothing is kin.
    """

    judge: str = ""
    made_by: Mapping[str, str] = field(default_factory=dict)
    by: Counter[str] = field(default_factory=Counter)
    answers: int = 0
    related: int = 0
    own: Wins = field(default_factory=Wins)
    own_human: Wins = field(default_factory=Wins)

    def add(self, pair: Comparison, p_a: float) -> None:
        """Count a labelled pair."""
        self.answers += 2
        first = pair.a_model or self._made(pair.a_source)
        second = pair.b_model or self._made(pair.b_source)
        self.by.update(name for name in (first, second) if name)
        if not self.judge:
            return
        a, b = (bool(name) and kin(self.judge, name) for name in (first, second))
        self.related += a + b
        if a != b and first and second:
            self.own.add(p_a if a else 1 - p_a)
            if pair.human is not None:
                self.own_human.add(pair.human if a else 1 - pair.human)

    def _made(self, source: str) -> str:
        """The model of the run that wrote an answer; empty where the answer is not the run's own."""
        return self.made_by.get(source.split(" ")[0], "")

    def writers(self) -> Writers:
        """Who wrote what."""
        return Writers(
            judge=self.judge,
            by=dict(sorted(self.by.items(), key=lambda each: (-each[1], each[0]))),
            answers=self.answers,
            kin=self.related,
            own=self.own.share(),
            own_human=self.own_human.share(),
        )
