"""Build the report of a run from its store and files, and write it as one HTML file that runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constitute.editing.trial.figures import TrialResult
from constitute.editing.trial.junit import outcome
from constitute.editing.trial.known import last_result
from constitute.editing.words import word_diff
from constitute.evals.run import SetResult
from constitute.files import write_text
from constitute.pipeline import Counts
from constitute.report.charts import Curve
from constitute.report.page import clip, render_page
from constitute.report.read import MadeUnder, Manifest, RunFiles, Training, read_run
from constitute.report.rows import Chain, Labels, PrincipleWork, chains_of, labels_of, principles_of, ranked
from constitute.report.training import curves_of, figure_of, figures_of
from constitute.stats import Estimate
from constitute.store import Store
from constitute.store.unfinished import Unfinished, unfinished
from constitute.text import grouped_reasons

_POLICIES = ("base", "sft", "ppo")
MAX_REASONS = 12
# Figures of summary.json shown above everything else, where they are there: path, name, percentage.
_HEADLINE = (
    ("labels.agreement", "labels agree with the oracle", True),
    ("labels.order_flip", "votes that change with the order", True),
    ("reward_model.accuracy", "reward model accuracy, held-out pairs", True),
    ("ppo.reward_before", "reward before PPO", False),
    ("ppo.reward_after", "reward after PPO", False),
    ("ppo.kl", "KL from the reference, nats a response", False),
)
Figure = Estimate | float | None
# (status, an example of reasons that differ in numbers alone, rows)
Reason = tuple[str, str, int]


@dataclass(frozen=True)
class Report:
    """Everything on the page, in its order; every text in it is still to be escaped and clipped."""

    title: str
    facts: list[tuple[str, str]]
    policies: dict[str, Mapping[str, Figure]]
    headline: list[tuple[str, Figure, bool]]
    stages: list[tuple[Counts, list[Reason]]]
    unfinished: list[Unfinished]
    constitution: str
    principles: list[PrincipleWork]
    principles_note: str
    trial: TrialResult | None
    labels: Labels | None
    chains: list[Chain]
    chains_of: int
    training: list[tuple[Training, list[tuple[str, Estimate]], list[Curve]]]
    evals: dict[str, list[SetResult]]

    @property
    def axes(self) -> list[str]:
        """What was measured of the policies."""
        return list(dict.fromkeys(axis for figures in self.policies.values() for axis in figures))

    @property
    def verdicts(self) -> list[str]:
        """What is missing or wrong in the rows, labels and trainings, to be read before any figure."""
        missing = [each.sentence for each in self.unfinished]
        labels = [self.labels.verdict.sentence] if self.labels and self.labels.verdict else []
        return missing + labels + [one.verdict for one, _, _ in self.training if one.verdict]


def write_report(run_dir: Path, out: Path | None = None, rows: int = 24) -> Path:
    """Write the report of a run, to `run_dir/report.html` unless `out` is given; returns its path.

    Raises `UsageError` where there is no run, `DataError` for a damaged file, `StorageError` for the disk.
    """
    with Store.open(run_dir, create=False, readonly=True) as store:
        report = build(store, read_run(run_dir), rows)
    return write_text(out or run_dir / "report.html", render_report(report))


def render_report(report: Report) -> str:
    """The page. Every text is escaped; the only style allowed to apply is our own, by its hash."""
    filters: dict[str, Callable[..., Any]] = {
        "figure": show_figure,
        "interval": show_interval,
        "changes_to": _changes,
        "number": _number,
        "outcome": outcome,
    }
    return render_page("report.html.j2", ["report.css"], filters, report=report)


def _number(value: float | None) -> str:
    """Three decimals, or a dash for what was not measured."""
    return "–" if value is None else f"{value:.3f}"


def build(store: Store, files: RunFiles, rows: int = 24) -> Report:
    """The whole report; `rows` chains are shown, evenly spaced over the run."""
    works = principles_of(store, files.constitution)
    labels = labels_of(store, works)
    principles, principles_note = ranked(works)
    shown, total = chains_of(store, rows)
    return Report(
        title=files.name,
        facts=[(name, str(value)) for name, value in _facts(files.manifest) if value not in (None, "")],
        policies=_policies(files.summary),
        headline=list(_headline(files.summary)),
        stages=[_stage(store, name) for name in store.stages()],
        unfinished=unfinished(store),
        constitution=(files.manifest.constitution or MadeUnder()).name,
        principles=principles,
        principles_note=" ".join(part for part in (files.constitution_note, principles_note) if part),
        trial=last_result(store),
        labels=labels,
        chains=shown,
        chains_of=total,
        training=[(one, figures_of(one), curves_of(one)) for one in files.training],
        evals=_evals(files.results),
    )


def show_figure(figure: Estimate | float, percent: bool = True) -> str:
    """The value alone: a percentage, or four significant digits."""
    value = figure.value if isinstance(figure, Estimate) else figure
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if percent else f"{value:.4g}"


def show_interval(figure: Estimate | float, percent: bool = True) -> str:
    """The interval and n, as far as they are known."""
    if not isinstance(figure, Estimate):
        return ""
    n = f"n = {figure.n:,}".replace(",", "\u202f")
    if figure.low is None or figure.high is None:
        return n
    scale, form = (100, ".1f") if percent else (1, ".3g")
    return f"{scale * figure.low:{form}} to {scale * figure.high:{form}}, {n}"


def _changes(before: str, after: str) -> list[tuple[str, str]]:
    """(kept, gone or new; text) for each stretch of words, of texts that have been clipped."""
    return [(kind, text) for kind, text in word_diff(clip(before), clip(after))]


def _facts(manifest: Manifest) -> list[tuple[str, Any]]:
    """What made the run, from its manifest."""
    config, constitution = manifest.config, manifest.constitution or MadeUnder()
    return [
        ("constitution", constitution.name),
        ("constitution hash", constitution.hash),
        ("principles", len(constitution.principles) or None),
        ("model", config.model),
        ("judge", config.judge),
        *_models(manifest),
        ("prompts", config.prompts),
        ("seed", manifest.seed),
        ("begun", _time(manifest.created)),
        ("last written", _time(manifest.updated)),
        ("constitute", manifest.constitute),
        ("versions", ", ".join(f"{name} {at}" for name, at in manifest.versions.items())),
    ]


def _time(text: str) -> str:
    """An ISO time in UTC to the minute."""
    return text[:16].replace("T", " ") + " UTC" if text else ""


def _models(manifest: Manifest) -> list[tuple[str, Any]]:
    """Each model that answered, by its identity, with the data stages it answered in."""
    stages: dict[str, list[str]] = {}
    for stage, noted in manifest.stages.items():
        settings = noted.get("settings")
        identity = settings.get("model") if isinstance(settings, Mapping) else None
        if isinstance(identity, Mapping) and "/" not in stage:
            parts = [identity.get(key) for key in ("engine", "name", "revision", "fingerprint")]
            stages.setdefault(" · ".join(str(part) for part in parts if part), []).append(stage)
    return [("answered by", f"{who} ({', '.join(names)})") for who, names in stages.items() if who]


def _policies(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Figure]]:
    """Figures by policy and axis, policies in the order base, sft, ppo and then as they stand."""
    found = summary.get("policies")
    measured = found if isinstance(found, Mapping) else {}
    names = [name for name in _POLICIES if name in measured]
    names += [name for name in measured if name not in names]
    return {
        name: {axis: figure_of(value) for axis, value in measured[name].items()}
        for name in names
        if isinstance(measured[name], Mapping)
    }


def _headline(summary: Mapping[str, Any]) -> Iterator[tuple[str, Figure, bool]]:
    for path, name, percent in _HEADLINE:
        value: Any = summary
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if (shown := figure_of(value)) is not None:
            yield name, shown, percent


def _stage(store: Store, name: str) -> tuple[Counts, list[Reason]]:
    listed = grouped_reasons(store.reasons(name), most=None)
    reasons: list[Reason] = [(status, clip(text, 300), n) for status, n, text in listed[:MAX_REASONS]]
    if rest := listed[MAX_REASONS:]:
        reasons.append(("other", f"{len(rest)} more kinds of reason", sum(count for _, count, _ in rest)))
    return Counts(stage=name, **store.counts(name)), reasons


def _evals(results: tuple[SetResult, ...]) -> dict[str, list[SetResult]]:
    """Results by set, policies in the order base, sft, ppo and then by name."""

    def rank(result: SetResult) -> tuple[int, str]:
        name = result.policy
        return (_POLICIES.index(name) if name in _POLICIES else len(_POLICIES), name)

    names = sorted({result.set for result in results})
    return {name: sorted((r for r in results if r.set == name), key=rank) for name in names}
