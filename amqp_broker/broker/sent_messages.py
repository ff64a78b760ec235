"""The messages that are on their way to a client and keep their packet identifiers while it is away (MQTT's QoS 2).

A message is known by its reference in the journal or, where it has none, by itself.
"""

from __future__ import annotations

from amqp_broker.broker.message import Message


class SentMessages:
    """The packet identifiers of one session's messages."""

    __slots__ = ("_ids", "_used")

    def __init__(self) -> None:
        self._ids: dict[object, int] = {}
        self._used: set[int] = set()

    def __len__(self) -> int:
        return len(self._ids)

    def put(self, message: Message, packet_id: int) -> None:
        """A message has this identifier."""
        self._put(message.reference or message, packet_id)

    def restore(self, reference: int, packet_id: int) -> None:
        """The same for one that was read from the journal."""
        self._put(reference, packet_id)

    def _put(self, key: object, packet_id: int) -> None:
        self._ids[key] = packet_id
        self._used.add(packet_id)

    def id_of(self, message: Message) -> int | None:
        """The identifier of a message; None where it has none."""
        return self._ids.get(message.reference or message)

    def is_used(self, packet_id: int) -> bool:
        """Whether any message has this identifier."""
        return packet_id in self._used

    def forget(self, message: Message) -> bool:
        """A message has no identifier any more; returns whether it had one."""
        return self.forget_key(message.reference or message)

    def forget_key(self, key: object) -> bool:
        """The same for one that ``items`` has named."""
        packet_id = self._ids.pop(key, None)
        if packet_id is None:
            return False
        self._used.discard(packet_id)
        return True

    def items(self) -> list[tuple[object, int]]:
        """What each message is known by, with its identifier, in the order of their sending."""
        return list(self._ids.items())

    def kept(self) -> dict[int, int]:
        """Those in the journal, by reference."""
        return {key: packet_id for key, packet_id in self._ids.items() if isinstance(key, int)}
