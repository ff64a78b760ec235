"""Messages on their way in: SEND, where it goes, receipts when the journal has kept what they answer, temporary queues.

A SEND is prepared, which finds all that can be wrong with it, and then put into its queues, so that a transaction can
prepare all it holds before anything of it is done. Holds no transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amqp_broker.broker.counters import STOMP
from amqp_broker.broker.message import Digest, digest_of
from amqp_broker.broker.observer import Passage
from amqp_broker.broker.publishing import REFUSED, UNROUTED, Outcome, Target
from amqp_broker.errors import precondition_failed
from amqp_broker.protocols.stomp.destinations import QUEUE, TEMP_QUEUE, Destination, parse_destination
from amqp_broker.protocols.stomp.errors import StompError
from amqp_broker.protocols.stomp.frames import Frame, encode_frame
from amqp_broker.protocols.stomp.messages import Translations
from amqp_broker.protocols.stomp.queues import Queues
from amqp_broker.session.confirms import Confirms

if TYPE_CHECKING:
    from amqp_broker.protocols.stomp.link import Link

TARGETS_MAX: Final = 1_024  # destinations whose route a connection remembers
DECLARE_EFFORT: Final = 30  # about; see ``ClientConnection.has_cost``
IMPERSONATOR: Final = "impersonator"  # the tag of users that may publish in the name of others


class Prepared:
    """A message that may go in.

    Args:
        version: of what there is to be looked up, when its target was.
    """

    __slots__ = ("body", "destination", "digest", "header", "receipt", "target", "version")

    def __init__(
        self,
        destination: str,
        target: Target,
        version: int,
        header: bytes,
        digest: Digest,
        body: bytes,
        receipt: str | None,
    ) -> None:
        self.destination = destination
        self.target = target
        self.version = version
        self.header = header
        self.digest = digest
        self.body = body
        self.receipt = receipt


class Publishing:
    """The publisher's side of a connection that is open."""

    def __init__(self, connection: Link, queues: Queues) -> None:
        broker = connection.broker
        self._queues = queues
        self._connection = connection
        self._host = connection.virtual_host
        self._translations = Translations()
        self._confirms = Confirms(broker, broker.durability.is_kept, self._tell)
        self._number = 0
        self._receipts: dict[int, str] = {}  # by the number of what they answer
        self._farewell = 0  # the number of DISCONNECT
        self._targets: dict[str, Target] = {}
        self._targets_version = -1

    @property
    def unconfirmed_count(self) -> int:
        """How many receipts are owed."""
        return len(self._receipts)

    # --- SEND

    def send(self, frame: Frame) -> None:
        """Handle a SEND outside of transactions.

        Raises:
            StompError, AmqpError: it cannot be, or is not allowed.
        """
        self.put(self.prepare(frame))

    def prepare(self, frame: Frame) -> Prepared:
        """Find out whether a message may go in; raises as ``send`` does."""
        path = self.check(frame)
        self._connection.throttle.has_published = True
        target = self._target(path, frame)
        version = self._targets_version
        reply_to = frame.headers.get("reply-to", "")
        if reply_to.startswith("/temp-queue"):
            temporary = parse_destination(reply_to)
            name = self._connection.reply_queue(temporary.routing_key)
            frame = Frame(frame.command, {**frame.headers, "reply-to": name}, frame.body)
        header, digest = self._translations.header(frame)
        user = self._connection.client.user
        if digest.user_id is not None and digest.user_id != user.name and IMPERSONATOR not in user.tags:
            raise precondition_failed(
                f"user_id property set to '{digest.user_id}' but authenticated user was '{user.name}'"
            )
        if digest.extra_routing_keys:
            self._host.ingress.check_copies(self._connection.client, target.exchange, digest)
        return Prepared(path, target, version, header, digest, frame.body, frame.headers.get("receipt"))

    def check(self, frame: Frame) -> str:
        """The destination of a SEND, if its headers are such that there is any sense in it; raises as ``send``."""
        if "message-id" in frame.headers:
            raise StompError("Invalid header", "'message-id' is not allowed on 'SEND'.\n")
        path = frame.headers.get("destination")
        if path is None:
            raise StompError("Missing destination", "\"SEND\" must include a 'destination' header\n")
        if path not in self._targets and parse_destination(path).kind == TEMP_QUEUE:
            raise StompError("Invalid destination", f"'{path}' is not a valid destination for 'SEND'\n")
        return path

    def put(self, prepared: Prepared) -> Outcome:
        """Put a message into its queues, answer when it is kept, and return what came of it."""
        outcome = self._put(prepared)
        if prepared.receipt is not None:
            of_duplicates = self._connection.broker.durability.position_of_duplicates
            self.receipt_when_kept(prepared.receipt, of_duplicates if outcome == UNROUTED else outcome)
        return outcome

    def _put(self, prepared: Prepared) -> Outcome:
        target = self._target_now(prepared)
        header, body, digest, queues = prepared.header, prepared.body, prepared.digest, target.queues
        address = target.address
        if self._host.interceptors.present:
            header = self._host.intercepted(address, self._connection.user_name, header, body)
            digest = digest_of(header)
        if digest.extra_routing_keys or not target.may_be_remembered:
            keys = (address.routing_key, *digest.extra_routing_keys)
            queues = self._host.ingress.route(target.exchange, keys, header, body, digest)
        if len(queues) > 1:
            self._connection.has_cost(len(queues))
        target.exchange.published_in += 1
        target.exchange.published_out += len(queues)
        counts = self._connection.counts
        counts.published += 1
        sizes = self._connection.broker.message_sizes
        if sizes.are_counted:
            sizes.note(STOMP, len(body))
        outcome = UNROUTED
        if queues:
            outcome = self._host.ingress.put(queues, address, header, body, digest)
        elif not self._connection.broker.reply(address, header, body):
            counts.dropped += 1
            self._host.drops.unroutable(self._host.name, address, self._connection.user_name)
        observers = self._connection.broker.observers
        if observers.present:
            passage = Passage(self._host, address, header, body, queues, outcome != REFUSED)
            observers.published(self._connection.channel, passage)
        return outcome

    def _target(self, path: str, frame: Frame | None = None) -> Target:
        """Where a destination's messages go; its queue is declared as the frame wants, where it has one."""
        if self._targets_version != self._host.lookup_version:
            self._targets.clear()
            self._targets_version = self._host.lookup_version
        target = self._targets.get(path)
        if target is None:
            destination = parse_destination(path)
            if frame is not None and destination.kind == QUEUE:
                self._connection.has_cost(DECLARE_EFFORT)
                self._queues.declare(destination, destination.routing_key, frame)
                self._targets_version = self._host.lookup_version
            target = self._look_up(destination)
            if len(self._targets) >= TARGETS_MAX:
                self._targets.clear()
            self._targets[path] = target
        return target

    def _target_now(self, prepared: Prepared) -> Target:
        """Where a prepared message goes. It may go there, so nobody is asked again in the middle of a transaction."""
        target, host = prepared.target, self._host
        if prepared.version == host.lookup_version:
            return target
        exchange = target.exchange
        if host.exchanges.get(exchange.name) is not exchange:
            return self._target(prepared.destination)
        route = host.ingress.route_of_all(exchange, target.address.routing_key)
        self._connection.has_cost(1)
        return Target(exchange, target.address, route.queues, route.may_be_remembered)

    def _look_up(self, destination: Destination) -> Target:
        connection = self._connection
        target = self._host.ingress.target(connection.client, destination.exchange, destination.routing_key)
        connection.has_cost(1)
        return target

    # --- receipts

    def receipt_when_kept(self, receipt: str, outcome: Outcome) -> None:
        """Answer when the journal has kept what it must, behind the receipts before it."""
        self._number += 1
        self._receipts[self._number] = receipt
        self._confirms.add(self._number, outcome)

    def say_farewell(self, receipt: str) -> None:
        """Answer a DISCONNECT, behind all receipts that are owed, and end the connection."""
        self._farewell = self._number + 1
        self.receipt_when_kept(receipt, self._connection.broker.durability.position_of_all)

    def _tell(self, first: int, last: int, accepted: bool) -> None:
        output = self._connection.output
        for number in range(first, last + 1):
            receipt = self._receipts.pop(number)
            if accepted:
                output.send(encode_frame("RECEIPT", {"receipt-id": receipt}))
            else:
                refused = StompError("Message rejected", "A queue that the message was routed to did not take it.\n")
                self._connection.say(refused, {"receipt-id": receipt})
        self._connection.counts.confirmed += last - first + 1
        if self._farewell and last >= self._farewell:
            self._connection.finish()

    def answer_what_is_kept(self) -> None:
        """Send the receipts that need not wait for the journal now, and not at the end of the chunk."""
        self._confirms.finish()

    def stop(self) -> None:
        """The connection ends: what need not wait for the journal is answered, the rest will not be."""
        self._farewell = 0
        self.answer_what_is_kept()
        self._confirms.release()
        self._receipts.clear()
