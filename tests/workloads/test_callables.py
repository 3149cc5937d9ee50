"""What an application's code is told of the server, and what it is given."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest

from racebench.core.target import Target
from racebench.workloads.addresses import variables
from racebench.workloads.callables import advice

_TLS = {"sslmode": "require", "gssencmode": "disable"}


@pytest.mark.parametrize(("host", "kept"), [("/run/postgresql", {}), ("db.example", _TLS)])
def test_the_uri_has_what_concerns_encryption_only_where_there_is_any(host: str, kept: dict[str, str]) -> None:
    """Over a Unix socket libpq ignores it, and asyncpg sends `gssencmode` to the server as a setting."""
    target = Target(kind="external", parameters={"host": host, "dbname": "shop", "user": "me", **_TLS}, label="it")
    given = variables(target, "racebench_1", "test")
    assert given.pop("RACEBENCH_SCHEMA") == "racebench_1"
    assert len(set(given.values())) == 1
    query = dict(parse_qsl(urlsplit(given["DATABASE_URL"]).query))
    assert {name: query[name] for name in _TLS if name in query} == kept
    assert query["options"] == "-csearch_path=racebench_1"


@pytest.mark.parametrize(
    ("code", "said", "expected"),
    [
        ("42P01", 'relation "orders" does not exist', "; is the setup complete?"),
        ("TypeError", "connect() got an unexpected keyword argument 'options'", "async_creator"),
        ("KeyError", "'TENANT'", ""),
    ],
)
def test_the_advice_fits_the_failure(code: str, said: str, expected: str) -> None:
    assert expected in advice(code, said)
    assert bool(advice(code, said)) == bool(expected)
