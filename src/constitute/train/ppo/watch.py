"""Keep what a person wants to see of a PPO run: samples, findings, and figures in the trackers asked for."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from constitute.config.ppo import PPOConfig
from constitute.errors import DataError, UsageError
from constitute.files import append_log, read_json, read_log, write_text
from constitute.progress import Progress
from constitute.train.common.trackers import close_trackers, log_samples, open_trackers, scalars
from constitute.train.doctor.diagnose import diagnose
from constitute.train.doctor.evidence import Line, SampledResponse, TrainingFinding
from constitute.train.ppo import held_out
from constitute.types import Prompt, Record

if TYPE_CHECKING:
    from constitute.train.common.rollout import Rollouts

METRICS, SAMPLES, FINDINGS, ABOUT = "metrics.jsonl", "samples.jsonl", "findings.jsonl", "watch.json"
# The order of the figures on the line of a running training.
SHOWN = (
    "reward", "held_out/reward", "kl", "entropy", "length", "eos_rate", "clip_fraction", "explained_variance",
    "tokens_per_second",
)  # fmt: skip
R = TypeVar("R", bound=Record)


class Noted(Record):
    """Line of findings.jsonl: a finding and the iteration after which it was first seen."""

    iteration: int
    finding: TrainingFinding


class About(Record):
    """OUT/watch.json: what is needed to look at a run again; `run_id` is its name in the trackers."""

    run_id: str
    config: PPOConfig
    watched: tuple[str, ...]
    section: str = "ppo"


def shown(line: Line) -> dict[str, float]:
    """The figures of an iteration for the progress line, in order; those without a value are left out."""
    return {name: float(line[name]) for name in SHOWN if line.get(name) is not None}


@dataclass
class Watch:
    """What watches one run: call `iteration` after each of them, then `close`. Also a context manager."""

    out: Path
    config: PPOConfig
    seed: int
    watched: tuple[str, ...]
    progress: Progress
    trackers: list[Any]
    lines: list[Line] = field(default_factory=list)
    samples: list[SampledResponse] = field(default_factory=list)
    noted: list[Noted] = field(default_factory=list)

    @property
    def findings(self) -> tuple[TrainingFinding, ...]:
        """What was found so far, each kind once, in the order it was seen."""
        return tuple(note.finding for note in self.noted)

    def iteration(
        self,
        line: Line,
        rollouts: Rollouts,
        values: Sequence[float],
        parts: Mapping[str, Sequence[float]] = MappingProxyType({}),
    ) -> None:
        """Keep some completions with their rewards, send the figures on, and say what is newly wrong.

        `line` holds this iteration's metrics, `values` one reward a rollout, `parts` the value of each part
        of it. Raises `StorageError`.
        """
        rows = drawn_rows(line["iteration"], len(values), self.config.samples_kept, self.seed)
        kept = [
            sample_of(line["iteration"], rollouts, row, values[row]).model_copy(
                update={"parts": {name: each[row] for name, each in parts.items()}}
            )
            for row in rows
        ]
        append_log(self.out / SAMPLES, [one.model_dump_json() for one in kept])
        self.lines.append(line)
        self.samples += kept
        for tracker in self.trackers:
            tracker.log(scalars(line), line["iteration"])
            log_samples(tracker, [table_row(sample) for sample in kept], line["iteration"])
        known = {note.finding.kind for note in self.noted}
        found = diagnose(self.lines, self.samples, config=self.config, watched=self.watched)
        new = [Noted(iteration=line["iteration"], finding=one) for one in found if one.kind not in known]
        append_log(self.out / FINDINGS, [note.model_dump_json() for note in new])
        self.noted += new
        for note in new:
            self.progress.note(
                f"iteration {note.iteration}, {note.finding.severity}: {note.finding.sentence}; "
                f"{note.finding.remedy}"
            )

    def close(self) -> None:
        """Hand what is still held to the trackers."""
        close_trackers(self.trackers)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()


def open_watch(
    out: Path,
    config: PPOConfig,
    made_by: Mapping[str, Any],
    *,
    done: int,
    progress: Progress,
    watched: Sequence[str] | None = None,
    main: bool = True,
) -> Watch:
    """Watch the run in `out`, of which the first `done` iterations stand in metrics.jsonl.

    What was kept of later iterations is dropped, since they run again. `watched` names the parts of the
    reward that are not optimised; None takes those of weight 0 in `config.rewards`. A process that is not
    `main` reads and writes nothing. Raises `UsageError` for a tracker that is not installed.
    """
    if watched is None:
        watched = [part.name or part.source for part in config.rewards if part.weight == 0]
    seed = int(made_by["seed"])
    if not main:
        return Watch(out, config, seed, tuple(watched), progress, [])
    out.mkdir(parents=True, exist_ok=True)
    about = _about(out, config, tuple(watched), fresh=done == 0)
    lines: list[Line] = [line for line in read_log(out / METRICS) if line["iteration"] <= done]
    samples = _keep(out / SAMPLES, SampledResponse, lambda sample: sample.iteration <= done)
    noted = _keep(out / FINDINGS, Noted, lambda note: note.iteration <= done)
    trackers = open_trackers(config.report_to, out, about.run_id, made_by, done)
    return Watch(out, config, seed, about.watched, progress, trackers, lines, samples, noted)


def drawn_rows(iteration: int, rows: int, count: int, seed: int) -> list[int]:
    """`count` of the rows of an iteration, drawn by seed and iteration alone, whatever their rewards."""
    return sorted(random.Random(f"{seed}:samples:{iteration}").sample(range(rows), min(count, rows)))


def sample_of(iteration: int, rollouts: Rollouts, row: int, reward: float) -> SampledResponse:
    """One completion of an iteration, as samples.jsonl holds it."""
    return SampledResponse(
        iteration=iteration,
        id=rollouts.prompts[row].id,
        prompt=prompt_text(rollouts.prompts[row]),
        completion=rollouts.completions[row].text,
        reward=reward,
        ended=rollouts.ended[row],
        tokens=len(rollouts.completions[row].token_ids),
    )


def table_row(sample: SampledResponse) -> dict[str, str | float]:
    """What trackers show of a completion: its prompt, its text, its reward and the parts of that."""
    shown: dict[str, str | float] = {
        "id": sample.id,
        "prompt": sample.prompt,
        "response": sample.completion,
        "reward": sample.reward,
    }
    if len(sample.parts) > 1:
        shown |= {f"reward/{name}": value for name, value in sample.parts.items()}
    return shown


def prompt_text(prompt: Prompt) -> str:
    """A prompt for reading: its text, or its turns with their roles where there are several."""
    if len(prompt.messages) == 1:
        return prompt.messages[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in prompt.messages)


def examine(out: Path) -> tuple[list[TrainingFinding], list[Noted], int, int]:
    """What is wrong now in the run of `out`, what was noted while it ran, its iterations and its samples.

    Raises `UsageError` where `out` is no folder of `train ppo`, `DataError` for a broken file.
    """
    if not (out / ABOUT).is_file():
        raise UsageError(
            f"no {ABOUT} in {out}; give the folder that `constitute train ppo` or `train grpo` writes, such "
            "as run/ppo"
        )
    about, lines = _stored_about(out), read_log(out / METRICS)
    samples, noted = _read(out / SAMPLES, SampledResponse), _read(out / FINDINGS, Noted)
    found = diagnose(lines, samples, config=about.config, watched=about.watched, section=about.section)
    return found, noted, len(lines), len(samples)


def held_out_of(out: Path) -> dict[str, Any]:
    """Proxy and gold on the held-out prompts of a run, as its summary has them; empty where there are none.

    Raises `DataError` for a broken file.
    """
    found = _read(out / held_out.FILE, held_out.Evaluation)
    return held_out.summary_of(found, _stored_about(out).config)


def held_out_text(found: Mapping[str, Any]) -> list[str]:
    """One line a part of the reward on held-out prompts: start, best and end."""
    lines = [f"on {found['prompts']} held-out prompts, measured {found['measured']} times:"]
    for name, row in found["parts"].items():
        start, best, end, gain = (row[when] for when in ("start", "best", "end", "gain"))
        lines.append(
            f"  {name}: {start['value']:.3f} at the start, {best['value']:.3f} after iteration "
            f"{found['best_iteration']}, {end['value']:.3f} at the end; gain {gain['value']:+.3f} "
            f"({gain['low']:+.3f} to {gain['high']:+.3f})"
        )
    return lines


def _about(out: Path, config: PPOConfig, watched: tuple[str, ...], fresh: bool) -> About:
    run_id = uuid.uuid4().hex[:8]
    if not fresh and (out / ABOUT).is_file():
        run_id = _stored_about(out).run_id
    about = About(run_id=run_id, config=config, watched=watched, section=config.section)
    write_text(out / ABOUT, about.model_dump_json(indent=2) + "\n")
    return about


def _stored_about(out: Path) -> About:
    return _record(About, read_json(out / ABOUT), out / ABOUT)


def _read(path: Path, kind: type[R]) -> list[R]:
    return [_record(kind, value, path) for value in read_log(path)]


def _record(kind: type[R], value: Any, path: Path) -> R:
    try:
        return kind.model_validate(value)
    except ValidationError as problem:
        reason = problem.errors()[0]["msg"]
        raise DataError(f"{path} holds no {kind.__name__} ({reason}); restore the file from a copy") from None


def _keep(path: Path, kind: type[R], wanted: Callable[[R], bool]) -> list[R]:
    """Read a log and leave in it only the records that are `wanted`."""
    records = [record for record in _read(path, kind) if wanted(record)]
    write_text(path, "".join(record.model_dump_json() + "\n" for record in records))
    return records
