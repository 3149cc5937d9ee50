"""The stacks: an application in a language over a client of PostgreSQL, how it is started, and what it needs.

The applications are in applications/. Each numbers orders in the same four ways, and some in more; which way is taken
is decided by the path of a request, or by the argument of a program. What each way must give is cases.py's.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

APPLICATIONS = Path(__file__).parent / "applications"
#: Where Debian has the libraries of Java and of Go.
_JARS = Path("/usr/share/java")
_GO = Path("/usr/share/gocode")
_HIKARI = ("HikariCP.jar", "postgresql.jar", "slf4j-api.jar", "slf4j-nop.jar")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """An application. `words`: its command; of a program, its argument follows. `program`: each session runs it anew.

    `needs` yields what is not installed. `build` compiles it into a folder that it is given, and returns the words.
    """

    name: str
    title: str
    words: tuple[str, ...] = ()
    program: bool = False
    needs: Callable[[], Iterator[str]]
    build: Callable[[Path], tuple[str, ...]] | None = None

    @property
    def missing(self) -> str:
        """What is not installed, as a sentence's end; "" if everything is."""
        return ", ".join(self.needs())

    def command(self, folder: Path) -> tuple[str, ...]:
        """The words that start it; what must be compiled is put into the folder."""
        return self.words if self.build is None else self.build(folder)


def _program(name: str) -> Iterator[str]:
    if shutil.which(name) is None:
        yield name


def _node(*packages: str) -> Callable[[], Iterator[str]]:
    def needs() -> Iterator[str]:
        yield from _program("node")
        folders = [APPLICATIONS / "node/node_modules", *map(Path, os.environ.get("NODE_PATH", "").split(os.pathsep))]
        for package in packages:
            if not any((folder / package).exists() for folder in folders):
                yield f"npm's {package}"

    return needs


def _python(*modules: str) -> Callable[[], Iterator[str]]:
    def needs() -> Iterator[str]:
        yield from (module for module in modules if importlib.util.find_spec(module) is None)

    return needs


def _java() -> Iterator[str]:
    yield from _program("java")
    yield from (name for name in _HIKARI if not (_JARS / name).exists())


def _go() -> Iterator[str]:
    yield from _program("go")
    if not (_go_path() / "src/github.com/jackc/pgx/v4").exists():
        yield "golang-github-jackc-pgx-v4-dev"


def _go_path() -> Path:
    return Path(os.environ.get("GOPATH", _GO))


def _built_by_go(folder: Path) -> tuple[str, ...]:
    program = folder / "shop-go"
    if not program.exists():
        environment = {**os.environ, "GO111MODULE": "off", "GOPATH": str(_go_path()), "GOFLAGS": ""}
        words = ["go", "build", "-o", str(program), str(APPLICATIONS / "go/shop.go")]
        subprocess.run(words, env=environment, check=True)
    return (str(program),)


def _ruby() -> Iterator[str]:
    yield from _program("ruby")
    if (
        shutil.which("ruby")
        and subprocess.run(["ruby", "-e", "require 'pg'"], capture_output=True, check=False).returncode
    ):
        yield "ruby-pg"


def _in_node(file: str) -> tuple[str, ...]:
    return ("node", str(APPLICATIONS / "node" / file))


def _in_python(file: str) -> tuple[str, ...]:
    return (sys.executable, str(APPLICATIONS / "python" / file))


def _uvicorn(application: str) -> tuple[str, ...]:
    folder = str(APPLICATIONS / "python")
    return (
        sys.executable,
        "-m",
        "uvicorn",
        "--app-dir",
        folder,
        "--log-level",
        "warning",
        "--port",
        "{port}",
        application,
    )


def _gunicorn(application: str) -> tuple[str, ...]:
    folder = str(APPLICATIONS / "python")
    words = ("--workers", "3", "--chdir", folder, "--bind", "127.0.0.1:{port}", "--log-level", "error", application)
    return (sys.executable, "-m", "gunicorn", *words)


STACKS = {
    stack.name: stack
    for stack in (
        Stack(name="pg", title="Node, pg with a pool", words=_in_node("pg_pool.js"), needs=_node("pg")),
        Stack(
            name="pg-program",
            title="Node, pg, a process a session",
            words=_in_node("pg_pool.js"),
            program=True,
            needs=_node("pg"),
        ),
        Stack(
            name="pg-client",
            title="Node, pg with one Client for all requests",
            words=_in_node("pg_client.js"),
            needs=_node("pg"),
        ),
        Stack(name="postgres.js", title="Node, postgres.js", words=_in_node("postgres_js.js"), needs=_node("postgres")),
        Stack(
            name="prisma",
            title="Node, Prisma",
            words=_in_node("prisma_client.js"),
            needs=_node("@prisma/adapter-pg", ".prisma/client/schema.prisma"),
        ),
        Stack(name="knex", title="Node, Knex", words=_in_node("knex.js"), needs=_node("pg", "knex")),
        Stack(name="drizzle", title="Node, Drizzle", words=_in_node("drizzle.js"), needs=_node("pg", "drizzle-orm")),
        Stack(
            name="asyncpg",
            title="Python, FastAPI over asyncpg",
            words=_uvicorn("asyncpg_shop:app"),
            needs=_python("uvicorn", "fastapi", "asyncpg"),
        ),
        Stack(
            name="sqlalchemy",
            title="Python, FastAPI over SQLAlchemy and asyncpg",
            words=_uvicorn("sqlalchemy_shop:app"),
            needs=_python("uvicorn", "fastapi", "asyncpg", "sqlalchemy", "greenlet"),
        ),
        Stack(
            name="django",
            title="Python, Django under gunicorn with three workers",
            words=_gunicorn("django_shop:application"),
            needs=_python("gunicorn", "django", "dj_database_url"),
        ),
        Stack(
            name="psycopg2",
            title="Python, psycopg2 in threads",
            words=_in_python("psycopg2_shop.py"),
            needs=_python("psycopg2"),
        ),
        Stack(
            name="pg8000",
            title="Python, pg8000 in threads",
            words=_in_python("pg8000_shop.py"),
            needs=_python("pg8000"),
        ),
        Stack(
            name="hikari",
            title="Java, JDBC with HikariCP",
            words=(
                *("java", "-XX:TieredStopAtLevel=1", "-cp", ":".join(str(_JARS / name) for name in _HIKARI)),
                str(APPLICATIONS / "java/Shop.java"),
            ),
            needs=_java,
        ),
        Stack(name="pgx", title="Go, pgx with a pool", needs=_go, build=_built_by_go),
        Stack(
            name="ruby-pg",
            title="Ruby, pg, a process a session",
            words=("ruby", str(APPLICATIONS / "ruby/create_order.rb")),
            program=True,
            needs=_ruby,
        ),
    )
}
