"""Message bus, the payout service: pays each supplier for the tickets that were issued.

    python payout_service.py

See bus.py for the map of events.
"""

from collections.abc import Iterable

import bus

PRICE = 25


def pay_out(issued: dict) -> Iterable[bus.Event]:
    amount = PRICE * len(issued["tickets"])
    print(f"paid {amount} to {issued['supplier']} for {issued['order']}")
    yield (
        "payouts",
        f"payout.made.{issued['supplier']}",
        {"order": issued["order"], "supplier": issued["supplier"], "amount": amount},
    )


bus.serve("payout", "tickets", "ticket.issued.*", pay_out)
