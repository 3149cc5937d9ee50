"""No two orders have the same number, whoever comes first."""

import pytest

TWINS = "SELECT number FROM orders GROUP BY number HAVING count(*) > 1"


@pytest.fixture(scope="session")
def shop(racebench_dsn):
    """The application, imported once it can know where its tables are."""
    import shop

    shop.Base.metadata.create_all(shop.engine)
    yield shop
    shop.engine.dispose()


def test_create_order_is_race_free(racebench, shop):
    racebench.explore(shop.create_order, sessions=2, invariant=TWINS)


def test_create_order_fixed_is_race_free(racebench, shop):
    racebench.explore(shop.create_order_fixed, sessions=3, invariant=TWINS)
    racebench.hammer(shop.create_order_fixed, workers=4, seconds=1, invariant=TWINS).assert_clean()
