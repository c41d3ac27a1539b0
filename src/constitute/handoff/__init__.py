"""Hand a run over to a trainer for many machines: data, reward and settings, in that one's words."""

from __future__ import annotations

from constitute.handoff import nemo_rl, openrlhf, verl
from constitute.handoff.base import Target

# Name on the command line -> what is written for it. A further one is a module and an entry here.
TARGETS: dict[str, Target] = {
    "openrlhf": openrlhf.TARGET,
    "verl": verl.TARGET,
    "nemo-rl": nemo_rl.TARGET,
}
