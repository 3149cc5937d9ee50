"""Orders that are numbered 1, 2, 3 …, over Django's ORM."""

from django.db import connection, models, transaction


class Order(models.Model):
    """An order."""

    number = models.IntegerField()


def create_order():
    """Wrong: two requests can read the same maximum."""
    last = Order.objects.aggregate(last=models.Max("number"))["last"] or 0
    Order.objects.create(number=last + 1)


@transaction.atomic
def create_order_fixed():
    """Right: the second session waits until the first has committed."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(42)")
    create_order()
