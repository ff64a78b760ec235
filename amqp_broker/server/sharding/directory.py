"""The directory of a broker with several shards: users, what they may do, and which virtual host is in which shard.

The root's broker is where administrators change any of it. Its owner writes all of it into one place whenever
something has changed; every node follows what stands there, and each owner of another shard has its broker agree with
it, as far as it concerns the shard. So a login needs nobody but the owner of the virtual host. Does not hold that
place (``sharing.py``).

A virtual host stays in the shard that it was put into, which was the one with the fewest. One that was deleted and
made again is another one: it is known by when it was made, or what was in it could come back.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.definitions.applying import import_definitions
from amqp_broker.broker.definitions.export import of_the_whole
from amqp_broker.broker.inspection import Inspection
from amqp_broker.broker.problems import AdministrationError
from amqp_broker.logs import log_internal_error
from amqp_broker.server.sharding.shards import ROOT

BY: Final = "the directory"
MADE: Final = "amqp_broker_made"  # a global parameter of a shard's broker: which virtual hosts those are that it has
_IDENTITIES: Final[Mapping[str, tuple[str, ...]]] = {  # in an order in which nothing needs what comes later
    "users": ("name",),
    "vhosts": ("name",),
    "permissions": ("user", "vhost"),
    "topic_permissions": ("user", "vhost", "exchange"),
    "global_parameters": ("name",),
}

Entry = Mapping[str, Any]
Sections = dict[str, dict[tuple[str, ...], Entry]]  # as in definitions, each entry by what tells it from the others


class BadDirectory(Exception):
    """The bytes that are kept are no directory that is understood here."""


class CannotAgree(Exception):
    """The directory holds what is not known here, or cannot be made true: who is served could be served wrongly."""


class Place(NamedTuple):
    """The place of a virtual host: its shard, and the number of its making."""

    shard: int
    made: int  # the number of its making, which no other has


@dataclass(frozen=True, slots=True)
class Directory:
    """The content of a directory.

    Args:
        sections: the definitions.
        places: of all virtual hosts, by name.
        made: how many were ever made.
        number: it only grows; 0 where the directory has never been written.
    """

    sections: Sections = field(default_factory=lambda: {name: {} for name in _IDENTITIES})
    places: Mapping[str, Place] = field(default_factory=dict)
    made: int = 0
    number: int = 0

    def encode(self) -> bytes:
        """As it is kept."""
        lists = {name: list(entries.values()) for name, entries in self.sections.items()}
        numbers = {"places": self.places, "made": self.made, "number": self.number}
        return zlib.compress(json.dumps({**lists, **numbers}).encode())

    @classmethod
    def decode(cls, value: bytes) -> Directory:
        """Read it.

        Raises:
            BadDirectory: it is none.
        """
        try:
            found = json.loads(zlib.decompress(value))
            sections = {name: _by_identity(name, found[name]) for name in _IDENTITIES}
            places = {name: Place(*place) for name, place in found["places"].items()}
            return cls(sections, places, found["made"], found["number"])
        except (ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
            raise BadDirectory(
                "the directory of virtual hosts cannot be read: use the release that wrote it"
            ) from error

    def shard_of(self, virtual_host: str) -> int:
        """Where a virtual host is; one that is not there is the root's, which says so."""
        place = self.places.get(virtual_host)
        return ROOT if place is None else place.shard

    def is_in(self, virtual_host: str, shard: int) -> bool:
        """Whether a virtual host is known to be in a shard."""
        place = self.places.get(virtual_host)
        return place is not None and place.shard == shard

    def has_user_limits(self) -> bool:
        """Whether any user has a limit."""
        return any(user.get("limits") for user in self.sections["users"].values())

    def followed_by(self, broker: Broker, shard_count: int, gone: Collection[Place] = ()) -> Directory:
        """What it is when the root's broker is as it is now: virtual hosts that are new are given a place.

        Args:
            gone: places of virtual hosts that were deleted; one that is there now is another one.
        """
        sections = described(broker)
        names = [name for (name,) in sections["vhosts"]]
        places = {name: place for name, place in self.places.items() if name in names and place not in gone}
        held = Counter(dict.fromkeys(range(shard_count), 0))
        held.update(place.shard for place in places.values())
        made = self.made
        for name in names:
            if name not in places:
                made += 1
                places[name] = Place(min(held, key=lambda shard: (held[shard], shard)), made)
                held[places[name].shard] += 1
        is_same = sections == self.sections and places == self.places
        return self if is_same and self.number else Directory(sections, places, made, self.number + 1)

    def with_places(self, names: Iterable[str], shard: int) -> Directory:
        """The same where virtual hosts that have no place are in a shard; itself where all have one."""
        places, made = dict(self.places), self.made
        for name in names:
            if name not in places:
                made += 1
                places[name] = Place(shard, made)
        return self if made == self.made else Directory(self.sections, places, made, self.number + 1)

    def of_shard(self, shard: int) -> Sections:
        """What concerns one shard that is not the root: its own virtual hosts, and who may do what there."""
        return {
            name: {
                identity: entry
                for identity, entry in entries.items()
                if (host := _host_of(name, identity)) is None or self.shard_of(host) == shard
            }
            for name, entries in self.sections.items()
        }

    def made_in(self, names: Iterable[str]) -> dict[str, int]:
        """When these virtual hosts were made."""
        return {name: self.places[name].made for name in names}


def described(broker: Broker) -> Sections:
    """What a broker has of all that can be in a directory."""
    lists: dict[str, list[Entry]] = {name: [] for name in _IDENTITIES}
    for section, entry in of_the_whole(broker, Inspection(broker)):
        if section != "global_parameters" or entry["name"] != MADE:
            lists[section].append(entry)
    return {name: _by_identity(name, json.loads(json.dumps(entries))) for name, entries in lists.items()}


def _by_identity(section: str, entries: Iterable[Entry]) -> dict[tuple[str, ...], Entry]:
    return {tuple(entry[name] for name in _IDENTITIES[section]): entry for entry in entries}


def _host_of(section: str, identity: tuple[str, ...]) -> str | None:
    """The virtual host that an entry is about; None where it is about none."""
    names = dict(zip(_IDENTITIES[section], identity, strict=True))
    return names["name"] if section == "vhosts" else names.get("vhost")


def agree(broker: Broker, directory: Directory, shard: int | None) -> None:
    """Have a broker agree with a directory. To be called within ``Broker.handle``.

    Args:
        shard: what the broker is of, which is not the root; None for one that has nothing but logins, of all.

    Raises:
        CannotAgree: what is to go has gone, and not all that is to be there is there.
    """
    try:
        _agree(broker, directory, shard)
    except AdministrationError as error:
        raise CannotAgree(
            f"the directory of virtual hosts cannot be followed: {error}; "
            "this node needs the release that has written it, with the same plug-ins"
        ) from error
    except Exception as error:
        log_internal_error("directory", error)
        raise CannotAgree("the directory of virtual hosts cannot be followed: internal error; see above") from error


def _agree(broker: Broker, directory: Directory, shard: int | None) -> None:
    wanted = directory.sections if shard is None else directory.of_shard(shard)
    names = [name for (name,) in wanted["vhosts"]]
    made = directory.made_in(names)
    parameter = broker.global_parameters.get(("", MADE))
    before: Any = parameter.value if parameter is not None else {}
    replaced = {name for name in names if name in broker.virtual_hosts and before.get(name) != made[name]}
    _remove(broker, wanted, replaced)
    found = described(broker)
    changed = {
        section: [entry for identity, entry in entries.items() if found[section].get(identity) != entry]
        for section, entries in wanted.items()
    }
    if any(changed.values()):
        import_definitions(broker, changed, who=BY)
    if before != made:
        broker.administration.on_behalf_of(BY).parameters.set_global_parameter(MADE, made)


def _remove(broker: Broker, wanted: Sections, replaced: set[str]) -> None:
    """Remove what a broker has and is not to have; what goes with a virtual host or a user goes with it."""
    administration = broker.administration.on_behalf_of(BY)
    for name, virtual_host in list(broker.virtual_hosts.items()):
        if (name,) not in wanted["vhosts"] or name in replaced:
            if virtual_host.metadata.is_protected:  # the root's is so no more, or it would be there
                administration.set_protection(name, is_on=False)
            administration.delete_virtual_host(name)
    for user in list(broker.users):
        if (user.name,) not in wanted["users"]:
            administration.delete_user(user.name)
    found = described(broker)
    for user_name, host in found["permissions"].keys() - wanted["permissions"].keys():
        administration.clear_permission(user_name, host)
    for user_name, host, exchange in found["topic_permissions"].keys() - wanted["topic_permissions"].keys():
        administration.clear_topic_permission(user_name, host, exchange)
    for (name,) in found["global_parameters"].keys() - wanted["global_parameters"].keys():
        administration.parameters.clear_global_parameter(name)
