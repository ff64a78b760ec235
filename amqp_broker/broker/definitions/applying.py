"""An import of definitions: checked in slices, kept all at once, made in slices.

Theory of operation. ``check`` reads all of it, hashes passwords, and changes nothing. ``begin`` does in one go, however
large it is, what makes the import count: users, virtual hosts, permissions, parameters and policies come into force
(some 0.05 ms each), and exchanges, queues and bindings get their records, very many of them in one
(``Durability.keep_together``). So the journal has all of it, or nothing. Then exchanges, queues and bindings are made
in slices, while others have their turn (``making.py`` says what holds meanwhile); should the broker end before the last
one, the next start makes the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from amqp_broker.broker.definitions.making import HostMaking
from amqp_broker.broker.definitions.reading import (
    HostPlan,
    NewBinding,
    NewExchange,
    NewQueue,
    NewUser,
    NotImported,
    Reader,
)
from amqp_broker.broker.persistence.definitions import binding_fields, encode_together, exchange_fields, queue_fields
from amqp_broker.broker.persistence.kinds import RecordKind
from amqp_broker.broker.user_administration import password_bytes
from amqp_broker.logs import log_event
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.broker.works import Work

TOGETHER_MAX = 256  # definitions in one record, which lives as long as any of them

New = NewExchange | NewQueue | NewBinding


class Record:
    """One record of definitions.

    Args:
        definitions: which, in order.
        payload: the record's.
    """

    __slots__ = ("definitions", "payload")

    def __init__(self, definitions: list[New], payload: bytes) -> None:
        self.definitions = definitions
        self.payload = payload


class DefinitionsImport:
    """One import.

    Args:
        document: an object of JSON, as RabbitMQ exports it.
        virtual_host: into which it goes; None for what was exported as a whole.
        who: wants it, as it stands in the log.

    Raises:
        NotImported: that is no object.
        NotThere: there is no virtual host of that name.
    """

    def __init__(self, broker: Broker, document: object, virtual_host: str | None = None, *, who: str) -> None:
        self._broker = broker
        self._into = virtual_host
        self._reader = Reader(broker, document, virtual_host)
        self._plan = self._reader.plan
        self._who = who
        self._administration = broker.administration.on_behalf_of(who)
        self._records: list[Record] = []
        self._makings: list[HostMaking] = []
        self.counts: dict[str, int] = {}  # of what was new or set, when all is made

    # --- first

    def check(self) -> Iterator[None]:
        """Read all of it, a slice a step; to be done to its end before ``begin``.

        Raises:
            NotImported: something in it cannot be had.
        """
        yield from self._reader.steps()
        yield from self._hash_passwords()
        if self._broker.durability.has_journal:
            for name, plan in self._plan.hosts.items():
                yield from self._encode(name, plan)

    def _hash_passwords(self) -> Iterator[None]:
        """Hash what is no hash yet, one a step, for it is slow on purpose."""
        for user in self._plan.users:
            if isinstance(user.password, str):
                user.password = self._broker.users.verifier.hash(password_bytes(user.password))
                yield

    def _encode(self, name: str, plan: HostPlan) -> Iterator[None]:
        definitions: list[New] = []
        payload = bytearray()
        for kind, new, fields in _kept(name, plan):
            definitions.append(new)
            payload += encode_together(kind, fields)
            if len(definitions) == TOGETHER_MAX:
                self._records.append(Record(definitions, bytes(payload)))
                definitions = []
                payload = bytearray()
                yield
        if definitions:
            self._records.append(Record(definitions, bytes(payload)))

    # --- then

    def waits_for(self) -> Work | None:
        """What is to be done before ``begin``, if anything: the end of another import into the same virtual hosts."""
        for name in self._plan.hosts:
            host = self._broker.virtual_hosts.get(name)
            if host is not None and isinstance(host.pending, HostMaking) and host.pending.work is not None:
                return host.pending.work
        return None

    def begin(self) -> list[Work]:
        """Let it count; to be called within ``Broker.handle``.

        Returns:
            What is to be finished before all is made, and policies are in force for what was there; ``counts`` are
            there then.

        Raises:
            NotImported: something that it needs has gone since it was checked, and nothing was changed.
            NotThere: the virtual host has.
        """
        works = self._count()
        making = self._broker.works.begin(self._make())
        for one in self._makings:
            one.work = making
        return [*works, making]

    def do(self) -> list[Work]:
        """All of it in one go; to be called within ``Broker.handle``.

        Returns:
            What is to be finished before policies are in force for what was there.
        """
        for _ in self.check():
            pass
        works = self._count()
        for _ in self._make():
            pass
        return works

    def _count(self) -> list[Work]:
        """All that is to be done at once."""
        self._check_again()
        self._finish_others()
        works = self._administer()
        for name, plan in self._plan.hosts.items():
            host = self._broker.virtual_hosts[name]
            self._makings.append(HostMaking(host, plan, self._who))
        self._keep()
        for making in self._makings:
            making.leave_what_is_there()
        return works

    def _check_again(self) -> None:
        """Others had their turn since it was checked."""
        broker, plan = self._broker, self._plan
        if self._into is not None:
            broker.administration.virtual_host(self._into)
        needed = {*plan.hosts, *(one[1] for one in plan.permissions), *(one[1] for one in plan.topic_permissions)}
        for name in needed:
            if name not in broker.virtual_hosts and name not in plan.virtual_hosts:
                raise NotImported(f"virtual host '{name}' was deleted meanwhile")
        new = {user.name for user in plan.users}
        for name in {*(one[0] for one in plan.permissions), *(one[0] for one in plan.topic_permissions)} - new:
            if broker.users.get(name) is None:
                raise NotImported(f"user '{name}' was deleted meanwhile")
        self._reader.check_queue_count()

    def _finish_others(self) -> None:
        """Whoever has not waited for another import finishes it."""
        for name in self._plan.hosts:
            host = self._broker.virtual_hosts.get(name)
            if host is not None and isinstance(host.pending, HostMaking):
                for _ in host.pending.steps():
                    pass

    def _keep(self) -> None:
        for record in self._records:
            reference = self._broker.durability.keep_together(record.payload, len(record.definitions))
            for number, new in enumerate(record.definitions, start=reference):
                new.reference = number
        self._records = []

    def _make(self) -> Iterator[None]:
        for making in self._makings:
            yield from making.steps()
        self.counts = self._counted()
        log_event(logging.INFO, "definitions imported", **self.counts, who=self._who)

    def _counted(self) -> dict[str, int]:
        plan, makings = self._plan, self._makings
        return {
            "users": len(plan.users),
            "vhosts": len(plan.virtual_hosts),
            "permissions": len(plan.permissions) + len(plan.topic_permissions),
            "parameters": len(plan.global_parameters) + sum(len(one.parameters) for one in plan.hosts.values()),
            "policies": sum(len(one.policies) for one in plan.hosts.values()),
            "exchanges": sum(one.exchange_count for one in makings),
            "queues": sum(one.queue_count for one in makings),
            "bindings": sum(one.binding_count for one in makings),
            "left_out": plan.left_out_count,
        }

    # --- what an administrator would do

    def _administer(self) -> list[Work]:
        plan, administration = self._plan, self._administration
        for user in plan.users:
            self._put_user(user)
        for name, metadata in plan.virtual_hosts.items():
            if name not in self._broker.virtual_hosts:
                administration.add_virtual_host(name, metadata)
            elif metadata is not None:
                administration.set_metadata(name, metadata)
        for user_name, host_name, (configure, write, read) in plan.permissions:
            administration.set_permission(user_name, host_name, configure, write, read)
        for user_name, host_name, exchange, write, read in plan.topic_permissions:
            administration.set_topic_permission(user_name, host_name, exchange, write, read)
        for name, value in plan.global_parameters:
            administration.parameters.set_global_parameter(name, value)
        works: list[Work] = []
        for name, host_plan in plan.hosts.items():
            for component, parameter, value in host_plan.parameters:
                administration.parameters.set_parameter(name, component, parameter, value)
            for component, policy, definition in host_plan.policies:
                works.append(administration.parameters.set_policy(name, policy, definition, component))
        return works

    def _put_user(self, new: NewUser) -> None:
        administration = self._administration
        if self._broker.users.get(new.name) is None:
            administration.add_user(new.name, new.password, new.tags)
        else:
            if new.password is not None:
                administration.change_password(new.name, new.password)
            administration.set_tags(new.name, new.tags)
        if new.limits is not None:
            administration.parameters.set_user_limits(new.name, new.limits)


def _kept(host: str, plan: HostPlan) -> Iterator[tuple[RecordKind, New, Table]]:
    """What of a plan gets a record, with the fields of each."""
    for exchange in plan.exchanges.values():
        if exchange.durable:
            yield (
                RecordKind.EXCHANGE,
                exchange,
                exchange_fields(
                    host, exchange.name, exchange.type_name, exchange.auto_delete, exchange.internal, exchange.table
                ),
            )
    for queue in plan.queues.values():
        if queue.durable:
            yield RecordKind.QUEUE, queue, queue_fields(host, queue.name, queue.auto_delete, queue.table)
    for one in plan.bindings:
        if one.durable:
            yield (
                RecordKind.BINDING,
                one,
                binding_fields(host, one.source, one.kind == "queue", one.destination, one.routing_key, one.table),
            )


def import_definitions(
    broker: Broker, document: object, virtual_host: str | None = None, *, who: str
) -> tuple[dict[str, int], list[Work]]:
    """Have all that definitions say, or nothing of it, in one go. To be called within ``Broker.handle``.

    Args, Raises: as of ``DefinitionsImport``; NotImported when something in it cannot be had, too.

    Returns:
        How many of each were new or set; and what is to be finished before policies are in force for what was there.
    """
    definitions = DefinitionsImport(broker, document, virtual_host, who=who)
    works = definitions.do()
    return definitions.counts, works
