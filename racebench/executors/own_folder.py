"""Loaded by each local machine before its first task: it uses the folder for temporary files that its TMPDIR names.

The process that machines are forked from lives as long as the command, and may have looked up an earlier folder.
"""

import os
import tempfile


def dask_setup(_machine: object) -> None:
    """Called by Dask."""
    tempfile.tempdir = os.environ["TMPDIR"]
