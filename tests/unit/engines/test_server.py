"""The command line of the server that `serve` starts."""

from __future__ import annotations

import pytest

from constitute.engines.server import ServeOptions, check, command, environment
from constitute.errors import UsageError


@pytest.mark.parametrize("on_cpu", [True, False])
def test_the_models_own_sampling_defaults_do_not_act(on_cpu):
    words = command(ServeOptions(model="m"), on_cpu=on_cpu)
    assert words[words.index("--generation-config") + 1] == "vllm"


def test_serving_rollouts_opens_the_control_routes_on_loopback_only(monkeypatch):
    monkeypatch.delenv("VLLM_SERVER_DEV_MODE", raising=False)
    with pytest.raises(UsageError, match=r"--rollouts with --host 0\.0\.0\.0 .* use --host 127\.0\.0\.1"):
        check(ServeOptions(model="pocket", host="0.0.0.0", allow_remote=True, rollouts=True))
    words = command(ServeOptions(model="m", rollouts=True), on_cpu=True)
    assert words[words.index("--worker-extension-cls") + 1] == "constitute.engines.vllm.worker.WeightSync"
    assert environment(rollouts=True)["VLLM_SERVER_DEV_MODE"] == "1"
    assert "--worker-extension-cls" not in command(ServeOptions(model="m"), on_cpu=True)
    assert "VLLM_SERVER_DEV_MODE" not in environment()
