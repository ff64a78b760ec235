"""Message bus, the create service: checks what is requested and makes an order of it.

    python create_service.py

See bus.py for the map of events.
"""

from collections.abc import Iterable

import bus


def create(request: dict) -> Iterable[bus.Event]:
    wanted = {supplier: count for supplier, count in request["seats"].items() if count > 0}
    if not wanted:
        print(f"{request['order']} asks for nothing")
        return
    print(f"created {request['order']}")
    yield "orders", "order.created", {"order": request["order"], "seats": wanted}


bus.serve("create", "orders", "order.requested", create)
