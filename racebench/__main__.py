"""`python -m racebench` is the same command as `racebench`."""

import os
import sys

# Python has put the working folder first; its modules are not racebench's. `--call` puts it back.
if not sys.flags.safe_path and sys.path[0] == os.getcwd() and not __file__.startswith(sys.path[0] + os.sep):  # noqa: PTH109
    del sys.path[0]

from racebench.cli.main import main

main()
