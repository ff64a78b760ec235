"""Message bus, the split service: an order has one part for each supplier.

    python split_service.py

See bus.py for the map of events.
"""

from collections.abc import Iterable

import bus


def split(order: dict) -> Iterable[bus.Event]:
    print(f"split {order['order']} into {len(order['seats'])}")
    for supplier, count in order["seats"].items():
        yield "orders", f"order.part.{supplier}", {"order": order["order"], "supplier": supplier, "seats": count}


bus.serve("split", "orders", "order.created", split)
