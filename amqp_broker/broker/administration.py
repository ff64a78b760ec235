"""Changes by an administrator: users, their permissions and limits, virtual hosts and theirs, what clients have left.

Every such change goes through here, whoever asks for it: it is checked first, written to the journal, and acts at once
on the connections that are open. A permission that was withdrawn is missed by the next operation (the routes that
publishers remember are forgotten); the connections of a user or a virtual host that is deleted are closed.

Each is a line of the log, at level info: who has changed what, how it was before, and how it is now. That is the audit
trail; passwords and their hashes are not in it.

Changes to users are in ``user_administration.py``. Holds no way of asking; that is the server floor's control socket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from amqp_broker.broker.observer import Kind
from amqp_broker.broker.parameter_administration import ParameterAdministration
from amqp_broker.broker.persistence.definitions import keep_limits, keep_metadata, keep_user, keep_virtual_host
from amqp_broker.broker.problems import AdministrationError, AlreadyThere, NotThere, Protected
from amqp_broker.broker.user_administration import UserAdministration, check_limits, check_name, limits_text
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.broker.virtual_host_properties import Metadata
from amqp_broker.broker.works import Work
from amqp_broker.errors import AmqpError

if TYPE_CHECKING:
    from amqp_broker.broker.queues.base import Queue

TEXT_BYTES_MAX = 4096


class Administration(UserAdministration):
    """The changes that an administrator makes to one broker.

    Args:
        broker: which.
        who: makes them, as it stands in the log, and as those are told who look on.
    """

    def on_behalf_of(self, who: str) -> Administration:
        """The same changes, with somebody else's name in the log."""
        return Administration(self._broker, who)

    @property
    def parameters(self) -> ParameterAdministration:
        """The changes to parameters and policies."""
        return ParameterAdministration(self._broker, self._who, self)

    # --- virtual hosts

    def add_virtual_host(self, name: str, metadata: Metadata | None = None) -> VirtualHost:
        """Create a virtual host; nobody may do anything in it yet.

        Raises:
            AlreadyThere: there is one of that name.
            AdministrationError: something in the metadata cannot be had.
        """
        check_name("virtual host", name)
        if metadata is not None:
            check_metadata(metadata, self._broker.queue_types.names)
        if name in self._broker.virtual_hosts:
            raise AlreadyThere(f"there is a virtual host '{name}' already")
        virtual_host = self._broker.add_virtual_host(name)
        keep_virtual_host(self._broker.durability, virtual_host)
        if metadata is not None:
            virtual_host.metadata = metadata
            keep_metadata(self._broker.durability, virtual_host)
        self._log("virtual host added", None, None, vhost=name)
        self._declared(Kind.VIRTUAL_HOST, "", name, virtual_host)
        self._tell_of_virtual_host("vhost.created", virtual_host)
        return virtual_host

    def set_metadata(self, name: str, metadata: Metadata) -> None:
        """Say something else of a virtual host. Queues that are there keep their type.

        Raises:
            NotThere: there is none of that name.
            AdministrationError: something in it cannot be had.
        """
        virtual_host = self.virtual_host(name)
        check_metadata(metadata, self._broker.queue_types.names)
        before, virtual_host.metadata = virtual_host.metadata, metadata
        keep_metadata(self._broker.durability, virtual_host)
        self._log("virtual host metadata changed", _metadata_text(before), _metadata_text(metadata), vhost=name)
        self._declared(Kind.VIRTUAL_HOST, "", name, virtual_host)
        self._tell_of_virtual_host("vhost.updated", virtual_host)

    def set_protection(self, name: str, *, is_on: bool) -> None:
        """Have a virtual host not be deleted until this is taken back (RabbitMQ docs, "Virtual Hosts").

        Raises:
            NotThere: there is none of that name.
        """
        self.set_metadata(name, replace(self.virtual_host(name).metadata, is_protected=is_on))

    def set_tracing(self, name: str, *, is_on: bool) -> None:
        """Copy all that clients publish and get in a virtual host to ``amq.rabbitmq.trace``, until the next start.

        Raises:
            NotThere: there is none of that name.
        """
        virtual_host, firehose = self.virtual_host(name), self._broker.firehose
        before = firehose.is_on(name)
        if is_on:
            firehose.turn_on(virtual_host)
        else:
            firehose.turn_off(name)
        self._log("firehose changed", f"tracing={before}", f"tracing={is_on}", vhost=name)
        if before != is_on:
            self._tell_of_virtual_host("vhost.updated", virtual_host)

    def _tell_of_virtual_host(self, event: str, virtual_host: VirtualHost) -> None:
        metadata = virtual_host.metadata
        self._happened(
            event,
            name=virtual_host.name,
            description=metadata.description,
            tags=list(metadata.tags),
            default_queue_type=metadata.default_queue_type or "undefined",
            tracing=self._broker.firehose.is_on(virtual_host.name),
        )

    def set_virtual_host_limits(self, name: str, **limits: int | None) -> None:
        """Limit what there may be in a virtual host; what is left out stays, None is no limit.

        Args:
            limits: ``connections_max``, ``queues_max``.
        """
        virtual_host = self.virtual_host(name)
        check_limits(limits)
        before, virtual_host.limits = virtual_host.limits, replace(virtual_host.limits, **limits)
        keep_limits(self._broker.durability, virtual_host)
        self._log("virtual host limits changed", limits_text(before), limits_text(virtual_host.limits), vhost=name)
        self._declared(Kind.VIRTUAL_HOST, "", name, virtual_host)
        self._tell_of_limits("vhost", limits, vhost=name)

    def delete_virtual_host(self, name: str) -> None:
        """Delete a virtual host with all that is in it, and close the connections to it.

        Raises:
            NotThere: there is none of that name.
            Protected: it is protected from that.
        """
        virtual_host = self.virtual_host(name)
        if virtual_host.metadata.is_protected:
            raise Protected(f"virtual host '{name}' is protected from deletion: take the protection back first")
        for user in self._broker.users:
            permission = user.permissions.pop(name, None)
            topic_permissions = user.topic_permissions.pop(name, None)
            if permission is not None or topic_permissions is not None:
                keep_user(self._broker.durability, user)
        before = f"queues={len(virtual_host.queues)} exchanges={len(virtual_host.exchanges)}"
        virtual_host.clear(self._who)
        del self._broker.virtual_hosts[name]
        self._broker.firehose.forget(name)
        self._broker.drops.forget_virtual_host(name)
        self._deleted(Kind.VIRTUAL_HOST, "", name, virtual_host)
        self._happened("vhost.deleted", name=name)
        for connection in self._broker.open_connections.in_virtual_host(name):
            connection.close_forcibly(f"vhost '{name}' is deleted")
        self._broker.counts_of_deleted.add_all(virtual_host.counts_of_ended)
        self._broker.components.all_changed()
        self._log("virtual host deleted", before, None, vhost=name)

    # --- queues and connections

    def queue(self, virtual_host: str, name: str) -> Queue:
        """Look a queue up.

        Raises:
            NotThere: there is no such virtual host, or no queue of that name in it.
        """
        queue = self.virtual_host(virtual_host).queues.get(name)
        if queue is None:
            raise NotThere(f"there is no queue '{name}' in virtual host '{virtual_host}'")
        return queue

    def purge_queue(self, virtual_host: str, name: str) -> tuple[int, Work]:
        """Drop all messages that are ready; those that wait for their acknowledgement stay with the clients.

        Returns:
            How many there were, and what is to be finished before that is certain.

        Raises:
            NotThere: there is no such queue.
            AdministrationError: the queue's type cannot do that.
            QueueBusy: how many there are cannot be told yet; ask again when the queue says so.
        """
        try:
            count, work = self.queue(virtual_host, name).purge()
        except AmqpError as error:
            raise AdministrationError(error.explanation) from error
        self._log("queue purged", f"messages={count}", None, queue=name, vhost=virtual_host)
        return count, work

    def delete_queue(self, virtual_host: str, name: str, *, if_unused: bool = False, if_empty: bool = False) -> int:
        """Delete a queue with all messages in it; its consumers are told. An exclusive queue as well.

        Args:
            if_unused: only when it has no consumers.
            if_empty: only when no messages are ready.

        Returns:
            How many messages were ready.

        Raises:
            NotThere: there is no such queue.
            AdministrationError: a condition does not hold, or the queue's type knows no such condition.
            QueueBusy: that cannot be told yet; ask again when the queue says so.
        """
        queue = self.queue(virtual_host, name)
        try:
            queue.check_deletion(if_unused=if_unused, if_empty=if_empty)
        except AmqpError as error:
            raise AdministrationError(error.explanation) from error
        queue.check_dead_letters_left()
        count = queue.ready_count
        queue.virtual_host.remove_queue(queue, self._who)
        self._log("queue deleted", f"messages={count}", None, queue=name, vhost=virtual_host)
        return count

    def delete_super_stream(self, virtual_host: str, name: str) -> int:
        """Delete a super stream: its exchange, and the queues that are bound to it as partitions.

        Returns:
            How many partitions it had.

        Raises:
            NotThere: there is no such virtual host, or no super stream of that name in it.
        """
        host = self.virtual_host(virtual_host)
        exchange = host.exchanges.get(name)
        if exchange is None or exchange.table.get("x-super-stream") is not True:
            raise NotThere(f"there is no super stream '{name}' in virtual host '{virtual_host}'")
        destinations = [binding.destination for binding in exchange.bindings.values()]
        partitions = list(dict.fromkeys(one.name for one in destinations if host.queues.get(one.name) is one))
        partitions = [partition for partition in partitions if host.queues[partition].is_log]
        for partition in partitions:
            self.delete_queue(virtual_host, partition)
        host.remove_exchange(exchange, self._who)
        self._log("super stream deleted", f"partitions={len(partitions)}", None, exchange=name, vhost=virtual_host)
        return len(partitions)

    def close_connections(self, name: str, reason: str) -> int:
        """Close the connections of this name.

        Args:
            name: as ``Inspection`` shows it, or the peer's half of that, or how the client has named itself.
            reason: what the clients are told.

        Returns:
            How many there were.

        Raises:
            NotThere: there is none.
        """
        closed = 0
        for connection in self._broker.open_connections:
            info = connection.inspect()
            if name in (info["name"], info["name"].partition(" -> ")[0], info["user_provided_name"]):
                connection.close_forcibly(reason)
                closed += 1
                names = {"connection": info["name"], "user": info["user"], "vhost": info["vhost"], "reason": reason}
                self._log("connection closed by an administrator", None, None, **names)
        if not closed:
            raise NotThere(f"there is no connection '{name}'")
        return closed


def check_metadata(metadata: Metadata, queue_types: Sequence[str]) -> None:
    """Refuse what cannot be said of a virtual host.

    Args:
        queue_types: the names of those that there are.

    Raises:
        AdministrationError: which and why.
    """
    default = metadata.default_queue_type
    if default is not None and default not in queue_types:
        known = ", ".join(queue_types)
        raise AdministrationError(f"there is no queue type '{default}': a default queue type is one of {known}")
    for text in (metadata.description, *metadata.tags):
        if len(text.encode("utf-8", "surrogateescape")) > TEXT_BYTES_MAX:
            raise AdministrationError(f"a description and a tag have at most {TEXT_BYTES_MAX} bytes")


def _metadata_text(metadata: Metadata) -> str:
    type_text = metadata.default_queue_type or "undefined"
    tags, is_protected = ",".join(metadata.tags), str(metadata.is_protected).lower()
    return (
        f"description='{metadata.description}' tags={tags} default_queue_type={type_text} "
        f"protected_from_deletion={is_protected}"
    )
