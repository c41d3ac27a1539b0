"""What commands say while a person waits."""

from __future__ import annotations

import time

import pytest

from constitute.cli.text import said_if_slow


def test_what_is_slow_is_said_once_and_what_is_quick_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with said_if_slow("reading a.yaml", after_s=5.0):
        pass
    assert capsys.readouterr().err == ""
    with said_if_slow("reading a.yaml", after_s=0.01):
        time.sleep(0.3)
    assert capsys.readouterr().err == "reading a.yaml …\n"
