"""Two orders never have the same number, whatever the schedule."""

import pytest

from racebench import Fixture, RaceFound

DUPLICATES = "SELECT number FROM orders GROUP BY number HAVING count(*) > 1"


@pytest.fixture(scope="session")
def shop(racebench_dsn: str):
    """The application, imported after DATABASE_URL is set."""
    import shop

    shop.Base.metadata.create_all(shop.engine)
    yield shop
    shop.engine.dispose()


@pytest.mark.xfail(raises=RaceFound, strict=True, reason="meant to fail; pytest --runxfail shows the race")
def test_create_order_is_race_free(racebench: Fixture, shop):
    racebench.explore(shop.create_order, sessions=2, invariant=DUPLICATES)


def test_create_order_fixed_is_race_free(racebench: Fixture, shop):
    racebench.explore(shop.create_order_fixed, sessions=3, invariant=DUPLICATES)
    racebench.hammer(shop.create_order_fixed, workers=4, operations=400, invariant=DUPLICATES)
