"""What is arranged before a fault: on the server of a cell, and in the surroundings of one command."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator

from benchmarks.faults.grounds import Ground
from benchmarks.faults.scene import Scene


def role_settings(*settings: str) -> Callable[[Ground], None]:
    """Settings of the role that racebench connects as."""

    def arrange(ground: Ground) -> None:
        assert ground.server is not None
        with ground.server.connect() as connection:
            for setting in settings:
                connection.execute(f"ALTER ROLE tester SET {setting}".encode())

    return arrange


def statements(*statements: str) -> Callable[[Ground], None]:
    def arrange(ground: Ground) -> None:
        assert ground.server is not None
        with ground.server.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    return arrange


def encoding(name: str) -> Callable[[Ground], None]:
    """The same two databases in another encoding."""

    def arrange(ground: Ground) -> None:
        assert ground.server is not None
        with ground.server.connect("postgres") as connection:
            for database in ("audited", "plain"):
                connection.execute(f"ALTER DATABASE {database} RENAME TO {database}_utf8".encode())
                connection.execute(f"CREATE DATABASE {database} TEMPLATE template0 ENCODING '{name}'".encode())
                connection.execute(f"GRANT CREATE ON DATABASE {database} TO tester".encode())
        ground.server.audit()

    return arrange


def limit_of(option: str, least: int, most: int) -> Callable[[Scene], contextlib.AbstractContextManager[None]]:
    """A limit of the system on each process of the command."""

    @contextlib.contextmanager
    def limit(scene: Scene) -> Iterator[None]:
        scene.prefix = ("prlimit", f"--{option}={scene.draw.randint(least, most)}")
        yield

    return limit


@contextlib.contextmanager
def small_disk(scene: Scene) -> Iterator[None]:
    """The working folder, or the folder for temporary files, is a disk that is full soon."""
    place = scene.draw.choice([scene.work, scene.tmp])
    size = f"size={scene.draw.choice([4, 16, 64, 256, 1024])}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextlib.contextmanager
def nohup(scene: Scene) -> Iterator[None]:
    scene.prefix = ("nohup",)
    yield


def environment(**variables: str) -> Callable[[Scene], contextlib.AbstractContextManager[None]]:
    @contextlib.contextmanager
    def limit(scene: Scene) -> Iterator[None]:
        scene.environment.update(variables)
        yield

    return limit
