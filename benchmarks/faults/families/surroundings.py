"""Servers, roles and databases that are set otherwise than racebench expects."""

from __future__ import annotations

from benchmarks.faults import arrangements
from benchmarks.faults.fault import ENDED, JUDGED, Fault, Promise
from benchmarks.faults.grounds import Kind, Layout
from benchmarks.faults.promises import AS_THESE, NOTHING, REFUSES


def _set_for_role(name: str, text: str, *settings: str, names: str = "", codes: tuple[int, ...] = JUDGED) -> Fault:
    return Fault(
        name=name,
        family="surroundings",
        text=text,
        drivers=("run", "run --call", "explore", "explore --call") if names else ("run", "explore --call"),
        elsewhere=AS_THESE,
        arrange=arrangements.role_settings(*settings),
        names=names,
        promise=Promise(
            does="sets what a strategy is defined under on its own sessions"
            + ("; a report about your own code names the setting" if names else ""),
            verdict="as without the setting"
            + ("; of your own code: of the code under the setting" if names else "")
            + ("; 2 if it fails alone because of it" if 2 in codes else ""),
            codes=codes,
        ),
    )


SURROUNDINGS = (
    Fault(
        name="standby",
        family="surroundings",
        text="the server is a hot standby",
        drivers=("run", "explore"),
        elsewhere="ask the same",
        layout=Layout(kind=Kind.STANDBY),
        promise=REFUSES,
    ),
    Fault(
        name="read-only role",
        family="surroundings",
        text="default_transaction_read_only = on for the role",
        drivers=("run", "explore"),
        elsewhere="ask the same",
        arrange=arrangements.role_settings("default_transaction_read_only = on"),
        promise=REFUSES,
    ),
    Fault(
        name="no rights",
        family="surroundings",
        text="the role may not create a schema",
        drivers=("run", "pytest"),
        elsewhere="ask the same",
        arrange=arrangements.statements("REVOKE CREATE ON DATABASE audited, plain FROM tester"),
        promise=REFUSES,
    ),
    Fault(
        name="few connections",
        family="surroundings",
        text="the role may have three connections",
        drivers=("run several", "explore"),
        elsewhere="ask the same",
        arrange=arrangements.statements("ALTER ROLE tester CONNECTION LIMIT 3"),
        promise=REFUSES,
    ),
    Fault(
        name="synchronous standby missing",
        family="surroundings",
        text="synchronous_standby_names is set, and no standby is connected",
        drivers=("run",),
        elsewhere="ask the same",
        layout=Layout(settings={"synchronous_standby_names": "absent"}),
        promise=REFUSES,
    ),
    _set_for_role(
        "role serializable",
        "default_transaction_isolation = serializable for the role",
        "default_transaction_isolation = 'serializable'",
        names="serializable",
    ),
    _set_for_role(
        "role repeatable read",
        "default_transaction_isolation = 'repeatable read' for the role",
        "default_transaction_isolation = 'repeatable read'",
        names="repeatable read",
    ),
    _set_for_role(
        "role time-outs",
        "statement_timeout, lock_timeout and idle_in_transaction_session_timeout of a few milliseconds for the role",
        "statement_timeout = '30ms'",
        "lock_timeout = '5ms'",
        "idle_in_transaction_session_timeout = '20ms'",
        names="timeout",
        codes=(*ENDED, 2),
    ),
    _set_for_role(
        "role idle time-out",
        "idle_session_timeout = 50ms for the role",
        "idle_session_timeout = '50ms'",
        names="timeout",
        codes=ENDED,
    ),
    _set_for_role(
        "role formats",
        "DateStyle, IntervalStyle, TimeZone, bytea_output and extra_float_digits set otherwise for the role",
        "datestyle = 'SQL, DMY'",
        "intervalstyle = 'sql_standard'",
        "timezone = 'Asia/Kathmandu'",
        "bytea_output = 'escape'",
        "extra_float_digits = -3",
    ),
    _set_for_role(
        "role search_path", "search_path = nowhere for the role", "search_path = 'nowhere'", "synchronous_commit = off"
    ),
    *(
        _set_for_role(
            f"client encoding {name}", f"client_encoding = {name} for the role", f"client_encoding = '{name}'"
        )
        for name in ("LATIN1", "SQL_ASCII")
    ),
    Fault(
        name="PGCLIENTENCODING",
        family="surroundings",
        text="PGCLIENTENCODING=SQL_ASCII, PGTZ and PGDATESTYLE in the command's environment",
        drivers=("run", "explore --call"),
        elsewhere=AS_THESE,
        limit=arrangements.environment(PGCLIENTENCODING="SQL_ASCII", PGTZ="Asia/Kathmandu", PGDATESTYLE="SQL, DMY"),
        promise=NOTHING,
    ),
    *(
        Fault(
            name=f"database {name}",
            family="surroundings",
            text=f"the encoding of the database is {name}",
            drivers=("run", "explore --call"),
            elsewhere=AS_THESE,
            arrange=arrangements.encoding(name),
            promise=NOTHING,
        )
        for name in ("LATIN1", "SQL_ASCII")
    ),
    *(
        Fault(
            name=f"PostgreSQL {version}",
            family="surroundings",
            text=f"the server is PostgreSQL {version}",
            drivers=("run", "explore"),
            elsewhere=AS_THESE,
            layout=Layout(version=version),
            promise=NOTHING,
        )
        for version in (14, 16, 17, 18)
    ),
)
