"""Messages of the queues as entries of a stream, and back: whole messages of AMQP 1.0 (``broker/ports.py``,
``EntryForms``)."""

from __future__ import annotations

from amqp_broker.broker.message import Message
from amqp_broker.errors import AmqpError
from amqp_broker.protocols.amqp10.decoding import Malformed
from amqp_broker.protocols.amqp10.messages import Translations
from amqp_broker.protocols.amqp10.sections import split_sections
from amqp_broker.wire.content import Properties, encode_content_header
from amqp_broker.wire.errors import WireError


class StreamEntries:
    """The forms of one broker's entries."""

    def __init__(self) -> None:
        self._translations = Translations()

    def encoded(self, message: Message) -> bytes:
        """The message in the encoding of AMQP 1.0."""
        return self._translations.outgoing(message).encode(message)

    def decoded(self, entry: bytes) -> tuple[bytes, bytes]:
        """The content header and the body of an entry; what is no message of AMQP 1.0 is a body as it stands."""
        try:
            found = split_sections(entry)
            content = self._translations.content(found)
        except (Malformed, WireError, AmqpError):
            return encode_content_header(len(entry), Properties()), entry
        return content.header_for(found.body), found.body
