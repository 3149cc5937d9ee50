"""What the figures of benchmarks rest on."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.measurement import ROOT


def test_a_command_that_is_measured_does_not_compile_its_modules_each_time() -> None:
    """As one that pip has installed: else its start is compared with that of libraries which are compiled."""
    program = (
        "import os, sys\nimport benchmarks.measurement\n"
        "print('PYTHONDONTWRITEBYTECODE' in os.environ, sys.dont_write_bytecode)"
    )
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]
