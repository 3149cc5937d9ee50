"""Django's select_for_update() on a query set that is never evaluated: no statement is sent, no row is locked.

As in Saleor, Edge and TaMaTo: the query set was built and assigned, and only its reader sees that it is lazy. The fix
evaluates it.
"""

from __future__ import annotations

from django.db import transaction

from . import Program
from .django_shop import Stock, request

SCHEMA = "CREATE TABLE stocks (id int PRIMARY KEY, quantity int NOT NULL); INSERT INTO stocks VALUES (1, 5);"


@request
def take_one() -> None:
    with transaction.atomic():
        Stock.objects.select_for_update().filter(pk=1)
        stock = Stock.objects.get(pk=1)
        stock.quantity -= 1
        stock.save()


@request
def take_one_locked() -> None:
    with transaction.atomic():
        stock = Stock.objects.select_for_update().get(pk=1)
        stock.quantity -= 1
        stock.save()


PROGRAM = Program(
    schema=SCHEMA,
    buggy=(take_one,),
    fixed=(take_one_locked,),
    invariant="SELECT quantity FROM stocks WHERE quantity <> 3",
)
