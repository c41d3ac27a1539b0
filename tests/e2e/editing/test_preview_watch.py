"""A person watches a constitution in a real terminal: saves it, breaks it, mends it, and ends with a key."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from places import ROOT

COMMAND = (
    "import sys; from constitute.cli.constitution.preview import preview; "
    "from constitute.cli.errors import run_and_exit; sys.exit(run_and_exit(preview))"
)
FILE = """name: mine
principles:
  - id: brief
    text: The reply should be brief.
  - id: polite
    text: The reply should be polite.
    probes:
      - prompt: Tell me how to clean the kettle.
        expect: no rude word
"""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen:
    """A child process on a terminal of its own, and everything it has printed."""

    def __init__(self, pid: int, terminal: int) -> None:
        self.pid, self.terminal, self.raw = pid, terminal, b""

    @property
    def text(self) -> str:
        return ESCAPES.sub("", self.raw.decode("utf-8", "replace")).replace("\r\n", "\n")

    def wait(self, wanted: str, since: int = 0, seconds: float = 240.0) -> str:
        """What stands on the screen after place `since`, once `wanted` (a pattern) is there."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if re.search(wanted, self.text[since:]):
                return self.text[since:]
            if not self._read(0.1):
                break
        raise AssertionError(f"no {wanted!r} on the screen:\n{self.text[since:]}")

    def end(self, seconds: float = 120.0) -> int:
        """The exit code, once the child has ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
        raise AssertionError(f"still running:\n{self.text}")

    def _read(self, seconds: float) -> bool:
        if not select.select([self.terminal], [], [], seconds)[0]:
            return True
        try:
            more = os.read(self.terminal, 65536)
        except OSError:
            return False
        self.raw += more
        return bool(more)


@contextmanager
def on_a_terminal(*options: str, columns: int = 140) -> Iterator[Screen]:
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        environment = {**os.environ, "TERM": "xterm", "PYTHONWARNINGS": "ignore"}
        for name in ("NO_COLOR", "COLUMNS", "LINES"):
            environment.pop(name, None)
        os.execve(sys.executable, [sys.executable, "-c", COMMAND, *options], environment)
    screen = Screen(pid, terminal)
    try:
        yield screen
    finally:
        if screen.pid:
            os.kill(screen.pid, signal.SIGKILL)
            os.waitpid(screen.pid, 0)
        os.close(terminal)


def save(path: Path, text: str) -> None:
    """As many editors do: write beside, then rename into place."""
    beside = path.with_suffix(".new")
    beside.write_text(text, encoding="utf-8")
    beside.rename(path)


def test_saves_are_shown_as_they_are_made_until_q(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(FILE, encoding="utf-8")
    options = [str(path), "--watch", "--model", "m", "--set", "engine.kind=fake"]
    options += ["--cache", str(tmp_path / "cache")]
    with on_a_terminal(*options) as screen:
        first = screen.wait(r"preview: 2 principles; 16 of 16 probes asked \(80 of 80 questions\)")
        held = len(re.findall(r"^polite  P\(", first, flags=re.M))
        assert held + len(re.findall(r"^brief  P\(", first, flags=re.M)) == 16 and 0 < held < 16
        assert "expected: no rude word" in first
        at = len(screen.text)
        save(path, FILE.replace("should be polite.", "must be very polite."))
        shown = screen.wait(
            r"edit 1: 1 of 2 principles changed \(polite\); \d+ of 16 probes asked again .*s\n", at
        )
        assert f"{held} of 16 probes asked again ({4 * held} of 80 questions)" in shown
        assert "\x1b[1;32m" in screen.raw.decode()
        assert (
            len(re.findall(r"^polite  P\(revision preferred\) 0\.\d+ -> 0\.\d+", shown, flags=re.M)) == held
        )
        assert re.search(r"critique, before: .* critique, after: ", shown) and "brief  P" not in shown
        assert "response, before" not in shown
        at = len(screen.text)
        save(path, FILE.replace("id: brief", "id: Brief"))
        broken = screen.wait(r"still showing the last file", at)
        assert f"{path}:3:9: the id 'Brief' must be" in broken
        at = len(screen.text)
        path.write_text("", encoding="utf-8")
        path.write_text(
            "# a note\n" + FILE.replace("should be polite.", "must be very polite."), encoding="utf-8"
        )
        shown = screen.wait(r"edit 2: 0 of 2 principles changed; 0 of 16 probes asked again \(0 of 80", at)
        os.write(screen.terminal, b"xq")
        assert screen.end() == 0
        assert "Traceback" not in screen.text and "interrupted" not in screen.text


def test_control_c_ends_quietly_and_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(FILE, encoding="utf-8")
    options = [str(path), "--watch", "--model", "m", "--set", "engine.kind=fake", "-n", "8"]
    with on_a_terminal(*options, "--cache", str(tmp_path / "cache"), columns=60) as screen:
        before = termios.tcgetattr(screen.terminal)
        screen.wait(r"watching .*q\s+ends")
        shown = screen.wait(r"preview: .* s\n")
        assert max(len(line) for line in shown.splitlines() if line.startswith("  ")) <= 60
        assert termios.tcgetattr(screen.terminal)[3] & termios.ICANON == 0
        os.write(screen.terminal, b"\x03")
        assert screen.end() == 130
        assert "Traceback" not in screen.text and "interrupted" not in screen.text
        assert termios.tcgetattr(screen.terminal)[3] == before[3]


def test_pocket_shows_what_an_edit_does(tmp_path: Path) -> None:
    source = (ROOT / "src/constitute/pocket/constitutions/harmless.yaml").read_text(encoding="utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(source, encoding="utf-8")
    options = [str(path), "--watch", "--model", "pocket", "--set", "engine.kind=transformers"]
    with on_a_terminal(*options, "--cache", str(tmp_path / "cache")) as screen:
        # Loading a model beside busy processes takes minutes.
        first = screen.wait(r"preview: 14 principles; 16 of 16 probes asked.* s\n", seconds=300)
        held = len(re.findall(r"^no-help-acts-cruelty  P\(", first, flags=re.M))
        assert held >= 1
        at = len(screen.text)
        save(
            path,
            source.replace("Explain how the last reply helps with", "Say if the last reply takes part in"),
        )
        shown = screen.wait(r"edit 1: 1 of 14 principles changed .*s\n", at)
        assert f"{held} of 16 probes asked again" in shown
        # Nothing that another principle was drawn for is shown again.
        assert set(re.findall(r"^(\S+)  P\(", shown, flags=re.M)) <= {"no-help-acts-cruelty"}
        os.write(screen.terminal, b"q")
        assert screen.end() == 0


def test_sigterm_ends_a_watch_that_a_shell_put_in_the_background(tmp_path: Path) -> None:
    """A shell starts background jobs with SIGINT ignored; SIGTERM must end them all the same."""
    file = tmp_path / "mine.yaml"
    file.write_text(FILE)
    options = [str(file), "--watch", "--json", "--model", "fake", "--set", "engine.kind=fake"]
    child = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *options, "--cache", str(tmp_path / "cache")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        assert child.stdout is not None
        for line in child.stdout:
            if '"done"' in line:
                break
        child.terminate()
        assert child.wait(120) == 130
    finally:
        child.kill()
        child.wait()
