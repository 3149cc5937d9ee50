"""Settings: flag over environment over file over default, for every option of every command; and colors."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from conftest import RACEBENCH, Command
from racebench.cli import base_command, settings
from racebench.cli.main import cli

PLAIN = {"NO_COLOR": "", "FORCE_COLOR": "", "CI": "", "TERM": "xterm"}
ESCAPE = "\x1b["


def held(said: str, option: str, command: str = "run") -> tuple[str, str]:
    """What `racebench config` says of an option: its value and where it is from."""
    table = said.split(f"\n{command}\n", 1)[1].partition("\n\n")[0]
    (line,) = [line for line in table.splitlines() if line.split()[0] == option]
    _, value, source = re.split(r"\s{2,}", line.strip())
    return value, source


# What wins


@pytest.mark.server
def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(racebench: Command, tmp_path: Path) -> None:
    def workers(**env: str) -> int:
        return int(held(racebench("config", "run", env=env).stdout, "workers")[0])

    def used(*flags: str, **env: str) -> int:
        done = racebench("run", "-s", "advisory", "-n", "20", "--no-save", "--json", "-", *flags, env=env)
        assert done.stderr == ""
        assert done.returncode == 0
        return int(json.loads(done.stdout)["runs"][0]["workers"])

    assert workers() == 8
    file = tmp_path / "racebench.toml"
    file.write_text("workers = 1\n")
    assert workers() == 1
    file.write_text("workers = 1\n[run]\nworkers = 2\n")
    assert workers() == 2
    assert workers(RACEBENCH_WORKERS="3") == 3
    assert workers(RACEBENCH_WORKERS="3", RACEBENCH_RUN_WORKERS="4") == 4
    assert workers(RACEBENCH_WORKERS="") == used(RACEBENCH_WORKERS="") == 2, "an empty variable is none"
    assert used(RACEBENCH_WORKERS="3", RACEBENCH_RUN_WORKERS="4") == 4
    assert used("--workers", "5", RACEBENCH_RUN_WORKERS="4") == 5


def test_config_says_what_holds_and_from_where(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.racebench]\nseed = 7\n[tool.racebench.explore]\nsessions = 3\nstrategy = ["naive", "upsert"]\n'
    )
    done = racebench("config", env={"RACEBENCH_POLLS": "2"})
    assert done.returncode == 0
    assert held(done.stdout, "seed") == ("7", "pyproject.toml: tool.racebench.seed")
    assert held(done.stdout, "seed", "matrix") == ("7", "pyproject.toml: tool.racebench.seed")
    assert held(done.stdout, "sessions", "explore") == ("3", "pyproject.toml: tool.racebench.explore.sessions")
    assert held(done.stdout, "strategy", "explore")[0] == "naive, upsert"
    assert held(done.stdout, "polls", "explore") == ("2", "RACEBENCH_POLLS")
    assert held(done.stdout, "workers") == ("8", "default")
    assert held(done.stdout, "long") == ("0:0", "default")
    assert f"settings file: {tmp_path / 'pyproject.toml'}\n" in done.stdout
    one = racebench("config", "server", "reset").stdout
    assert "\nserver reset\n" in one
    assert "\nrun\n" not in one
    wrong = racebench("config", "rnu")
    assert (wrong.returncode, wrong.stderr) == (2, "racebench: command 'rnu' not found; did you mean 'run'?\n")


def test_a_command_that_knows_nothing_of_settings_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.group(cls=base_command.Group)
    def made() -> None: ...

    @made.command()
    @click.option("--threshold", "thresholds", multiple=True)
    @click.option("--slower/--no-slower", default=None)
    @click.option("--times", type=int, default=3)
    def judge(thresholds: tuple[str, ...], slower: bool | None, times: int) -> None:
        click.echo(f"{thresholds} {slower} {times}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RACEBENCH_PROGRESS")  # which these commands do not have
    (tmp_path / "racebench.toml").write_text(
        'slower = true\n[judge]\nthreshold = ["duplicates == 0", "p99_ms < 20"]\ntimes = 4\n'
    )
    run = CliRunner().invoke
    assert run(made, ["judge"]).output == "('duplicates == 0', 'p99_ms < 20') True 4\n"
    assert run(made, ["judge", "--no-slower"]).output.endswith(" False 4\n")
    monkeypatch.setenv("RACEBENCH_THRESHOLD", "missed == 0\np50_ms < 2")
    monkeypatch.setenv("RACEBENCH_SLOWER", "no")
    assert run(made, ["judge"]).output == "('missed == 0', 'p50_ms < 2') False 4\n"
    assert run(made, ["judge", "--threshold", "lost == 0"]).output == "('lost == 0',) False 4\n"


def test_no_two_options_share_a_variable_by_accident() -> None:
    particular: dict[str, tuple[str, str]] = {}
    names = set()
    for command, made in settings.leaves(cli):
        for parameter in settings.settable(made):
            variable, general = settings.variables(command, parameter)
            assert variable not in particular
            particular[variable] = (command, settings.key(parameter))
            names.add(general)
    assert len(particular) > 60
    assert not names & set(particular)
    assert not settings.OTHER_VARIABLES & (names | set(particular))


# Where it is read from


def test_the_nearest_file_counts_and_the_project_is_the_limit(tmp_path: Path) -> None:
    below = tmp_path / "repository" / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "racebench.toml").write_text("workers = 1")
    outside = settings.read(cli, start=below)
    assert outside.file is None
    assert [line.partition(":")[2] for line in outside.warnings] == [
        " it is outside of the project, whose folder has a .git or a pyproject.toml; move it into that folder"
    ]
    (tmp_path / "repository" / "a" / "pyproject.toml").write_text("[tool.other]\nracebench = 1\n")
    assert settings.read(cli, start=below).file is None
    (tmp_path / "pyproject.toml").write_text("")
    assert settings.read(cli, start=below).file is None, "the nearest pyproject.toml is the root"
    (tmp_path / ".git").mkdir()
    assert settings.read(cli, start=below).file == tmp_path / "racebench.toml"
    (tmp_path / "repository" / ".git").mkdir()
    assert settings.read(cli, start=below).file is None
    (tmp_path / "repository" / "pyproject.toml").write_text("[tool.racebench]\n")
    assert settings.read(cli, start=below).file == tmp_path / "repository" / "pyproject.toml"
    (below / "racebench.toml").write_text("")
    assert settings.read(cli, start=below).file == below / "racebench.toml"


def test_a_folder_that_others_may_write_to_is_not_entered(tmp_path: Path) -> None:
    below = tmp_path / "mine"
    below.mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "racebench.toml").write_text("workers = 1")
    assert settings.read(cli, start=below).file == tmp_path / "racebench.toml"
    tmp_path.chmod(0o1777)
    planted = settings.read(cli, start=below)
    assert planted.file is None
    assert len(planted.warnings) == 1
    assert "racebench.toml is not used: others may write to its folder" in planted.warnings[0]
    (below / "racebench.toml").write_text("workers = 2")
    assert settings.read(cli, start=below).file == below / "racebench.toml"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file to another user")
def test_of_another_users_file_no_setting_says_where_to_write(racebench: Command, tmp_path: Path) -> None:
    own = tmp_path / "racebench.toml"
    own.write_text('json = "victim.json"\nresults = "elsewhere"\nworkers = 3\n')
    os.chown(own, 65534, 65534)
    done = racebench("config", "run")
    assert "racebench.toml: workers" in done.stdout
    taken = [line for line in done.stdout.splitlines() if line.startswith("  ") and "racebench.toml: " in line]
    assert [line.split()[0] for line in taken] == ["workers"]
    assert done.stderr.count("is not used: the file is user 65534's") == 2
    os.chown(own, 0, 0)
    done = racebench("config", "run")
    assert done.stderr == ""
    assert "racebench.toml: json" in done.stdout


def test_every_option_that_names_a_file_is_known_to_write_it() -> None:
    assert settings._writing(cli) == {
        *("json", "results", "report", "markdown", "output", "html", "svg", "export-spec"),
        "diff",  # read only, and not worth an exception
    }


@pytest.mark.server
def test_paths_in_a_file_are_relative_to_the_file(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    for name, text in {
        "scenario.toml": '[scenario]\nsummary = "own"\nschema = ["schema.sql"]\n',
        "schema.sql": "",
    }.items():
        (tmp_path / "own" / name).write_text(text)
    (tmp_path / "below").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "racebench.toml").write_text(
        'scenario = "./own"\nresults = "kept"\nreport = ["junit=j=1.xml"]\njson = "-"\n'
    )
    done = racebench("config", "run")
    assert held(done.stdout, "results")[0] == "kept"
    below = racebench("run", "-n", "8", "version-counter", "-s", "upsert", cwd=tmp_path / "below")
    assert below.returncode == 0, below.stderr
    assert json.loads(below.stdout)["complete"]
    assert (tmp_path / "j=1.xml").is_file()
    assert len(list((tmp_path / "kept").glob("*.json"))) == 1
    own = racebench("run", "-n", "8", cwd=tmp_path / "below")
    assert own.returncode == 2
    assert own.stderr.startswith("racebench: ../own/scenario.toml"), own.stderr


def test_help_is_fast_and_reads_no_settings(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / "racebench.toml").write_text("this is not TOML")
    for arguments in (["--help"], ["run", "--help"], ["--version"]):
        done = racebench(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
    assert racebench("list").returncode == 2
    program = (
        "import sys; from racebench.cli.main import cli; cli.main(['run', '--help'], standalone_mode=False); "
        "print(sorted({'tomllib', 'rich', 'psycopg', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]"


# Trouble


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("wrokers = 4", "racebench.toml: wrokers: there is no such setting; did you mean 'workers'?"),
        ("fail_on = 'any'", "racebench.toml: fail_on: there is no such setting; did you mean 'fail-on'?"),
        ("[rnu]\nworkers = 4", "racebench.toml: rnu: there is no such setting; did you mean 'run'?"),
        ("[run]\nsesions = 4", "racebench.toml: run.sesions: there is no such setting;"),
        (
            "[server.reste]\nserver = '16'",
            "racebench.toml: server.reste: there is no such setting; did you mean 'reset'?",
        ),
        ("workers = '4'", "racebench.toml: workers: --workers is a number, not a string (4)"),
        ("workers = true", "racebench.toml: workers: --workers is a number, not a boolean (true)"),
        ("workers = 2.5", "racebench.toml: workers: --workers is a whole number from 1 to 1000, not '2.5'"),
        ("[run]\nworkers = 0", "racebench.toml: run.workers: --workers is a whole number from 1 to 1000, not '0'"),
        ("[workers]\nrun = 4", "racebench.toml: workers: --workers is a number, not a table"),
        ("no-save = 'yes'", "racebench.toml: no-save: --no-save is true or false, not a string (yes)"),
        ("strategy = [1]", "racebench.toml: strategy: --strategy is a string, not a whole number (1)"),
        ("protocol = 'fast'", "racebench.toml: protocol: Invalid value for '--protocol': 'fast' is not one of"),
        ("report = 'pdf=x'", "racebench.toml: report: --report 'pdf=x': format 'pdf' is unknown"),
        ("dsn = ['postgresql://u:s3cret@h/d']", "racebench.toml: dsn: --dsn is a string, not an array"),
        ("seed = 2020-01-01", "racebench.toml: seed: --seed is a number, not date (2020-01-01)"),
        ("workers = ?", "racebench.toml is not TOML: Invalid value (at line 1, column 11)"),
    ],
)
def test_a_wrong_setting_is_one_line_with_file_and_key(
    racebench: Command, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "racebench.toml").write_text(text)
    done = racebench("run")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"racebench: {said}"), done.stderr
    assert done.stderr.count("\n") == 1
    assert "s3cret" not in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "racebench.toml"]


def test_two_files_in_one_folder_are_refused(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / "racebench.toml").write_text("workers = 4")
    (tmp_path / "pyproject.toml").write_text("[tool.racebench]\nworkers = 5\n")
    done = racebench("list")
    assert done.returncode == 2
    assert done.stderr == (
        "racebench: racebench.toml and [tool.racebench] in pyproject.toml both hold settings; keep one of them\n"
    )


def test_a_file_that_is_not_text_is_refused(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / "racebench.toml").write_bytes(b"workers = 4 # \xff")
    done = racebench("list")
    assert (done.returncode, done.stderr) == (2, "racebench: racebench.toml is not UTF-8 text\n")


@pytest.mark.server
def test_a_wrong_variable_is_named_and_an_unknown_one_only_warned_of(racebench: Command) -> None:
    done = racebench("run", env={"RACEBENCH_WORKERS": "many"})
    assert done.returncode == 2
    assert done.stderr == ("racebench: RACEBENCH_WORKERS: --workers is a whole number from 1 to 1000, not 'many'\n")
    done = racebench("list", "quota", env={"RACEBENCH_WORKER": "4", "RACEBENCH_VERSION": "1"})
    assert done.returncode == 0
    assert done.stderr == (
        "racebench: warning: RACEBENCH_VERSION sets nothing\n"
        "racebench: warning: RACEBENCH_WORKER sets nothing; did you mean 'RACEBENCH_WORKERS'?\n"
    )
    assert "RACEBENCH_CACHE_DIR" in os.environ, "which is set in all tests, and known"


def test_a_setting_for_another_command_is_not_in_the_way(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / "racebench.toml").write_text("[run]\nworkers = 0\n")
    assert racebench("list").returncode == 0
    assert racebench("config").returncode == 2


# Passwords


@given(st.text(st.characters(codec="ascii", exclude_characters=" \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f'\\"), min_size=6))
def test_a_password_is_masked_however_it_is_written(password: str) -> None:
    secret = f"{password}Z9"
    assert secret not in settings.masked(f"postgresql://app:{secret}@db/app?sslmode=disable")
    assert secret not in settings.masked(f"host=db password='{secret}' dbname=app")
    if not set(password) & set("&@"):
        assert secret not in settings.masked(f"postgresql://app@db/app?password={secret}&sslmode=disable")
    assert secret not in settings.masked(f"host=db password={secret} dbname=app")


def test_what_is_no_password_is_shown() -> None:
    for text in ("postgresql://app@db:5432/app", "host=db dbname=app user=x", "naive", "./password"):
        assert settings.masked(text) == text


def test_config_does_not_show_the_password(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / "racebench.toml").write_text("[matrix]\ndsn = 'host=db password=s3cret'")
    done = racebench("config", env={"RACEBENCH_RUN_DSN": "postgresql://u:s3cret@h/d"})
    assert done.returncode == 0
    assert "s3cret" not in done.stdout + done.stderr
    assert held(done.stdout, "dsn") == ("postgresql://u:***@h/d", "RACEBENCH_RUN_DSN")
    assert held(done.stdout, "dsn", "matrix") == ("host=db password=***", "racebench.toml: matrix.dsn")


@pytest.mark.server
def test_a_dsn_from_a_file_is_used_and_a_flag_takes_it_back(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / "racebench.toml").write_text("dsn = 'postgresql://app@127.0.0.1:1/app'\noperations = 8")
    done = racebench("run", "-s", "upsert")
    assert done.returncode == 6
    assert "127.0.0.1:1" in done.stderr
    assert racebench("run", "-s", "upsert", "--dsn", "").returncode == 0


# Flags that settings turn on


@pytest.mark.server
def test_a_flag_can_be_turned_off_again(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / "racebench.toml").write_text("no-save = true\noperations = 8\nstrategy = 'upsert'\n")
    assert "saved:" not in racebench("run").stdout
    assert not (tmp_path / "results").exists()
    assert "saved:" in racebench("run", "--save").stdout
    assert "saved:" in racebench("run", env={"RACEBENCH_NO_SAVE": "false"}).stdout
    assert "history:" in racebench("run", "--save", "--history").stdout


# Colors, progress, order


def on_a_terminal(*arguments: str, cwd: Path, **env: str) -> str:
    """What the command writes when both its outputs are a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*RACEBENCH, *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, **PLAIN, **env},
    )
    os.close(theirs)
    said = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            said += os.read(ours, 65536)
        except OSError:  # EIO: the other side is closed
            break
    os.close(ours)
    assert process.wait(60) == 0
    return said.decode()


def test_colors_follow_the_flag_then_the_variables_then_the_terminal(racebench: Command, tmp_path: Path) -> None:
    def colored(*arguments: str, **env: str) -> bool:
        return ESCAPE in racebench("list", *arguments, env={**PLAIN, **env}).stdout

    assert not colored()
    assert colored("--color", "always")
    assert colored("--color", "always", NO_COLOR="1")
    assert colored("--color", "always", TERM="dumb")
    assert colored(FORCE_COLOR="1")
    assert not colored(FORCE_COLOR="0")
    assert not colored(FORCE_COLOR="1", NO_COLOR="1")
    assert not colored("--color", "never", FORCE_COLOR="1")
    assert colored(RACEBENCH_COLOR="always")
    assert ESCAPE in on_a_terminal("list", cwd=tmp_path)
    assert ESCAPE not in on_a_terminal("list", cwd=tmp_path, NO_COLOR="1")
    assert ESCAPE not in on_a_terminal("list", "--color", "never", cwd=tmp_path)
    done = racebench("list", "--color", "sometimes")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


@pytest.mark.server
def test_machine_output_never_has_colors(racebench: Command, tmp_path: Path) -> None:
    asked = ("run", "-s", "naive", "-n", "80", "--color", "always")
    done = racebench(*asked, "--json", "-", "--report", "junit=j.xml", "--report", "table=t.txt", env=PLAIN)
    assert ESCAPE not in done.stdout + (tmp_path / "j.xml").read_text() + (tmp_path / "t.txt").read_text()
    json.loads(done.stdout)
    assert ESCAPE in racebench(*asked, env=PLAIN).stdout
    saved = next((tmp_path / "results").glob("*.json"))
    assert ESCAPE in racebench("report", str(saved), "--color", "always").stdout
    assert ESCAPE not in racebench("report", str(saved), "--format", "csv", "--color", "always").stdout


@pytest.mark.server
def test_progress_is_shown_on_a_terminal_only(racebench: Command, tmp_path: Path) -> None:
    asked = ("explore", "-s", "upsert", "--no-save")
    shown = {"RACEBENCH_PROGRESS": "auto"}
    assert "starting PostgreSQL" in on_a_terminal(*asked, cwd=tmp_path, **shown)
    assert "starting PostgreSQL" not in on_a_terminal(*asked, cwd=tmp_path, **shown, CI="true")
    assert "starting PostgreSQL" not in on_a_terminal(*asked, "--progress", "never", cwd=tmp_path, **shown)
    asked = ("run", "-s", "upsert", "-n", "80", "--no-save")
    assert racebench(*asked, env={**PLAIN, "FORCE_COLOR": "1"}).stderr == ""
    assert racebench(*asked, "--color", "always", env=PLAIN).stderr == ""


@pytest.mark.parametrize("arguments", [["config"], ["list"], ["completion", "zsh"]])
def test_the_order_of_output_does_not_depend_on_hashing(racebench: Command, arguments: list[str]) -> None:
    said = {racebench(*arguments, env={"PYTHONHASHSEED": seed}).stdout for seed in ("1", "2")}
    assert len(said) == 1
    assert said != {""}


def test_the_documented_file_is_one_that_is_taken(racebench: Command, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
    example = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert example is not None
    (tmp_path / "pyproject.toml").write_text(example.group(1))
    done = racebench("config")
    assert (done.returncode, done.stderr) == (0, "")
    assert held(done.stdout, "workers") == ("16", "pyproject.toml: tool.racebench.run.workers")
    assert held(done.stdout, "scenario", "matrix") == ("./db/orders", "pyproject.toml: tool.racebench.scenario")


@pytest.mark.server
def test_ones_own_code_is_set_and_the_command_line_names_another(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "schema.sql").write_text("CREATE TABLE orders (number int);")
    (tmp_path / "db" / "insert.sql").write_text(
        "BEGIN;\nSELECT coalesce(max(number), 0) + 1 AS next FROM orders \\gset\n"
        "INSERT INTO orders VALUES (:next);\nCOMMIT;\n"
    )
    (tmp_path / "racebench.toml").write_text(
        'scenario = "db/insert.sql"\nsetup = "db/schema.sql"\n'
        'invariant = "SELECT number, count(*) FROM orders GROUP BY number HAVING count(*) > 1"\nno-save = true\n'
    )
    (tmp_path / "below").mkdir()
    (tmp_path / ".git").mkdir()

    def strategies(*arguments: str, **env: str) -> list[str]:
        done = racebench("explore", *arguments, "--json", "-", cwd=tmp_path / "below", env=env)
        found = [f"{each['strategy']} {each['verdict']}" for each in json.loads(done.stdout)["explorations"]]
        assert (done.returncode, done.stderr) == (3 if "INVALID" in " ".join(found) else 0, "")
        return found

    assert strategies() == ["insert INVALID"]
    assert strategies("version-counter", "-s", "upsert") == ["upsert VALID"]
    never = "SELECT number, 1\nFROM orders WHERE false"
    assert strategies(RACEBENCH_INVARIANT=never.replace("\n", " ")) == ["insert VALID"]
    done = racebench("explore", "version-counter", "-s", "naive")
    schedule = re.search(r"racebench replay '(v1:[^']+)'", done.stdout)
    assert schedule is not None
    assert racebench("replay", schedule.group(1)).returncode == 0, "the schedule says what it is of"
