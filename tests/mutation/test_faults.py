"""Plant each classic fault in a copy of the package: the test named for it must fail."""

import os
import shutil
import subprocess
import sys

import pytest
from mutation.faults import FAULTS
from places import ROOT

PACKAGE = ROOT / "src" / "constitute"


def run_tests(source, *tests):
    """The exit status and output of pytest on the package under `source`: 0 passed, 1 failed."""
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    # The log is left out: the assertion that failed is what the last lines have to show.
    quiet = ["-q", "--tb=short", "-rf", "--show-capture=no", "-p", "no:cacheprovider"]
    words = [sys.executable, "-m", "pytest", "-x", *quiet, *tests]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout + done.stderr


def copy_package(folder):
    shutil.copytree(PACKAGE, folder / "constitute", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_every_fault_can_still_be_planted(fault):
    assert (PACKAGE / fault.file).read_text(encoding="utf-8").count(fault.old) == 1
    file, _, test = fault.test.partition("::")
    assert f"def {test.partition('[')[0]}(" in (ROOT / file).read_text(encoding="utf-8")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_without_a_fault_the_tests_pass(tmp_path):
    source = copy_package(tmp_path)
    probe = "import constitute; print(constitute.__file__)"
    environment = os.environ | {"PYTHONPATH": str(source)}
    found = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    # The copy is what the tests import, not the checkout.
    assert found.stdout.strip().startswith(str(source))
    status, output = run_tests(source, *dict.fromkeys(fault.test for fault in FAULTS))
    assert status == 0, output[-3000:]


@pytest.mark.long
@pytest.mark.timeout(700)
@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_the_fault_is_noticed(tmp_path, fault):
    source = copy_package(tmp_path)
    path = source / "constitute" / fault.file
    text = path.read_text(encoding="utf-8")
    assert text.count(fault.old) == 1
    path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    status, output = run_tests(source, fault.test)
    # 1 is a test that failed; anything else would be a broken copy or a test that was not found.
    assert status == 1, f"{fault.name} went unnoticed by {fault.test}\n{output[-3000:]}"
    assert "SyntaxError" not in output and "ImportError" not in output, output[-3000:]
