"""One embedded server for several processes that name the same share: pytest-xdist's workers.

The first process starts it, and stops it when it is done and the others have ended: each of those holds a shared lock
on a file, which ends with its process.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from racebench.core.target import Target
from racebench.postgres.embedded import EmbeddedServer
from racebench.postgres.embedded.folders import made_folder


@contextlib.contextmanager
def sharing(share: str, server: EmbeddedServer) -> Iterator[Target]:
    """Use the share's server, and start it if it is not running; raises DatabaseProblem as EmbeddedServer does."""
    folder = made_folder(server.version)
    stem = folder / f"shared-{hashlib.sha256(share.encode()).hexdigest()[:16]}"
    users, description = stem.with_suffix(".users"), stem.with_suffix(".json")
    with contextlib.ExitStack() as stack:
        with _locked(stem.with_suffix(".lock"), fcntl.LOCK_EX):
            if not description.exists():
                target = replace(stack.enter_context(server), exclusive=False)
                stack.callback(_close_share, description, users)
                description.write_text(json.dumps(asdict(target)))
            else:
                target = Target(**json.loads(description.read_text()))
                stack.enter_context(_locked(users, fcntl.LOCK_SH))
        yield target


def _close_share(description: Path, users: Path) -> None:
    """Admit no other process, and wait until those that use the server have ended."""
    with _locked(description.with_suffix(".lock"), fcntl.LOCK_EX):
        description.unlink(missing_ok=True)
    with _locked(users, fcntl.LOCK_EX):
        for path in (users, description.with_suffix(".lock")):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, kind)
        yield
