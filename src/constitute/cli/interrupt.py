"""Answer Ctrl-C at once: the first is acknowledged, the second ends the process.

Python runs a signal's handler when the main thread comes back from C code, which is seconds later while a
model is loaded, and a run in order still waits for the batch that the model is at. So a thread of its own
reads each signal from the file descriptor that Python's C handler writes to (`signal.set_wakeup_fd`).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from constitute.errors import ExitCode
from constitute.progress import first_process, heard
from constitute.text import harmless

STOPPING = "stopping, when the answers on their way are here and kept; Ctrl-C again ends now"
# One press may come twice, from the terminal and from a launcher that passes it on.
_ONE_PRESS_S = 0.3
_SHOW_CURSOR = b"\x1b[?25h"


def watch() -> None:
    """Answer SIGINT until the process ends; called once, from the main thread."""
    out, into = os.pipe()
    os.set_blocking(into, False)
    signal.set_wakeup_fd(into, warn_on_full_buffer=False)
    # A forked child would write to this process's pipe.
    os.register_at_fork(after_in_child=_unwatch)

    restore = _terminal()

    def answer() -> None:
        for again in presses(_signals(out), time.monotonic):
            if again:
                restore()
                # What was acknowledged is on disk, as after a SIGKILL.
                os._exit(ExitCode.INTERRUPTED)
            # Whoever holds the display's lock must not hold up the second press.
            threading.Thread(target=_acknowledge, daemon=True).start()

    threading.Thread(target=answer, name="interrupt", daemon=True).start()


def presses(signals: Iterator[int], clock: Callable[[], float]) -> Iterator[bool]:
    """False for the first wish to stop, True for each later one, of signal numbers as they come.

    A SIGTERM is passed on as a SIGINT (see `run_and_exit`), and the two are one wish.
    """
    first: float | None = None
    passed_on = 0
    for number in signals:
        if number == signal.SIGTERM:
            passed_on += 1
        elif number != signal.SIGINT:
            continue
        elif passed_on:
            passed_on -= 1
            continue
        now = clock()
        if first is None:
            first = now
            yield False
        elif number == signal.SIGINT and now - first >= _ONE_PRESS_S:
            yield True


def _signals(out: int) -> Iterator[int]:
    while read := os.read(out, 64):
        yield from read


def _unwatch() -> None:
    # Only a main thread may, and only one that has a descriptor must.
    with suppress(ValueError):
        signal.set_wakeup_fd(-1)


def _acknowledge() -> None:
    progress = heard()
    if progress is not None:
        progress.note(STOPPING)
    elif not first_process():
        return
    elif "--json" in sys.argv:
        print(json.dumps({"event": "note", "text": STOPPING}), flush=True)
    else:
        print(harmless(STOPPING), file=sys.stderr, flush=True)


def _terminal() -> Callable[[], None]:
    """How to leave the terminal as it is now: a display hides the cursor, a preview reads single keys."""
    import termios

    try:
        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
    except (OSError, ValueError, AttributeError, termios.error):
        return lambda: None

    def restore() -> None:
        with suppress(OSError, termios.error):
            # A background process that touches its settings is stopped.
            if os.tcgetpgrp(descriptor) == os.getpgrp():
                termios.tcsetattr(descriptor, termios.TCSANOW, before)
            if sys.stderr.isatty():
                os.write(sys.stderr.fileno(), _SHOW_CURSOR)

    return restore
