"""The entry of the command, as `racebench` and as `python -m racebench`.

Signals are handled first: what the command imports takes longer than many a person waits before Ctrl-C. Until
racebench.cli.main handles them there is nothing to clean up.
"""

from __future__ import annotations

import gc
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

#: New objects between two collections. Imports make many that stay: to look through them takes a tenth of their time.
_COLLECT_AFTER = 50_000
_INTERRUPTED = 130  # ExitCode.INTERRUPTED, which would have to be imported


def main() -> NoReturn:
    """Run the command line and exit."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup, a shell's background job
            signal.signal(number, _end)
    gc.set_threshold(_COLLECT_AFTER)
    # With -m, Python has put the working folder first; its modules are not racebench's. `--call` puts it back.
    if (
        not sys.flags.safe_path
        and sys.path[0] == os.getcwd()  # noqa: PTH109 - pathlib would be imported from there
        and not __file__.startswith(sys.path[0] + os.sep)
    ):
        del sys.path[0]
    from racebench.cli.main import leave, run_program

    leave(run_program())


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    os.write(2, b"racebench: interrupted; no server, worker or schema is left\n")
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
