"""Find what is wrong or doubtful in a constitution file: rules over its text, without a model.

A finding of a rule is silenced by a comment `# lint: allow RULE` (several, separated by commas) on a line
of its principle or just above its `- id:`. What the loader refuses cannot be silenced.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from constitute.editing.lint import alike as lint_alike
from constitute.editing.lint import whole as lint_whole
from constitute.editing.lint.document import Found, Place, Sheet, quoted, read_sheet
from constitute.editing.lint.rules import WORDING, Rule
from constitute.types import Constitution, Record

Severity = Literal["error", "warning", "note"]


class Finding(Record):
    """One thing found in a constitution file, where it stands and what to do about it.

    `line` and `column` count from 1; 0 where the finding is about no place in the file. `principle` is an id
    or empty. `figure` holds what was measured, by name.
    """

    file: str = ""
    line: int = 0
    column: int = 0
    severity: Severity
    rule: str
    principle: str = ""
    message: str
    fix: str = ""
    figure: dict[str, float] = Field(default_factory=dict)


class Linted(NamedTuple):
    """The findings of one file in their order in it, how many were silenced, and what could be loaded."""

    findings: tuple[Finding, ...]
    silenced: int
    constitution: Constitution | None


def unknown_rules(sheet: Sheet) -> Iterator[Found]:
    """A comment allows a rule that there is not, or speaks of no principle, and so silences nothing."""
    for comment in sheet.allowed:
        for name in comment.rules:
            if name not in names():
                said = f"there is no rule {quoted(name)} to allow"
                yield Found(
                    comment.entry, (comment.line, comment.column), said, "see lint --rules for the names"
                )
            elif name in ERRORS:
                said = f"the rule {quoted(name)} is what the loader refuses, which cannot be allowed"
                yield Found(comment.entry, (comment.line, comment.column), said, "mend what it names")
        if comment.entry is None or not comment.rules:
            said = "this comment allows nothing: it " + (
                "stands at no principle" if comment.rules else "names no rule"
            )
            fix = "write '# lint: allow RULE' on a line of the principle or just above it"
            yield Found(comment.entry, (comment.line, comment.column), said, fix)


ERRORS: dict[str, Rule] = {"syntax": lint_whole.syntax, "schema": lint_whole.schema}
WARNINGS: dict[str, Rule] = {
    "near-duplicate": lint_alike.near_duplicates,
    "opposite-wording": lint_alike.opposites,
    "copied-form": lint_alike.copied_forms,
    **{name: rule for name, rule in WORDING.items() if name != "template-syntax"},
    "length": lint_whole.length,
    "never-drawn": lint_whole.never_drawn,
    "empty-tag": lint_whole.empty_tags,
    "similar-tags": lint_whole.similar_tags,
    "unknown-rule": unknown_rules,
}
NOTES: dict[str, Rule] = {
    "template-syntax": WORDING["template-syntax"],
    "single-tag": lint_whole.single_tags,
}
RULES: dict[str, Rule] = {**ERRORS, **WARNINGS, **NOTES}
# A file that cannot be opened has no text for a rule to read.
FILE_RULE = {"file": "The file cannot be opened, or is too large."}
# What a model is asked for; their checks need its votes and stand elsewhere.
MODEL_RULES = {
    "contradiction": "Two principles pull the same pairs opposite ways.",
    "redundant": "Principles cast the same votes, so that they count several times.",
    "wording-unstable": "The principle's votes change when its compare form is said in other words.",
    "negation-blind": "The principle's votes stay as they are when its compare form is turned round.",
    "order-bias": "The principle's votes follow the order in which the replies are shown.",
    "never-decides": "The principle decides none of the pairs.",
}


def names() -> tuple[str, ...]:
    """Every rule's name, errors first, then warnings, notes and what needs a model."""
    return (*FILE_RULE, *RULES, *MODEL_RULES)


def sentences() -> dict[str, str]:
    """What each rule finds, in one sentence."""
    documented = {name: (rule.__doc__ or "").strip().split("\n")[0] for name, rule in RULES.items()}
    return {**FILE_RULE, **documented, **MODEL_RULES}


def severity(rule: str) -> Severity:
    """How grave a finding of a rule that needs no model is."""
    return "error" if rule in ERRORS or rule in FILE_RULE else ("note" if rule in NOTES else "warning")


def lint(data: bytes, file: str | Path, allow: Collection[str] = ()) -> Linted:
    """Every finding of the rules in the bytes of a file, without those of `allow`. Never raises."""
    sheet = read_sheet(data)
    kept: list[Finding] = []
    silenced = 0
    for name, rule in RULES.items():
        for found in rule(sheet):
            if name not in ERRORS and (name in allow or _allowed(sheet, name, found.entry)):
                silenced += 1
                continue
            kept.append(_finding(str(file), name, found, sheet))
    return Linted(tuple(sorted(kept, key=lambda f: (f.line, f.column))), silenced, sheet.constitution)


def place_findings(
    findings: Sequence[Finding], data: bytes, file: str | Path, allow: Collection[str] = ()
) -> tuple[list[Finding], int]:
    """Findings about principles, as a model's checks give them, with places; and how many are allowed."""
    sheet = read_sheet(data)
    numbers = {entry.id: at for at, entry in enumerate(sheet.entries)}
    kept: list[Finding] = []
    for finding in findings:
        at = numbers.get(finding.principle)
        if finding.rule in allow or _allowed(sheet, finding.rule, at):
            continue
        line, column = (1, 1) if at is None else sheet.entries[at].place("id")
        kept.append(finding.model_copy(update={"file": str(file), "line": line, "column": column}))
    return kept, len(findings) - len(kept)


def places(data: bytes) -> dict[str, dict[str, Place]]:
    """Line and column (from 1) of each principle's values by id and key; the principle's own under ""."""
    return {entry.id: dict(entry.places) for entry in read_sheet(data).entries if entry.id}


def _allowed(sheet: Sheet, rule: str, entry: int | None) -> bool:
    return entry is not None and any(entry == each.entry and rule in each.rules for each in sheet.allowed)


def _finding(file: str, rule: str, found: Found, sheet: Sheet) -> Finding:
    return Finding(
        file=file,
        line=found.place[0],
        column=found.place[1],
        severity=severity(rule),
        rule=rule,
        principle="" if found.entry is None else sheet.entries[found.entry].id,
        message=found.message,
        fix=found.fix,
        figure=found.figure,
    )
