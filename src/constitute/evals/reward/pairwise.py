"""A judge in the place of a reward model: it labels each pair by `label.method`, in both orders."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from constitute.config import RunConfig
from constitute.constitution.read import load_constitution
from constitute.engines.base import Engine
from constitute.errors import UsageError
from constitute.evals.reward.items import RewardItem, reward_items_hash
from constitute.evals.reward.run import Rewarded, reward_result
from constitute.evals.run import SetResult, check_replaced, policy_name, result_path, save_result
from constitute.pipeline.jobs import Job, Session, run_in_session
from constitute.pipeline.labelling import check_judge, label_pairs
from constitute.pipeline.stage_run import StageRun
from constitute.progress import Progress
from constitute.stages import stage_spec
from constitute.types import Comparison, Constitution, LabelledPair, Outcome, Prompt

_TWO = "a judge that compares takes two answers; without --pairwise it rates each by itself"


def run_pairwise(
    config: RunConfig,
    sets: dict[str, list[RewardItem]],
    *,
    policy: str | None = None,
    engine: Engine | None = None,
    progress: Progress,
) -> list[SetResult]:
    """Have `config.model` label each pair under the run's constitution, and save the results.

    An item's rewards are P(answer) of its two answers, so its margin is P(right) - P(wrong). Answers are kept
    in the run under the questions of the stage `label`. Raises `UsageError` and `GateFailed` as `run_reward`.
    """
    if config.constitution is None:
        raise UsageError("a judge compares under a constitution; name one with --constitution FILE")
    constitution = load_constitution(config.constitution, config.tags)
    name = policy_name(policy or f"{config.model}-pairs", config.run)
    jobs: list[Job[SetResult]] = [
        partial(_label, one, items, name, constitution) for one, items in sets.items()
    ]
    return run_in_session(config, jobs, constitution=constitution, engine=engine, progress=progress)


async def _label(
    name: str, items: Sequence[RewardItem], policy: str, constitution: Constitution, session: Session
) -> SetResult:
    config, cfg = session.config, session.config.label
    check_judge(cfg, session.engine)
    path = result_path(config.run, name, policy)
    check_replaced(path, session.model, reward_items_hash(items), session.progress)
    pairs = [_pair(name, item) for item in items if len(item.answers) == 2]
    run = StageRun(
        "label",
        session.engine,
        session.store,
        config.seed,
        session.progress,
        version=stage_spec("label").version,
        shown=f"evals-reward/{name}",
    )
    ended = await label_pairs(run, pairs, cfg, lambda pair: constitution, config.engine.in_flight // 2)
    labelled = dict(zip([pair.id for pair in pairs], ended, strict=True))
    found = [
        _rewarded(labelled[_id(name, item)]) if len(item.answers) == 2 else Rewarded(reason=_TWO)
        for item in items
    ]
    result = reward_result(name, items, found, config.evals, policy, session.model)
    save_result(config.run, result)
    return result


def _id(name: str, item: RewardItem) -> str:
    return f"{name}/{item.id}"


def _pair(name: str, item: RewardItem) -> Comparison:
    """The right answer as A; both orders are asked, so this says nothing to the judge."""
    prompt = Prompt(id=_id(name, item), messages=item.prompt)
    return Comparison(id=_id(name, item), prompt=prompt, a=item.answers[0], b=item.answers[1])


def _rewarded(ended: LabelledPair | Outcome) -> Rewarded:
    if isinstance(ended, Outcome):
        return Rewarded(reason=ended.reason or ended.status, abstained=ended.status == "abstain")
    p = ended.label.p_a
    return Rewarded((p, 1.0 - p), p_right=p)


def judge_of(config: RunConfig, source: str) -> RunConfig:
    """The configuration with its judge as the model that is asked. Raises `UsageError` for another source."""
    if source != "judge":
        raise UsageError(
            f"--pairwise asks a judge, and {source} gives rewards; give 'judge', and its --judge"
        )
    return config.model_copy(update={"model": config.judge or config.model})
