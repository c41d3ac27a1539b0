"""Find which principles of a constitution explain given preferences, and have rules named for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from constitute.blocking import block
from constitute.config import RunConfig
from constitute.constitution.identity import constitution_hash
from constitute.editing.attribute.figures import MARGIN
from constitute.editing.recover.ask import Asking, ByPrinciple, require_votes, voting
from constitute.editing.recover.cases import Case, LeftOut, cases_of, split
from constitute.editing.recover.figures import Alone, Unexplained, alone, unexplained, unexplained_cases
from constitute.editing.recover.fit import Together, together, wrong
from constitute.editing.recover.propose import Proposed, propose, with_votes
from constitute.editing.votes import ByWording, other_model, read_stored, wording_of
from constitute.engines import named_model, use_engine
from constitute.engines.base import Engine
from constitute.errors import UsageError
from constitute.pipeline.session import dated, open_store
from constitute.progress import Progress, Silent
from constitute.stages.labels.adaptive import asking_all
from constitute.store import Store
from constitute.store.unfinished import warn_unfinished
from constitute.types import Comparison, Constitution, LabelledPair, Record

Target = Literal["label", "human"]


@dataclass(frozen=True)
class Wanted:
    """What is asked of `recover`: pairs drawn, the share held out, the margin of a vote that decides.

    `show` pairs that nothing explains are named; with `propose` the model names rules for such pairs.
    """

    n: int = 200
    test_share: float = 0.5
    margin: float = MARGIN
    show: int = 5
    propose: bool = False


class Recovered(Record):
    """Which principles explain the preferences: `train` pairs fitted on, `held_out` ones measured on.

    `explained` says whether the principles, together or one alone, are shown to be right more often than a
    coin and are right more often than every baseline; `sentence` says so in words.
    """

    constitution: str
    train: int
    held_out: int
    prompts: int
    left_out: LeftOut
    margin: float
    alone: tuple[Alone, ...]
    together: Together
    unexplained: Unexplained
    explained: bool
    sentence: str
    proposed: Proposed | None = None


@dataclass(frozen=True)
class Done:
    """The figures, the cases to show, and what it took: `stored` votes were in the run's rows.

    `reasons` say why votes are missing, with counts; `model` is None where nothing had to be asked.
    """

    figures: Recovered
    shown: tuple[Case, ...]
    model: str | None = None
    stored: int = 0
    asked: int = 0
    reused: int = 0
    seconds: float = 0.0
    reasons: dict[str, int] = field(default_factory=dict)


def run_pairs(config: RunConfig, target: Target, progress: Progress | None = None) -> list[Comparison]:
    """The labelled pairs of a run; with the target `label`, the label's P(A) is the preference to explain.

    `progress` is told where the labelling stopped early. Raises `UsageError` where the run has none.
    """
    with Store.open(config.run, create=False, readonly=True) as store:
        rows = [LabelledPair.model_validate(row.data) for row in store.outcomes("label", "ok")]
        warn_unfinished(store, "label", progress or Silent())
    if not rows:
        raise UsageError(f"{config.run} has no labelled pairs; run `constitute label` first, or give --pairs")
    if target == "human":
        return [row.comparison for row in rows]
    return [row.comparison.model_copy(update={"human": row.label.p_a}) for row in rows]


def recover(
    config: RunConfig,
    constitution: Constitution,
    pairs: Sequence[Comparison],
    wanted: Wanted = Wanted(),
    *,
    from_run: bool = False,
    asks: bool = False,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Done:
    """Explain the preferences (`human`) of `pairs` by the constitution's principles; blocks until done.

    The judge is `config.judge` or `config.model`, or `engine` where given, which is left open. Answers are
    kept in the store of `config.run`; with `from_run` votes of that run's rows are used where the very
    question they answer would be asked now, and its rows stay. Where they are all there, no judge is opened,
    unless `asks` says that another may be named. Raises `UsageError` for too few pairs and for a judge
    without a single vote, `EngineError`, `StorageError`.
    """
    progress = progress or Silent()
    check(wanted)
    if not voting(constitution):
        raise UsageError(f"every principle of {constitution.name} has weight 0; give one a weight above 0")
    cases, left_out = cases_of(pairs, wanted.n, config.seed)
    train, held_out = split(cases, wanted.test_share, config.seed)
    work = _Work(config, constitution, wanted, train, held_out, left_out, progress)
    if from_run:
        work.read(progress)
    if work.complete and engine is None and not asks:
        return work.result(work.stored_votes())
    if engine is None:
        named_model(config.judge or config.model)
    with open_store(config.model_copy(update={"reuse": None} if from_run else {}), progress) as store:
        return block(work.ask(store, engine))


def check(wanted: Wanted) -> None:
    """Raise `UsageError` for a margin or share that cannot be."""
    if not 0 < wanted.margin <= 1:
        raise UsageError(f"--margin must lie above 0 and up to 1, not {wanted.margin:g}")
    if not 0 < wanted.test_share < 1:
        raise UsageError(f"--test-share must lie between 0 and 1, not {wanted.test_share:g}")


@dataclass
class _Work:
    """A recovery under way."""

    config: RunConfig
    constitution: Constitution
    wanted: Wanted
    train: list[Case]
    held_out: list[Case]
    left_out: LeftOut
    progress: Progress
    known: ByWording = field(default_factory=dict)
    model: dict[str, object] | None = None

    @property
    def cases(self) -> list[Case]:
        return [*self.train, *self.held_out]

    def read(self, progress: Progress) -> None:
        """Take the votes of the run's rows that answer a question of now."""
        every = self.config.model_copy(
            update={
                "limit": None,
                "label": asking_all(self.config.label),
            }
        )
        pairs = [case.pair for case in self.cases]
        stored = read_stored(every, (self.constitution, self.constitution), pairs, {})
        self.known, self.model = stored.votes, stored.model
        with Store.open(self.config.run, create=False, readonly=True) as store:
            made = (store.meta("stage:label") or {}).get("constitution")
        if made == constitution_hash(self.constitution):
            progress.note(
                f"{self.config.run} was labelled under this constitution: its labels are made of such "
                "votes, and explained by them; --target human explains what people prefer"
            )

    @property
    def complete(self) -> bool:
        """Whether every vote is there already, and nothing else has to be asked."""
        return not self.wanted.propose and all(
            (case.pair.id, wording_of(principle, self.config.label)) in self.known
            for case in self.cases
            for principle in voting(self.constitution)
        )

    def stored_votes(self) -> ByPrinciple:
        found: ByPrinciple = {}
        for case in self.cases:
            for principle in voting(self.constitution):
                vote = self.known[case.pair.id, wording_of(principle, self.config.label)]
                found[case.pair.id, principle.id] = None if isinstance(vote, str) else vote.p_a
        return found

    async def ask(self, store: Store, given: Engine | None) -> Done:
        """Ask for what is missing, and for rules where wanted."""
        name = self.config.judge or self.config.model
        async with use_engine(name, dated(self.config).engine, self.progress, given) as engine:
            if self.known and (other := other_model(self.model, engine, self.config.run)):
                self.progress.note(f"{other}: every vote is asked anew")
                self.known = {}
            asking = Asking(self.config, engine, store, self.progress, self.known)
            asking.check()
            principles = voting(self.constitution)
            votes = await asking.votes([case.pair for case in self.cases], principles)
            require_votes(votes, asking.reasons)
            done = self.result(votes)
            if self.wanted.propose:
                rows, held_out = (self._voted(side, votes) for side in (self.train, self.held_out))
                left = unexplained_cases(rows, self.wanted.margin)
                left += [case for case in wrong(rows) if case not in left]
                proposed = await propose(asking, left, held_out, principles, self.wanted.margin)
                done = replace(done, figures=done.figures.model_copy(update={"proposed": proposed}))
            identity = engine.identity.name
        return replace(
            done,
            model=identity,
            stored=asking.stored,
            asked=asking.asked,
            reused=asking.reused,
            seconds=round(asking.seconds, 3),
            reasons=dict(asking.reasons.most_common()),
        )

    def _voted(self, cases: Sequence[Case], votes: ByPrinciple) -> list[Case]:
        return [with_votes(case, votes, voting(self.constitution)) for case in cases]

    def result(self, votes: ByPrinciple) -> Done:
        """The figures from P(A) by pair and principle."""
        train, held_out = self._voted(self.train, votes), self._voted(self.held_out, votes)
        own = {principle.id: principle.weight for principle in voting(self.constitution)}
        by_principle = alone(held_out, list(own), self.wanted.margin)
        fit = together(train, held_out, own)
        rest = unexplained(train, held_out, self.wanted.margin, self.wanted.show)
        explained, sentence = conclusion(by_principle, fit, silent=set(votes.values()) <= {0.5, None})
        figures = Recovered(
            constitution=self.constitution.name,
            train=len(train),
            held_out=len(held_out),
            prompts=len({case.prompt for case in self.cases}),
            left_out=self.left_out,
            margin=self.wanted.margin,
            alone=by_principle,
            together=fit,
            unexplained=rest,
            explained=explained,
            sentence=sentence,
        )
        by_id = {case.pair.id: case for case in train}
        return Done(figures, tuple(by_id[name] for name in rest.shown), stored=len(self.known))


def conclusion(by_principle: Sequence[Alone], fit: Together, *, silent: bool) -> tuple[bool, str]:
    """Whether the principles explain the preferences, and the sentence that says so."""
    if silent:
        return False, "the judge says nothing: every vote is exactly 1/2"
    coin, best = 0.5, "a coin"
    for rule in fit.baselines:
        if (rule.accuracy.value or 0.0) > coin:
            coin, best = rule.accuracy.value or 0.0, f"{rule.name!r}"
    fitted = fit.fitted.accuracy
    if fitted.low is not None and fitted.low > 0.5 and (fitted.value or 0.0) > coin:
        return True, (
            f"together the principles name the preferred answer in {fitted.text(2)} of held-out pairs, "
            f"{best} in {coin:.2f}"
        )
    single = [row for row in by_principle if row.finding == "explains" and (row.accuracy.value or 0) > coin]
    if single:
        first = max(single, key=lambda row: row.accuracy.value or 0.0)
        return True, f"{first.principle_id} alone explains {first.accuracy.text(2)}, {best} {coin:.2f}"
    return False, (
        f"neither a principle nor all together ({fitted.text(2)}) are shown to explain these preferences "
        f"better than {best} ({coin:.2f})"
    )
