"""Show previews on a terminal, before and after side by side, or as JSON events."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, TextIO

from constitute.cli.text import counted, harmless

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from constitute.editing.preview.plan import Edits, Moved, ShownProbe
    from constitute.editing.preview.run import Round, RoundPlan

# Two columns of fewer characters than half of this are harder to read than one.
WIDE = 100
GONE, NEW = "red strike", "bold green"


class Lines:
    """JSON events, one a line. Implements `Screen`."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def note(self, text: str) -> None:
        self._write(event="note", text=text)

    def problem(self, text: str) -> None:
        self._write(event="problem", text=text)

    def begin(self, edit: int, plan: RoundPlan) -> None:
        edits = None if plan.edits is None else plan.edits.model_dump(mode="json")
        self._write(
            event="round",
            edit=edit,
            principles=len(plan.constitution.principles),
            edits=edits,
            probes=len(plan.order),
            asking=[each.probe.id for each in plan.touched],
            notes=list(plan.notes),
        )

    def probe(self, edit: int, moved: Moved) -> None:
        values = moved.model_dump(mode="json")
        self._write(event="probe", edit=edit, id=moved.after.id, moved=not moved.same, **values)

    def end(self, edit: int, plan: RoundPlan, found: Round, seconds: float) -> None:
        self._write(
            event="done",
            edit=edit,
            probes=len(plan.order),
            probes_asked=found.asked_probes,
            probes_moved=found.moved,
            probes_failed=found.failed,
            questions=found.questions,
            questions_asked=found.asked,
            first_s=None if found.first_s is None else round(found.first_s, 3),
            seconds=round(seconds, 3),
        )

    def _write(self, **values: Any) -> None:
        print(json.dumps(values, ensure_ascii=True), file=self._out, flush=True)


class Terminal:
    """Text: two columns where there is room, else one above the other; marks where there are no colours.

    Implements `Screen`.
    """

    def __init__(self, out: TextIO, err: TextIO, width: int | None = None) -> None:
        from rich.console import Console

        class Piped(Console):
            """A console whose closed pipe is an error like any other, not an exit of the process."""

            def on_broken_pipe(self) -> None:
                raise BrokenPipeError

        self._coloured = out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._flat = width is None and not out.isatty()
        options: dict[str, Any] = {"markup": False, "highlight": False, "emoji": False, "width": width}
        self._out: Console = Piped(file=out, no_color=not self._coloured, **options)
        self._err: Console = Piped(file=err, no_color=not self._coloured, **options)
        self._alike = 0

    def note(self, text: str) -> None:
        self._err.print(harmless(text), style="dim" if self._coloured else "", soft_wrap=True)

    def problem(self, text: str) -> None:
        self._err.print(harmless(text), style="red" if self._coloured else "", soft_wrap=True)

    def begin(self, edit: int, plan: RoundPlan) -> None:
        self._alike = 0
        if not plan.touched and edit:
            return
        asking = f"{len(plan.touched)} of {counted(len(plan.order), 'probe')} to ask"
        self._rule(f"{_title(edit)}: {_changes(plan)}; {asking}")
        for text in plan.notes if not edit else ():
            self.note(f"note: {text}")

    def probe(self, edit: int, moved: Moved) -> None:
        if moved.same and edit:
            self._alike += 1
            return
        for line in probe_lines(moved, self._out.width >= WIDE, self._coloured):
            # A program that reads this wants each text in one line, with no spaces to fill the last column.
            self._out.print(_flat(line) if self._flat else line, soft_wrap=self._flat)

    def end(self, edit: int, plan: RoundPlan, found: Round, seconds: float) -> None:
        asked = f"{found.asked_probes} of {counted(len(plan.order), 'probe')} asked"
        again = " again" if edit or plan.before is not None else ""
        parts = [
            _changes(plan),
            f"{asked}{again} ({found.asked} of {counted(found.questions, 'question')})",
            f"{self._alike} came out as before" if self._alike else "",
            f"{found.failed} failed" if found.failed else "",
            f"{seconds:.1f} s",
        ]
        self._rule(f"{_title(edit)}: {'; '.join(part for part in parts if part)}")

    def _rule(self, text: str) -> None:
        self._out.print(harmless(text), style="bold" if self._coloured else "", soft_wrap=True)


def probe_lines(moved: Moved, wide: bool, coloured: bool) -> list[RenderableType]:
    """One probe as it is printed: heading, prompt, and each text once or before and after."""
    from rich.text import Text

    before, after = moved.before, moved.after
    heading = f"{after.principle_id}  {_preference(before, after)}"
    if before is not None and before.principle_id != after.principle_id:
        heading = f"{before.principle_id} -> {heading}"
    lines: list[RenderableType] = [Text(), Text(harmless(heading), style="bold cyan" if coloured else "")]
    lines += [_inset(message.role, Text(harmless(message.content))) for message in after.messages]
    if after.expect:
        lines.append(_inset("expected", Text(harmless(after.expect))))
    old, new = ({} if before is None else dict(before.parts)), dict(after.parts)
    for name in [*new, *(name for name in old if name not in new)]:
        if before is None or old.get(name) == new.get(name):
            lines.append(_inset(name, Text(harmless(new[name]))))
        else:
            lines += _compared(name, old.get(name, ""), new.get(name, ""), wide, coloured)
    if after.problem:
        lines.append(_inset("no preference", Text(harmless(after.problem))))
    return lines


def _compared(name: str, old: str, new: str, wide: bool, coloured: bool) -> list[RenderableType]:
    """Two versions of one text with the words marked that differ."""
    from rich.table import Table

    left, right = _marked(harmless(old), harmless(new), coloured)
    first, second = _inset(f"{name}, before", left), _inset(f"{name}, after", right)
    if not wide:
        return [first, second]
    grid = Table.grid(expand=True, padding=(0, 2, 0, 0))
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    grid.add_row(first, second)
    return [grid]


def _inset(name: str, text: Text) -> RenderableType:
    from rich.padding import Padding
    from rich.text import Text as Whole

    return Padding(Whole(f"{name}: ") + text, (0, 0, 0, 2), expand=False)


def _flat(line: RenderableType) -> RenderableType:
    """The line without the padding that fills a screen; a text's further lines are as far in as its first."""
    from rich.padding import Padding
    from rich.text import Text

    if not isinstance(line, Padding) or not isinstance(line.renderable, Text):
        return line
    return Text(" " * line.left + line.renderable.plain.replace("\n", "\n" + " " * line.left))


def _marked(old: str, new: str, coloured: bool) -> tuple[Text, Text]:
    """Both texts, words that are gone and words that are new coloured, or as [-gone-] and {+new+}."""
    from rich.text import Text

    from constitute.editing.words import word_diff

    left, right = Text(), Text()
    for kind, text in word_diff(old, new):
        if kind == "kept":
            left.append(text)
            right.append(text)
        elif kind == "gone":
            left.append(text if coloured else f"[-{text}-]", style=GONE if coloured else "")
        else:
            right.append(text if coloured else f"{{+{text}+}}", style=NEW if coloured else "")
    return left, right


def _preference(before: ShownProbe | None, after: ShownProbe) -> str:
    was, now = None if before is None else _p(before.p_revision), _p(after.p_revision)
    if was is None or (was == now == "-"):
        return f"P(revision preferred) {now}"
    if before is not None and before.p_revision is not None and after.p_revision is not None:
        step = f"{after.p_revision - before.p_revision:+.3f}"
        now = f"{now} ({'as before' if was == now else step})"
    return f"P(revision preferred) {now}" if "as before" in now else f"P(revision preferred) {was} -> {now}"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _title(edit: int) -> str:
    return f"edit {edit}" if edit else "preview"


def _changes(plan: RoundPlan) -> str:
    total = counted(len(plan.constitution.principles), "principle")
    if plan.edits is None:
        return total
    changed = len(plan.edits.ids)
    if changed > len(plan.constitution.principles):
        return f"{changed} principles changed or gone{_named(plan.edits)}, {total} now"
    return f"{changed} of {total} changed{_named(plan.edits)}"


def _named(edits: Edits) -> str:
    kinds = (
        ("", edits.edited),
        ("new ", edits.added),
        ("gone ", edits.removed),
        ("weight or level ", edits.reweighted),
    )
    names = [f"{kind}{name}" for kind, found in kinds for name in found]
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f" ({', '.join(names[:8])}{more})" if names else ""
