"""Two orders never have the same number, whatever the schedule of the requests."""

import pytest
from fastapi.testclient import TestClient
from shop import SCHEMA, app

from racebench import Fixture, RaceFound

DUPLICATES = "SELECT number FROM orders GROUP BY number HAVING count(*) > 1"

client = TestClient(app)


def post_order():
    client.post("/orders").raise_for_status()


def post_order_fixed():
    client.post("/orders/fixed").raise_for_status()


def post_order_async():
    client.post("/orders/async").raise_for_status()


def post_order_async_fixed():
    client.post("/orders/async/fixed").raise_for_status()


@pytest.mark.parametrize("post", [post_order, post_order_async])
@pytest.mark.xfail(raises=RaceFound, strict=True, reason="meant to fail; pytest --runxfail shows the race")
def test_create_order_is_race_free(racebench: Fixture, post):
    racebench.explore(post, sessions=2, setup=SCHEMA, invariant=DUPLICATES)


@pytest.mark.parametrize("post", [post_order_fixed, post_order_async_fixed])
def test_create_order_fixed_is_race_free(racebench: Fixture, post):
    racebench.explore(post, sessions=2, setup=SCHEMA, invariant=DUPLICATES)
    racebench.hammer(post, workers=4, operations=100, setup=SCHEMA, invariant=DUPLICATES)
