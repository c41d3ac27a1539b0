"""Turn an exception into one sentence on stderr and the exit code that belongs to it."""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback

import click

from constitute.errors import ConstituteError, ExitCode
from constitute.text import harmless


def run_and_exit(command: click.Command) -> int:
    """Run `command` on the process's arguments and return its exit code; traceback only with `--debug`."""
    debug = "--debug" in sys.argv or bool(os.environ.get("CONSTITUTE_DEBUG"))
    # A script's shell starts background jobs with SIGINT ignored, and then no signal would end them in order.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A scheduler's SIGTERM ends a run the way Ctrl-C does: what was acknowledged is on disk already.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        result = command.main(standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _say("interrupted; run the same command again to continue", ExitCode.INTERRUPTED)
    except click.ClickException as problem:
        said = io.StringIO()
        problem.show(file=said)
        click.echo(harmless(said.getvalue()), err=True, nl=False)
        return problem.exit_code if problem.exit_code != 1 else ExitCode.USAGE
    except ConstituteError as problem:
        if debug:
            traceback.print_exc()
        return _say(str(problem), problem.exit_code)
    except BrokenPipeError:
        # The reader of stdout went away (`| head`): not an error of ours, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as problem:
        if debug:
            traceback.print_exc()
        return _say(
            f"{problem.strerror or problem}: {problem.filename or 'no file name given'}", ExitCode.USAGE
        )


def _say(sentence: str, code: int) -> int:
    from constitute.cli.text import say

    say(f"constitute: {sentence}", red=code == ExitCode.GATE_FAILED)
    return code
