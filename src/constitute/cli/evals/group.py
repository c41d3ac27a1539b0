"""`constitute evals`: the group of its commands."""

from __future__ import annotations

from constitute.cli import options
from constitute.cli.evals.bias import bias
from constitute.cli.evals.check import check
from constitute.cli.evals.compare import compare, power
from constitute.cli.evals.exchange import export, import_
from constitute.cli.evals.gate import gate
from constitute.cli.evals.page import page
from constitute.cli.evals.review import review
from constitute.cli.evals.reward import reward
from constitute.cli.evals.run import list_sets, run
from constitute.cli.evals.write import write


@options.group()
def evals() -> None:
    """Write model-written evals (arXiv 2212.09251), score policies on them, compare the scores.

    \b
    Examples:
      constitute evals write --model pocket --behavior "insults the user" -n 20
      constitute evals run --model pocket
    """


for command in (
    write,
    gate,
    review,
    check,
    run,
    list_sets,
    compare,
    power,
    page,
    export,
    import_,
    bias,
    reward,
):
    evals.add_command(command)
