"""Invoices, with Celery."""

from celery import shared_task


@shared_task
def total(prices):
    """What an order costs, in cents."""
    return sum(prices)


@shared_task
def with_tax(cents, percent=25):
    """The same with tax."""
    return cents + cents * percent // 100
