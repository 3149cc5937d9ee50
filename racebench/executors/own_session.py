"""Imported first by the server that forks local machines: it and they get a session of their own.

The Ctrl-C of a terminal reaches the processes of its session. The command alone handles it, and ends the machines.
"""

import contextlib
import os

with contextlib.suppress(OSError):  # this process leads a group already
    os.setsid()
