"""Uses of the public API as an application's tests have them: test_types.py gives this file to `mypy --strict`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_type

import psycopg
import pytest

import racebench

SCHEMA = "CREATE TABLE orders (number int)"
TWINS = "SELECT number FROM orders GROUP BY number HAVING count(*) > 1"


def create_order(connection: psycopg.Connection[Any]) -> None:
    connection.execute("INSERT INTO orders VALUES (1)")


def no_twins(connection: psycopg.Connection[Any]) -> bool:
    return connection.execute(TWINS).fetchone() is None


program = racebench.program("node create_order.js")
request = racebench.http("POST", "/orders", json={"sku": 1}, headers={"A": "b"})
racebench_http: racebench.HttpRequest = racebench.http("DELETE", "/orders/1", body=b"x")
shop: racebench.Service = racebench.service(
    ["node", "shop.js", "{port}"], ready="/health", expect_status="2xx,409", reset="POST /reset", instances="shared"
)


def test_with_the_fixture(racebench: racebench.Fixture) -> None:
    assert_type(racebench.dsn, str)
    racebench.explore(create_order, sessions=2, setup=SCHEMA, invariant=TWINS)
    racebench.explore(create_order, create_order, setup=[SCHEMA, Path("rows.sql")], invariant=no_twins, budget=math.inf)
    racebench.explore("version-counter", strategy="naive")
    racebench.replay(create_order, schedule="v1:orders/create_order:s1.s2")
    racebench.hammer(create_order, workers=4, seconds=1)
    racebench.compare(create_order, no_twins, rounds=2, seconds=0.5)
    racebench.explore(program, serve=None)
    racebench.replay(request, schedule="v1:shop/post-orders:s1.s2", serve="node shop.js {port}")
    racebench.hammer(request, serve=shop, workers=2)
    racebench.compare(request, racebench_http, serve=shop, rounds=2)
    racebench.explore(create_order, check=False).assert_clean()
    racebench.replay(create_order, schedule="v1:orders/create_order:s1.s2", check=False).assert_clean()
    racebench.hammer(create_order, check=False).assert_clean()
    racebench.compare(create_order, no_twins, check=False).assert_clean()


def with_functions() -> None:
    found = racebench.explore("orders:create_order", setup=SCHEMA, invariant=(), stop_at_first=True, dsn="service=x")
    assert_type(found, racebench.Exploration)
    assert_type(found.assert_clean(), racebench.Exploration)
    assert_type(found.verdict, racebench.Verdict)
    assert_type(found.counts, Mapping[str, int])
    assert_type(found.schedule, str | None)
    assert_type(found.run + found.anomalous, int)
    assert_type(found.result.witness.steps[0].sent if found.result.witness else "", str)
    if found.schedule is not None:
        again = racebench.replay(create_order, schedule=found.schedule, server=16)
        assert_type(again, racebench.Replay)
        assert_type(again.counts, Mapping[str, int])
    checked = racebench.check("results/history.npz")
    assert_type(checked, racebench.CheckResult)


def with_a_bench() -> None:
    with racebench.Bench(server=16) as bench:
        search = racebench.Search(reduce=False, depth=2)
        found = bench.explore(
            "version-counter", strategy="sequence", consumer="cursor", max_schedules=100, seed=1, search=search
        )
        assert_type(found, racebench.Exploration)
        load = racebench.LoadOptions(think_us=10, rate_per_s=100.0)
        loaded = bench.hammer(Path("insert.sql"), setup=SCHEMA, operations=100, load=load)
        assert_type(loaded, racebench.Hammering)
        assert_type(loaded.result.throughput_per_s, float)
        bench.hammer("version-counter", strategy="naive", consumer=["cursor", "settle-delay"], load=load)
        compared = bench.compare(create_order, no_twins, setup=SCHEMA, rounds=2).assert_clean()
        assert_type(compared, racebench.Comparison)
        assert_type(compared.strategies["create_order"].judgement.value, str)
    racebench.compare("version-counter", strategies=["correct"], reference="advisory", server=18)
    with racebench.Bench(pooler="transaction", pool_size=1) as behind:
        behind.explore("insert.sql", setup=SCHEMA, jobs=2)
        behind.explore("version-counter", strategy="naive", scheduler="tls://10.0.0.5:8786")
        behind.hammer("version-counter", strategy="naive", scheduler="local", workers_per_machine=4)
    with pytest.raises(racebench.RaceFound, match="1 missed"):
        found.assert_clean()
    with pytest.raises(racebench.NotClean):
        found.assert_clean()
    assert issubclass(racebench.VerdictUnknown, racebench.NotClean)
    assert issubclass(racebench.RacebenchError, Exception)
