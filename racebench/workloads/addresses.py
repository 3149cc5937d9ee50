"""The environment variables that name a database to any program: a URL, and those of libpq, which most drivers read."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from racebench.core.errors import DatabaseProblem
from racebench.core.target import Target

#: The variables whose value is a URL.
VARIABLES = ("RACEBENCH_DSN", "DATABASE_URL")
#: The variable that has the schema, for a client that names it in its SQL (Prisma).
SCHEMA_VARIABLE = "RACEBENCH_SCHEMA"
#: What libpq ignores over a Unix socket, and other drivers refuse.
_NOT_ON_A_SOCKET = ("sslmode", "gssencmode")
#: libpq's variables by keyword. Source: PostgreSQL manual, "Environment Variables".
_OF_LIBPQ = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
    "options": "PGOPTIONS",
    "application_name": "PGAPPNAME",
}
#: libpq's other variables, which would lead to another server, or ask of a proxy what it cannot do.
_MISLEADING = (
    *("PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE", "PGPASSFILE", "PGREQUIREAUTH", "PGCHANNELBINDING", "PGREQUIRESSL"),
    *("PGSSLCERT", "PGSSLKEY", "PGSSLROOTCERT", "PGSSLCRL", "PGREQUIREPEER", "PGGSSENCMODE"),
    *("PGTARGETSESSIONATTRS", "PGLOADBALANCEHOSTS"),
)

#: Variables of an environment by name; None for one that must not be set.
Environment = Mapping[str, str | None]


def through(host: str, port: int, target: Target, schema: str) -> Environment:
    """The variables for a program that is to connect to a proxy at host:port in place of the target.

    That connections work in the schema, and the name of the application, are the proxy's to add.
    """
    known = target.parameters
    parameters = {
        **{name: known[name] for name in ("user", "password") if name in known},
        "host": host,
        "port": str(port),
        "dbname": known.get("dbname") or known.get("user", ""),
    }
    return {
        **dict.fromkeys((*_MISLEADING, *_OF_LIBPQ.values())),
        **_of_libpq({**parameters, "sslmode": "disable"}),
        **dict.fromkeys(VARIABLES, _uri(parameters)),
        SCHEMA_VARIABLE: schema,
    }


def direct(target: Target, schema: str, application_name: str) -> Environment:
    """The variables for a program that connects to the server itself, and works in a schema; raises DatabaseProblem."""
    url = variables(target, schema, application_name)
    parameters = _placed(target, schema, application_name)
    others: dict[str, str | None] = {}
    if target.sealed:
        others = dict.fromkeys((*_MISLEADING, *_OF_LIBPQ.values()))
    elif "host" in parameters:
        others = dict.fromkeys(("PGHOSTADDR", "PGSERVICE"))
    if parameters.get("host", "").startswith("/"):
        parameters["sslmode"] = "disable"  # node-postgres asks for TLS otherwise, which no socket has
    return {**others, **_of_libpq(parameters), **url}


def variables(target: Target, schema: str, application_name: str) -> dict[str, str]:
    """The variables that say where the tables are: a URI that libpq, asyncpg, node-postgres and dj-database-url read.

    SQLAlchemy reads it with the name of a driver of libpq's in it.

    Raises DatabaseProblem if a connection to that URI would work in the application's own schema.
    """
    if not target.keeps_search_path:
        raise DatabaseProblem(
            f"code that connects to {target.label} would work on its own tables, not on racebench's: the pooler "
            "drops the search_path of the URI; give a DSN of the server itself"
        )
    return {**dict.fromkeys(VARIABLES, _uri(_placed(target, schema, application_name))), SCHEMA_VARIABLE: schema}


def _placed(target: Target, schema: str, application_name: str) -> dict[str, str]:
    options = [target.parameters.get("options", ""), f"-csearch_path={schema}"]
    return {
        **target.parameters,
        "options": " ".join(part for part in options if part),
        "application_name": application_name,
    }


def _of_libpq(parameters: Mapping[str, str]) -> dict[str, str]:
    return {variable: parameters[keyword] for keyword, variable in _OF_LIBPQ.items() if keyword in parameters}


def _uri(known: Mapping[str, str]) -> str:
    parameters = dict(known)
    user, password = parameters.pop("user", ""), parameters.pop("password", "")
    host, port, database = parameters.pop("host", ""), parameters.pop("port", ""), parameters.pop("dbname", "")
    who = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    if host.startswith("/"):
        for name in _NOT_ON_A_SOCKET:
            parameters.pop(name, None)
        query = {"host": host, **({"port": port} if port else {}), **parameters}
        place = ""
    else:
        query, place = parameters, host + (f":{port}" if port else "")
    words = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    return f"postgresql://{who}{'@' if who else ''}{place}/{quote(database, safe='')}" + (f"?{words}" if words else "")
