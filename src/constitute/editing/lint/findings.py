"""Find what is wrong or doubtful in a constitution file: rules over its text, without a model.

A finding of a rule is silenced by a comment `# lint: allow RULE` (several, separated by commas) on a line
of its principle or just above its `- id:`. What the loader refuses cannot be silenced.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from constitute.constitution.read import select
from constitute.editing.lint import whole
from constitute.editing.lint.document import Document, Remark, quoted, read_document
from constitute.editing.lint.examples import EXAMPLES
from constitute.editing.lint.rules import WORDING, Rule
from constitute.errors import ConstituteError, UsageError
from constitute.packaged import find
from constitute.strict_yaml import read_bytes
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
    """The findings of one file by place, how many were silenced, its bytes, and what could be loaded."""

    file: str
    data: bytes
    findings: tuple[Finding, ...]
    silenced: int
    constitution: Constitution | None


def unknown_rules(document: Document) -> Iterator[Remark]:
    """A comment allows a rule that does not exist, or stands at no principle, and so silences nothing."""
    for comment in document.allowed:
        for name in comment.rules:
            if name not in names():
                said = f"there is no rule {quoted(name)} to allow"
                yield Remark(
                    comment.entry, (comment.line, comment.column), said, "see lint --rules for the names"
                )
            elif name in ERRORS:
                said = f"the rule {quoted(name)} is what the loader refuses, which cannot be allowed"
                yield Remark(comment.entry, (comment.line, comment.column), said, "mend what it names")
        if comment.entry is None or not comment.rules:
            said = "this comment allows nothing: it " + (
                "stands at no principle" if comment.rules else "names no rule"
            )
            fix = "write '# lint: allow RULE' on a line of the principle or just above it"
            yield Remark(comment.entry, (comment.line, comment.column), said, fix)


ERRORS: dict[str, Rule] = {"syntax": whole.syntax, "schema": whole.schema}
WARNINGS: dict[str, Rule] = {
    "near-duplicate": whole.near_duplicates,
    "opposite-wording": whole.opposites,
    "copied-form": whole.copied_forms,
    **{name: rule for name, rule in WORDING.items() if name != "template-syntax"},
    "length": whole.length,
    "never-drawn": whole.never_drawn,
    "empty-tag": whole.empty_tags,
    "similar-tags": whole.similar_tags,
    "unknown-rule": unknown_rules,
}
NOTES: dict[str, Rule] = {
    "template-syntax": WORDING["template-syntax"],
    "single-tag": whole.single_tags,
    **EXAMPLES,
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
    "fails-examples": "The judge prefers the worse answer of the principle's own examples.",
    "judge-too-weak": "The judge tells too little for principles to be compared.",
}


def names() -> tuple[str, ...]:
    """Every rule's name, errors first, then warnings, notes and what needs a model."""
    return (*FILE_RULE, *RULES, *MODEL_RULES)


def sentences() -> dict[str, str]:
    """What each rule finds, in one sentence."""
    documented = {name: (rule.__doc__ or "").strip().split("\n")[0] for name, rule in RULES.items()}
    return {**FILE_RULE, **documented, **MODEL_RULES}


def check_allowed(allow: Collection[str]) -> None:
    """Raise `UsageError` for a name that is no rule, or a rule that cannot be allowed."""
    for name in allow:
        if name in ERRORS or name in FILE_RULE:
            raise UsageError(f"--allow {name}: what cannot be loaded cannot be allowed; mend what it names")
        if name not in names():
            near = get_close_matches(name, names(), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "lint --rules lists them"
            raise UsageError(f"--allow {name}: there is no such rule; {hint}")


def severity(rule: str) -> Severity:
    """The severity of a finding of a rule that needs no model."""
    return "error" if rule in ERRORS or rule in FILE_RULE else ("note" if rule in NOTES else "warning")


def lint(data: bytes, file: str | Path, allow: Collection[str] = ()) -> Linted:
    """Every finding of the rules in the bytes of a file, without those of `allow`. Never raises."""
    document = read_document(data)
    kept: list[Finding] = []
    silenced = 0
    for name, rule in RULES.items():
        for found in rule(document):
            if name not in ERRORS and (name in allow or _allowed(document, name, found.entry)):
                silenced += 1
                continue
            kept.append(_finding(str(file), name, found, document))
    ordered = tuple(sorted(kept, key=lambda f: (f.line, f.column)))
    return Linted(str(file), data, ordered, silenced, document.constitution)


def lint_file(file: str, allow: Collection[str] = (), tags: Sequence[str] = ()) -> Linted:
    """`lint` of a file or a packaged constitution; one that cannot be opened is a finding like others.

    With `tags`, what is found about other principles is left out. Raises `UsageError` for a tag that the
    constitution does not have.
    """
    path = file
    try:
        path = str(find(file, "constitutions", ".yaml"))
        data = read_bytes(Path(path))
    except (ConstituteError, OSError) as problem:
        what, fix = _unopened(file, problem)
        finding = Finding(file=path, line=1, column=1, severity="error", rule="file", message=what, fix=fix)
        return Linted(path, b"", (finding,), 0, None)
    linted = lint(data, path, allow)
    if not tags or linted.constitution is None:
        return linted
    chosen = select(linted.constitution, tags)
    about = {principle.id for principle in chosen.principles}
    findings = tuple(f for f in linted.findings if f.severity == "error" or f.principle in {"", *about})
    return linted._replace(findings=findings, constitution=chosen)


def _unopened(file: str, problem: Exception) -> tuple[str, str]:
    """What is wrong with a file that cannot be opened, and what to do."""
    path = Path(file)
    if isinstance(problem, OSError) and not isinstance(problem, ValueError):
        return f"the file cannot be read ({problem.strerror or problem})", "check its name and permissions"
    if path.is_dir():
        return "this is a folder", "name the YAML file in it"
    if path.is_symlink() and not path.exists():
        return "this is a link to a file that is not there", "mend the link, or name the file itself"
    if path.exists() and not path.is_file():
        return "this is a pipe or a device, not a file", "write the constitution to a file first"
    said, _, fix = str(problem).removeprefix(f"{file}:1:1: ").rpartition("; ")
    return said, fix


def place_findings(
    findings: Sequence[Finding], data: bytes, file: str | Path, allow: Collection[str] = ()
) -> tuple[list[Finding], int]:
    """Findings about principles, as a model's checks give them, with places; and how many are allowed."""
    document = read_document(data)
    numbers = {entry.id: at for at, entry in enumerate(document.entries)}
    kept: list[Finding] = []
    for finding in findings:
        at = numbers.get(finding.principle)
        if finding.rule in allow or _allowed(document, finding.rule, at):
            continue
        line, column = (1, 1) if at is None else document.entries[at].place("id")
        kept.append(finding.model_copy(update={"file": str(file), "line": line, "column": column}))
    return kept, len(findings) - len(kept)


def _allowed(document: Document, rule: str, entry: int | None) -> bool:
    return entry is not None and any(entry == each.entry and rule in each.rules for each in document.allowed)


def _finding(file: str, rule: str, found: Remark, document: Document) -> Finding:
    return Finding(
        file=file,
        line=found.place[0],
        column=found.place[1],
        severity=severity(rule),
        rule=rule,
        principle="" if found.entry is None else document.entries[found.entry].id,
        message=found.message,
        fix=found.fix,
        figure=found.figure,
    )
