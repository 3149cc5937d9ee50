"""Two orders never have the same number, whatever the schedule."""

import pytest
from orders import SCHEMA, create_order, create_order_fixed

from racebench import Fixture, RaceFound

DUPLICATES = "SELECT number FROM orders GROUP BY number HAVING count(*) > 1"


@pytest.mark.xfail(raises=RaceFound, strict=True, reason="meant to fail; pytest --runxfail shows the race")
def test_create_order_is_race_free(racebench: Fixture):
    racebench.explore(create_order, sessions=2, setup=SCHEMA, invariant=DUPLICATES)


def test_create_order_fixed_is_race_free(racebench: Fixture):
    racebench.explore(create_order_fixed, sessions=3, setup=SCHEMA, invariant=DUPLICATES)
    racebench.hammer(create_order_fixed, workers=4, seconds=1, setup=SCHEMA, invariant=DUPLICATES)
