"""Thumbnails of the shop's pictures, with Dramatiq."""

import dramatiq

made = []


def declare(broker):
    """Make the actors of this module known to a broker."""

    @dramatiq.actor(broker=broker, queue_name="thumbnails", max_retries=0)
    def make_thumbnail(picture):
        if not picture.endswith(".jpg"):
            raise ValueError(f"{picture} is no picture")
        made.append(picture)

    return make_thumbnail
