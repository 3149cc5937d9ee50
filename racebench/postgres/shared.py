"""One embedded server for several processes that name the same share: pytest-xdist's workers.

The first to come starts it and stops it when it is done and the others have gone: each of them holds a shared lock on a
file, which ends with its process however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from racebench.core.target import Target
from racebench.postgres.embedded import EmbeddedServer, server_folder


@contextlib.contextmanager
def sharing(share: str, server: EmbeddedServer) -> Iterator[Target]:
    """Use the share's server, starting it if nobody has; raises DatabaseProblem as EmbeddedServer does."""
    folder = server_folder(server.version)
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"shared-{hashlib.sha256(share.encode()).hexdigest()[:16]}"
    users, said = stem.with_suffix(".users"), stem.with_suffix(".json")
    with contextlib.ExitStack() as stack:
        with _locked(stem.with_suffix(".lock"), fcntl.LOCK_EX):
            if not said.exists():
                target = stack.enter_context(server)
                stack.callback(_give_up, said, users)
                said.write_text(json.dumps(asdict(target)))
            else:
                target = Target(**json.loads(said.read_text()))
                stack.enter_context(_locked(users, fcntl.LOCK_SH))
        yield target


def _give_up(said: Path, users: Path) -> None:
    """Let nobody else come, and wait until those who have are gone."""
    with _locked(said.with_suffix(".lock"), fcntl.LOCK_EX):
        said.unlink(missing_ok=True)
    with _locked(users, fcntl.LOCK_EX):
        for path in (users, said.with_suffix(".lock")):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, kind)
        yield
