"""A proxy that passes everything on, in a thread of the test's process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping

from racebench.core.target import Target
from racebench.postgres.proxy.proxy import Proxy


@contextlib.contextmanager
def relaying(target: Target, parameters: Mapping[str, str] | None = None) -> Iterator[Proxy]:
    """The proxy, which listens on no port yet; only its thread may poll it."""
    stopping = threading.Event()
    problems: list[Exception] = []

    def work() -> None:
        try:
            while not stopping.is_set():
                for link in proxy.poll(0.05):
                    link.relay()
        except Exception as problem:  # noqa: BLE001 - for the test's thread
            problems.append(problem)

    with Proxy(target, parameters) as proxy:
        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield proxy
        finally:
            stopping.set()
            thread.join()
            if problems:
                raise problems[0]
