"""Keep what a person wants to see of a PPO run: samples, findings, and figures in a tracker of choice."""

from __future__ import annotations

import json
import os
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from constitute.config.ppo import PPOConfig
from constitute.errors import StorageError, UsageError
from constitute.progress import Progress
from constitute.train.common.trackers import close_trackers, open_trackers, scalars
from constitute.train.doctor.diagnose import diagnose
from constitute.train.doctor.findings import Finding, Line, Sample
from constitute.types import Prompt, Record

if TYPE_CHECKING:
    from constitute.train.common.rollout import Rollouts

METRICS, SAMPLES, FINDINGS, ABOUT = "metrics.jsonl", "samples.jsonl", "findings.jsonl", "watch.json"
# The order of the figures on the line of a running training.
SHOWN = (
    "reward", "kl", "entropy", "length", "eos_rate", "clip_fraction", "explained_variance",
    "tokens_per_second",
)  # fmt: skip
R = TypeVar("R", bound=Record)


class Noted(Record):
    """Line of findings.jsonl: a finding and the iteration after which it was first seen."""

    iteration: int
    finding: Finding


class About(Record):
    """OUT/watch.json: what is needed to look at a run again; `run_id` is its name in the trackers."""

    run_id: str
    config: PPOConfig
    watched: tuple[str, ...]


def shown(line: Line) -> dict[str, float]:
    """The figures of an iteration for the progress line, in order; those without a value are left out."""
    return {name: float(line[name]) for name in SHOWN if line.get(name) is not None}


@dataclass
class Watch:
    """An open look at a run; `iteration` once for each, then `close`. Also a context manager."""

    out: Path
    config: PPOConfig
    seed: int
    watched: tuple[str, ...]
    progress: Progress
    trackers: list[Any]
    lines: list[Line] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    noted: list[Noted] = field(default_factory=list)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found so far, each kind once, in the order it was seen."""
        return tuple(note.finding for note in self.noted)

    def iteration(self, line: Line, rollouts: Rollouts, values: Sequence[float]) -> None:
        """Keep some completions with their rewards, send the figures on, and say what is newly wrong.

        `line` holds this iteration's metrics, `values` one reward a rollout. Raises `StorageError`.
        """
        kept = choose_samples(line["iteration"], rollouts, values, self.config.samples_kept, self.seed)
        _append(self.out / SAMPLES, kept)
        self.lines.append(line)
        self.samples += kept
        for tracker in self.trackers:
            tracker.log(scalars(line), line["iteration"])
        known = {note.finding.kind for note in self.noted}
        found = diagnose(self.lines, self.samples, config=self.config, watched=self.watched)
        new = [Noted(iteration=line["iteration"], finding=one) for one in found if one.kind not in known]
        _append(self.out / FINDINGS, new)
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
    """Look at the run in `out`, of which the first `done` iterations stand in metrics.jsonl.

    Whatever was kept of later ones is dropped: they come again. `watched` names the parts of the reward
    that are not optimised; those of weight 0 in `config.rewards` where None. Where not `main`, nothing is
    read or written. Raises `UsageError` for a tracker that is not installed.
    """
    if watched is None:
        watched = [part.name or part.source for part in config.rewards if part.weight == 0]
    seed = int(made_by["seed"])
    if not main:
        return Watch(out, config, seed, tuple(watched), progress, [])
    out.mkdir(parents=True, exist_ok=True)
    about = _about(out, config, tuple(watched), fresh=done == 0)
    lines = [line for line in read_lines(out / METRICS) if line["iteration"] <= done]
    samples = _keep(out / SAMPLES, Sample, lambda sample: sample.iteration <= done)
    noted = _keep(out / FINDINGS, Noted, lambda note: note.iteration <= done)
    trackers = open_trackers(config.report_to, out, about.run_id, made_by, done)
    return Watch(out, config, seed, about.watched, progress, trackers, lines, samples, noted)


def choose_samples(
    iteration: int, rollouts: Rollouts, values: Sequence[float], count: int, seed: int
) -> list[Sample]:
    """`count` completions of an iteration, drawn by seed and iteration alone, whatever their rewards."""
    rows = range(len(values))
    drawn = random.Random(f"{seed}:samples:{iteration}").sample(rows, min(count, len(rows)))
    return [
        Sample(
            iteration=iteration,
            id=rollouts.prompts[row].id,
            prompt=prompt_text(rollouts.prompts[row]),
            completion=rollouts.completions[row].text,
            reward=values[row],
            ended=rollouts.ended[row],
            tokens=len(rollouts.completions[row].token_ids),
        )
        for row in sorted(drawn)
    ]


def prompt_text(prompt: Prompt) -> str:
    """A prompt for reading: its text, or its turns with their roles where there are several."""
    if len(prompt.messages) == 1:
        return prompt.messages[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in prompt.messages)


def examine(out: Path) -> tuple[list[Finding], list[Noted], int, int]:
    """What is wrong now in the run of `out`, what was noted while it ran, its iterations and its samples.

    Raises `UsageError` where `out` is no folder of `train ppo`.
    """
    lines = read_lines(out / METRICS)
    if not (out / ABOUT).is_file():
        raise UsageError(
            f"no {ABOUT} in {out}; give the folder that `constitute train ppo` writes, such as run/ppo"
        )
    about = About.model_validate_json((out / ABOUT).read_text(encoding="utf-8"))
    samples, noted = _read(out / SAMPLES, Sample), _read(out / FINDINGS, Noted)
    found = diagnose(lines, samples, config=about.config, watched=about.watched)
    return found, noted, len(lines), len(samples)


def read_lines(path: Path) -> list[Line]:
    """The metrics of each iteration; a last line that is torn is left out, no file is no iteration."""
    lines: list[Line] = []
    for text in _texts(path):
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def _about(out: Path, config: PPOConfig, watched: tuple[str, ...], fresh: bool) -> About:
    path = out / ABOUT
    run_id = uuid.uuid4().hex[:8]
    if path.is_file() and not fresh:
        run_id = About.model_validate_json(path.read_text(encoding="utf-8")).run_id
    about = About(run_id=run_id, config=config, watched=watched)
    _replace(path, about.model_dump_json(indent=2) + "\n")
    return about


def _texts(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []


def _read(path: Path, kind: type[R]) -> list[R]:
    """The records of a file up to the first that is torn."""
    records: list[R] = []
    for text in _texts(path):
        try:
            records.append(kind.model_validate_json(text))
        except ValidationError:
            break
    return records


def _keep(path: Path, kind: type[R], wanted: Callable[[R], bool]) -> list[R]:
    """Read a file and leave in it only what is whole and `wanted`."""
    records = [record for record in _read(path, kind) if wanted(record)]
    _replace(path, "".join(record.model_dump_json() + "\n" for record in records))
    return records


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_text(text, encoding="utf-8")
        os.replace(new, path)
    except OSError as problem:
        raise _refused(path, problem) from problem


def _append(path: Path, records: Sequence[Record]) -> None:
    if not records:
        return
    try:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(record.model_dump_json() + "\n" for record in records)
            file.flush()
            os.fsync(file.fileno())
    except OSError as problem:
        raise _refused(path, problem) from problem


def _refused(path: Path, problem: OSError) -> StorageError:
    return StorageError(f"cannot write {path}: {problem.strerror or problem}; free space and run again")
