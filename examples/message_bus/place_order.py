"""Message bus, the customer: asks for tickets of several suppliers in one order.

    python place_order.py order-1 opera:2 railway:1

See bus.py for the map of events; run the four services and watch.py beside it.
"""

import sys

import bus

if len(sys.argv) < 3:
    sys.exit("usage: python place_order.py ORDER SUPPLIER:SEATS...")
order, *wishes = sys.argv[1:]
seats = {supplier: int(count) for supplier, count in (wish.split(":") for wish in wishes)}

connection = bus.connect()
channel = connection.channel()
bus.declare_exchanges(channel)
bus.emit(channel, ("orders", "order.requested", {"order": order, "seats": seats}))
print(f"requested {order}")
connection.close()
