"""Runs the trials of a cell: one fault, one command, several seeds, on a ground of their own."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.faults.families import FAULTS
from benchmarks.faults.fault import Fault
from benchmarks.faults.findings import COLUMNS, Ended
from benchmarks.faults.grounds import Ground, Kind, Templates
from benchmarks.faults.look import look
from benchmarks.faults.proxy import breaking
from benchmarks.faults.scene import TOKEN, Scene
from benchmarks.faults.servers import AUDITED, PLAIN
from benchmarks.faults.subjects import COMMAND, DRIVERS, FOLDER, INNOCENT, Driver

#: A command that has not ended after this time hangs.
LIMIT_S = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One fault and one command, by their names, with the seeds of the trials."""

    fault: str
    driver: str
    seeds: Sequence[int]

    @property
    def name(self) -> str:
        return f"{self.fault} / {self.driver}"


@dataclass(slots=True)
class Counted:
    """What the trials of a cell have shown. `hits`: trials that the fault has hit. `examples`: what was wrong."""

    cell: Cell
    runs: int = 0
    hits: int = 0
    columns: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """As it is saved."""
        return {
            "fault": self.cell.fault,
            "driver": self.cell.driver,
            "runs": self.runs,
            "hits": self.hits,
            **{column: self.columns[column] for column in COLUMNS},
            "exit_codes": dict(sorted(self.codes.items())),
            "verdicts": dict(sorted(self.verdicts.items())),
            "seconds": round(self.seconds, 1),
            "examples": self.examples,
        }


def run_cell(cell: Cell, templates: Templates, *, keep: Path | None = None) -> Counted:
    """Run the trials of a cell. `keep`: a folder for the output of the trials in which something was wrong."""
    fault, driver = FAULTS[cell.fault], DRIVERS[cell.driver]
    counted = Counted(cell)
    begun = time.monotonic()
    with templates.ground(fault.layout) as ground:
        if not driver.server:
            _record_histories(ground)
        fault.arrange(ground)
        for seed in cell.seeds:
            _trial(fault, driver, seed, ground, counted, keep)
            ground.mend()
    counted.seconds = time.monotonic() - begun
    return counted


def _record_histories(ground: Ground) -> None:
    """What `check` reads: a history of an innocent strategy and one of a guilty strategy."""
    dsn = ground.dsn(PLAIN)
    assert dsn is not None
    for name, strategy in (("innocent", "advisory"), ("guilty", "naive")):
        command = [*COMMAND, "run", str(FOLDER / "scenario"), "-s", strategy, "-w", "3", "-n", "300"]
        results = ground.folder / "histories"
        with _environment(ground, ground.folder, "") as environment:
            subprocess.run(
                [*command, "--think", "1", "--history", "--results", str(results), "--dsn", dsn],
                env=environment,
                check=True,
                capture_output=True,
            )
        (history,) = results.glob(f"*{strategy}*.npz")
        history.rename(ground.folder / f"{name}.npz")


@contextlib.contextmanager
def _environment(ground: Ground, tmp: Path, token: str) -> Iterator[dict[str, str]]:
    """The command's environment: the user's settings and servers are left out."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "RACEBENCH"))}
    cache = ground.folder / "cache"
    cache.mkdir(exist_ok=True)
    cache.chmod(0o755)
    yield {
        **own,
        TOKEN: token,
        "TMPDIR": str(tmp),
        "RACEBENCH_CACHE_DIR": str(cache),
        "PYTHONPATH": os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NO_COLOR": "1",
    }


def _trial(fault: Fault, driver: Driver, seed: int, ground: Ground, counted: Counted, keep: Path | None) -> None:
    draw = random.Random(f"{fault.name} {driver.name} {seed}")
    # Its path is short: sockets may be made in it.
    folder = Path(tempfile.mkdtemp(prefix="t-", dir=ground.folder))
    folder.chmod(0o755)
    token = secrets.token_hex(8)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        scene = Scene(
            driver=driver,
            subject=driver.subject(seed),
            draw=draw,
            folder=folder,
            ground=ground,
            token=token,
            environment=stack.enter_context(_environment(ground, folder / "tmp", token)),
        )
        scene.work.mkdir()
        scene.tmp.mkdir()
        for name in ("innocent.npz", "guilty.npz"):
            if (ground.folder / name).exists():
                shutil.copy(ground.folder / name, folder / name)
        _forget(scene)
        stack.enter_context(fault.limit(scene))
        ended = _run(scene, fault, _dsn(scene, fault, stack))
        ground.mend()
        seen = look(scene, fault, ended)
        _count(counted, seed, scene, ended, seen.problems, seen.verdicts)
        if keep is not None and seen.problems:
            _keep(keep / f"{counted.cell.name} {seed}".replace("/", "-").replace(" ", "_"), ended, seen.problems)


def _forget(scene: Scene) -> None:
    """Forget the rows of the trial before."""
    if scene.ground.server is not None and scene.ground.layout.kind is not Kind.STANDBY and scene.driver.audited:
        with scene.ground.server.connect() as connection:
            connection.execute("SET synchronous_commit = local; TRUNCATE faults.rows")


def _dsn(scene: Scene, fault: Fault, stack: contextlib.ExitStack) -> str | None:
    """The command's DSN; that of a new proxy where the fault has one."""
    database = AUDITED if scene.driver.audited else PLAIN
    if not scene.driver.server:
        return None
    if fault.cut is None or scene.ground.server is None:
        return scene.ground.dsn(database)
    folder = scene.folder / "p"
    folder.mkdir()
    proxy = stack.enter_context(breaking(folder, scene.ground.server.target, fault.cut(scene.draw), piece=fault.piece))
    scene.proxy = proxy
    return scene.ground.server.dsn(database, host=str(folder))


def _run(scene: Scene, fault: Fault, dsn: str | None) -> Ended:
    innocent = fault.innocent or INNOCENT
    command = [*scene.prefix, *scene.driver.command(scene.subject, scene.draw, innocent)]
    if dsn is not None:
        command += ["--racebench-dsn" if scene.driver.name == "pytest" else "--dsn", dsn]
    begun = time.monotonic()
    out, err = scene.folder / "out", scene.folder / "err"
    with out.open("wb") as stdout, err.open("wb") as stderr, _heeded(signal.SIGINT):
        scene.process = subprocess.Popen(
            command,
            cwd=scene.work,
            env=scene.environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        hung = False
        with contextlib.suppress(psycopg.Error):
            hit = fault.strike(scene)
        try:
            scene.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            hung = True
            for pid in scene.processes():
                scene.signal(pid, signal.SIGKILL)
            scene.process.wait()
    if scene.proxy is not None:
        hit = scene.proxy.cuts > 0 or fault.piece is not None
    return Ended(
        code=scene.process.returncode,
        seconds=time.monotonic() - begun,
        out=out.read_text(errors="replace"),
        err=err.read_text(errors="replace"),
        hung=hung,
        hit=hit,
    )


@contextlib.contextmanager
def _heeded(what: signal.Signals) -> Iterator[None]:
    """Have commands begin with a signal's default, also where this program ignores it: a shell's `&` does so."""
    before = signal.getsignal(what)
    if before is signal.SIG_IGN:
        signal.signal(what, signal.default_int_handler)
    try:
        yield
    finally:
        if before is signal.SIG_IGN:
            signal.signal(what, before)


def _count(
    counted: Counted,
    seed: int,
    scene: Scene,
    ended: Ended,
    problems: dict[str, list[str]],
    verdicts: list[tuple[str, str]],
) -> None:
    counted.runs += 1
    counted.hits += ended.hit
    counted.codes[str(ended.code)] += 1
    counted.verdicts.update(f"{subject} {verdict}" for subject, verdict in verdicts)
    for column, texts in problems.items():
        counted.columns[column] += 1
        counted.examples.append(f"seed {seed} ({scene.subject.value}), {column}: {texts[0]}")


def _keep(folder: Path, ended: Ended, problems: dict[str, list[str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stdout").write_text(ended.out)
    (folder / "stderr").write_text(ended.err)
    (folder / "problems").write_text(
        f"exit code {ended.code}, {ended.seconds:.1f} s\n"
        + "".join(f"{column}: {text}\n" for column, texts in problems.items() for text in texts)
    )
