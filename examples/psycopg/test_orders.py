"""Two orders never have the same number, whatever the schedule."""

from orders import SCHEMA, create_order, create_order_fixed

DUPLICATES = "SELECT number FROM orders GROUP BY number HAVING count(*) > 1"


def test_create_order_is_race_free(racebench):
    racebench.explore(create_order, sessions=2, setup=SCHEMA, invariant=DUPLICATES)


def test_create_order_fixed_is_race_free(racebench):
    racebench.explore(create_order_fixed, sessions=3, setup=SCHEMA, invariant=DUPLICATES)
    racebench.hammer(create_order_fixed, workers=4, seconds=1, setup=SCHEMA, invariant=DUPLICATES)
