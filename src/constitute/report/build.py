"""Build the report of a run from its store and files, and write it as one HTML file that runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constitute.config.evals import EvalsConfig
from constitute.editing.trial.junit import outcome
from constitute.editing.trial.known import last_result
from constitute.editing.words import word_diff
from constitute.evals.kinds import kind_changes, results_pairs
from constitute.evals.run import SetResult
from constitute.files import write_text
from constitute.pipeline import Counts
from constitute.report.charts import curve, histogram, steps
from constitute.report.names import figure_title, stage_titles
from constitute.report.page import clip, render_page
from constitute.report.policies import Policies, Shift, eval_shift, policies_of, rank, traces_of
from constitute.report.read import MadeUnder, Manifest, RunFiles, read_run
from constitute.report.rows import chains_of, labels_of, principles_of, ranked
from constitute.report.show import show_figure, show_interval, show_reach, show_shift
from constitute.report.training import Figure, figure_of, trained
from constitute.report.verdict import KINDS, conclusions
from constitute.report.view import Reason, Report, StageRows
from constitute.store import Store
from constitute.store.unfinished import unfinished
from constitute.text import grouped_reasons

if TYPE_CHECKING:
    from markupsafe import Markup

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
        "shift": show_shift,
        "reach": show_reach,
        "changes_to": _changes,
        "number": _number,
        "outcome": outcome,
        "figure_title": figure_title,
        "histogram": histogram,
        "steps": _steps,
        "drawn": lambda one: curve(one.points, one.x_name, one.smooth),
    }
    found = conclusions(report)
    said = {kind: [one.sentence for one in found if one.kind == kind] for kind in KINDS}
    return render_page("report.html.j2", ["report.css"], filters, report=report, said=said)


def _steps(policies: Policies) -> Markup | str:
    """The policies drawn, or nothing where there is nothing to draw."""
    traces = traces_of(policies)
    return steps(traces, policies.names) if traces else ""


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
        facts=[(name, str(value)) for name, value in _facts(files) if value not in (None, "")],
        policies=policies_of(files.summary),
        said=_sentences(files.summary),
        headline=list(_headline(files.summary)),
        stages=_stages(store),
        unfinished=unfinished(store),
        constitution=(files.manifest.constitution or MadeUnder()).name,
        principles=principles,
        principles_note=" ".join(part for part in (files.constitution_note, principles_note) if part),
        trial=last_result(store),
        labels=labels,
        chains=shown,
        chains_of=total,
        training=[trained(one) for one in files.training],
        evals=_evals(files.results),
        kinds=kind_changes(results_pairs(_in_order(files.results)), EvalsConfig()),
    )


def _changes(before: str, after: str) -> list[tuple[str, str]]:
    """(kept, gone or new; text) for each stretch of words, of texts that have been clipped."""
    return [(kind, text) for kind, text in word_diff(clip(before), clip(after))]


def _facts(files: RunFiles) -> list[tuple[str, Any]]:
    """What made the run, from its manifest; nothing where it has none."""
    manifest = files.manifest
    if manifest == Manifest():
        return []
    written = datetime.fromtimestamp(files.written, UTC).isoformat()
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
        ("last written", _time(max(manifest.updated, written))),
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


def _sentences(summary: Mapping[str, Any]) -> list[str]:
    """What the run's own summary says of it, a sentence each."""
    said = summary.get("said")
    return [one for one in said if isinstance(one, str)] if isinstance(said, list) else []


def _headline(summary: Mapping[str, Any]) -> Iterator[tuple[str, Figure, bool]]:
    for path, name, percent in _HEADLINE:
        value: Any = summary
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if (shown := figure_of(value)) is not None:
            yield name, shown, percent


def _stages(store: Store) -> list[StageRows]:
    titles = stage_titles(store.stages())
    return [
        StageRows(title, Counts(stage=name, **store.counts(name)), _reasons(store, name))
        for name, title in titles.items()
    ]


def _reasons(store: Store, stage: str) -> tuple[Reason, ...]:
    listed = grouped_reasons(store.reasons(stage), most=None)
    reasons: list[Reason] = [(status, clip(text, 300), n) for status, n, text in listed[:MAX_REASONS]]
    if rest := listed[MAX_REASONS:]:
        reasons.append(("other", f"{len(rest)} more kinds of reason", sum(count for _, count, _ in rest)))
    return tuple(reasons)


def _in_order(results: tuple[SetResult, ...]) -> list[SetResult]:
    return sorted(results, key=lambda one: (one.set, rank(one.policy)))


def _evals(results: tuple[SetResult, ...]) -> dict[str, list[tuple[SetResult, Shift | None]]]:
    """Results by set, policies in their order, each with its shift from the first."""
    found: dict[str, list[tuple[SetResult, Shift | None]]] = {}
    for result in _in_order(results):
        rows = found.setdefault(result.set, [])
        rows.append((result, eval_shift(rows[0][0], result) if rows else None))
    return found
