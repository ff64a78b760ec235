"""Message bus, the ticket service: issues the tickets of each part of an order.

    python ticket_service.py

See bus.py for the map of events.
"""

from collections.abc import Iterable

import bus


def issue(part: dict) -> Iterable[bus.Event]:
    tickets = [f"{part['order']}-{part['supplier']}-{seat}" for seat in range(1, part["seats"] + 1)]
    print(f"issued {' '.join(tickets)}")
    yield "tickets", f"ticket.issued.{part['supplier']}", {**part, "tickets": tickets}


bus.serve("ticket", "orders", "order.part.*", issue)
