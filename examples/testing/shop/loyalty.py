"""Points for loyal customers, with Taskiq."""

from taskiq_aio_pika import AioPikaBroker

points = {}


def loyalty(url):
    """The broker object of this service, and its task."""
    broker = AioPikaBroker(url)

    @broker.task
    async def add_points(customer: str, count: int) -> None:
        points[customer] = points.get(customer, 0) + count

    return broker, add_points
