"""Which columns the database fills by itself: what a user's function computes from rows is a value."""

from __future__ import annotations

from racebench.core.target import Target
from racebench.exploration.oracle.defaults import declared
from racebench.postgres.connection import connect
from racebench.postgres.schemas import empty_schema

SETUP = """
CREATE FUNCTION next_number() RETURNS int LANGUAGE sql AS 'SELECT count(*)::int + 1 FROM pg_class WHERE false';
CREATE TABLE orders (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, token uuid DEFAULT gen_random_uuid(), at timestamptz DEFAULT now(),
    number int DEFAULT next_number(), tenant text DEFAULT current_setting('search_path'), n int DEFAULT 0
);
CREATE TABLE items (id bigserial, order_id int REFERENCES orders)
"""


def test_identities_uuids_times_and_references_are_made_up_and_what_functions_compute_is_not(embedded: Target) -> None:
    with empty_schema(embedded, "racebench_defaults"), connect(embedded, schema="racebench_defaults") as connection:
        connection.execute(SETUP)
        assert declared(connection, "racebench_defaults") == {
            ("", "orders", "id"): ".orders_id_seq",
            ("", "orders", "token"): "other",
            ("", "orders", "at"): "time",
            ("", "items", "id"): ".items_id_seq",
            ("", "items", "order_id"): ".orders_id_seq",
        }
