"""Shipping, with FastStream: what is paid for is sent on its way."""

from faststream.rabbit import RabbitBroker


def shipping(url):
    """The broker object of this service, with its subscriber."""
    broker = RabbitBroker(url)

    @broker.subscriber("paid")
    @broker.publisher("shipped")
    async def ship(order: int) -> str:
        return f"parcel {order}"

    return broker
