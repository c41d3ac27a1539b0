"""Start NeMo-RL on a run that was handed over: `uv run python DIR/launch.py`, from a checkout of NeMo-RL."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

from constitute_environment import process
from nemo_rl.data.processors import register_processor
from nemo_rl.distributed.ray_actor_environment_registry import ACTOR_ENVIRONMENT_REGISTRY
from nemo_rl.distributed.virtual_cluster import PY_EXECUTABLES
from nemo_rl.environments.utils import register_env

HERE = Path(__file__).resolve().parent
ENVIRONMENT = "constitute_environment.ConstituteEnvironment"

# Workers of Ray, which start later, import the environment by its module's name.
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
register_processor("constitute", process)
ACTOR_ENVIRONMENT_REGISTRY[ENVIRONMENT] = PY_EXECUTABLES.SYSTEM
register_env("constitute", ENVIRONMENT)
# Their example, which the configuration stands on, lies in the checkout that this is started from.
own = (HERE / "nemo-rl.yaml").read_text(encoding="utf-8")
whole = HERE / "nemo-rl.here.yaml"
whole.write_text(own.replace("defaults: ", f"defaults: {Path.cwd()}/", 1), encoding="utf-8")
script = (HERE / "script.txt").read_text(encoding="utf-8").strip()
sys.argv = [script, "--config", str(whole), *sys.argv[1:]]
runpy.run_path(script, run_name="__main__")
