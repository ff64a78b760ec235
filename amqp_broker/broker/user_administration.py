"""Changes by an administrator to users: who there is, what they may do, how much they may have.

A permission that was withdrawn is missed by the next operation, for the routes that publishers remember are forgotten.
What holds for every change is in ``administration.py``.
"""

from __future__ import annotations

import logging
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from amqp_broker.access.passwords import SCRYPT, PasswordHash, UnknownAlgorithm
from amqp_broker.access.patterns import BadPattern, Pattern
from amqp_broker.access.users import NO_PASSWORD, Permission, TopicPermission, User, UserLimits
from amqp_broker.broker.observer import Kind
from amqp_broker.broker.persistence.definitions import keep_user
from amqp_broker.broker.problems import AdministrationError, AlreadyThere
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.broker.virtual_host_properties import VirtualHostLimits
from amqp_broker.logs import log_event

if TYPE_CHECKING:
    from amqp_broker.broker.contents import Contents

NAME_BYTES_MAX = 255
PASSWORD_BYTES_MAX = 1024
LIMIT_MAX = 2**31 - 1
THE_PROGRAM = "the program that runs the broker"


class UserAdministration:
    """The changes that an administrator makes to the users of one broker.

    Args:
        broker: which.
        who: makes them, as it stands in the log, and as those are told who look on.
    """

    def __init__(self, broker: Contents, who: str = THE_PROGRAM) -> None:
        self._broker = broker
        self._who = who

    def _log(self, event: str, before: str | None, after: str | None, **names: str) -> None:
        if before is not None and before == after:
            return  # it was set to what it was
        log_event(logging.INFO, event, **names, before=before, after=after, who=self._who)

    def virtual_host(self, name: str) -> VirtualHost:
        """Look a virtual host up.

        Raises:
            NotThere: there is none of that name.
        """
        return self._broker.existing_virtual_host(name)

    # --- users

    def user(self, name: str) -> User:
        """Look a user up.

        Raises:
            NotThere: there is none of that name.
        """
        return self._broker.existing_user(name)

    def add_user(
        self, name: str, password: str | PasswordHash | None, tags: tuple[str, ...] = (), *, algorithm: str = SCRYPT
    ) -> User:
        """Create a user, who may do nothing yet.

        Args:
            password: or its hash, as definitions carry it; None for one who logs in by certificate only.
            algorithm: how the password is hashed, one of ``access/passwords.py``.

        Raises:
            AlreadyThere: there is one of that name.
            AdministrationError: the name, the password or a tag cannot be had.
        """
        check_name("user", name)
        check_tags(tags)
        if self._broker.users.get(name) is not None:
            raise AlreadyThere(f"there is a user '{name}' already")
        user = self._broker.users.put(User(name, self._hashed(password, algorithm), tags))
        keep_user(self._broker.durability, user)
        self._log("user added", None, _tags_text(tags), user=name)
        self._declared(Kind.USER, "", name, user)
        self._happened("user.created", name=name)
        if tags:
            self._happened("user.tags.set", name=name, tags=list(tags))
        return user

    def change_password(self, name: str, password: str | PasswordHash | None, *, algorithm: str = SCRYPT) -> None:
        """Give a user a new password; connections that are open stay open, as in RabbitMQ."""
        user = self.user(name)
        hashed = self._hashed(password, algorithm)
        if hashed == user.password_hash:
            return
        user.password_hash = hashed
        self._broker.users.password_changed(user)
        keep_user(self._broker.durability, user)
        self._log("password changed", None, None, user=name)
        self._declared(Kind.USER, "", name, user)
        self._happened("user.password.cleared" if password is None else "user.password.changed", name=name)

    def _hashed(self, password: str | PasswordHash | None, algorithm: str) -> PasswordHash:
        if password is None:
            return NO_PASSWORD
        if isinstance(password, PasswordHash):
            return password
        try:
            return self._broker.users.verifier.hash(password_bytes(password), algorithm)
        except UnknownAlgorithm as error:
            raise AdministrationError(str(error)) from error

    def set_tags(self, name: str, tags: tuple[str, ...]) -> None:
        """Give a user these tags, and take all others away."""
        user = self.user(name)
        check_tags(tags)
        before, user.tags = user.tags, tags
        self._user_changed(user)
        self._log("user tags changed", _tags_text(before), _tags_text(tags), user=name)
        self._declared(Kind.USER, "", name, user)
        self._happened("user.tags.set", name=name, tags=list(tags))

    def set_user_limits(self, name: str, **limits: int | None) -> None:
        """Limit what a user may have at the same time; what is left out stays, None is no limit.

        Args:
            limits: ``connections_max``, ``channels_max``.
        """
        user = self.user(name)
        check_limits(limits)
        before, user.limits = user.limits, replace(user.limits, **limits)
        self._user_changed(user)
        self._log("user limits changed", limits_text(before), limits_text(user.limits), user=name)
        self._declared(Kind.USER, "", name, user)
        self._tell_of_limits("user", limits, username=name)

    def delete_user(self, name: str) -> None:
        """Delete a user with all permissions, and close the user's connections."""
        user = self.user(name)
        user.permissions.clear()
        user.topic_permissions.clear()
        self._broker.users.remove(name)
        self._broker.durability.forget(user)
        self._forget_routes()
        self._deleted(Kind.USER, "", name, user)
        self._happened("user.deleted", name=name)
        for connection in self._broker.open_connections.of_user(name):
            connection.close_forcibly(f"user '{name}' is deleted")
        self._log("user deleted", _tags_text(user.tags), None, user=name)

    def _user_changed(self, user: User) -> None:
        keep_user(self._broker.durability, user)
        self._forget_routes()

    def _declared(self, kind: Kind, virtual_host: str, name: str, thing: object) -> None:
        if self._broker.observers.present_for_changes:
            self._broker.observers.declared(kind, virtual_host, name, thing, self._who)

    def _deleted(self, kind: Kind, virtual_host: str, name: str, thing: object) -> None:
        if self._broker.observers.present_for_changes:
            self._broker.observers.deleted(kind, virtual_host, name, thing, self._who)

    def _happened(self, event: str, **details: object) -> None:
        if self._broker.observers.present_for_changes:
            self._broker.observers.happened(event, details, self._who)

    def _tell_of_limits(self, whose: str, limits: dict[str, int | None], **names: object) -> None:
        """Those that were given, by RabbitMQ's names; without any left they are cleared."""
        given: dict[str, object] = {}
        for name, limit in limits.items():
            if limit is not None:
                given["max-" + name.removesuffix("_max")] = limit
        self._happened(f"{whose}.limits.{'set' if given else 'cleared'}", name="limits", **names, **given)

    def _forget_routes(self) -> None:
        """Publishers remember what they may do until the topology changes."""
        for virtual_host in self._broker.virtual_hosts.values():
            virtual_host.lookup_version += 1

    # --- permissions

    def set_permission(self, name: str, virtual_host: str, configure: str, write: str, read: str) -> None:
        """Say what a user may do in a virtual host, in three patterns of names.

        Raises:
            NotThere: there is no such user or virtual host.
            AdministrationError: something is no pattern, or not one that can be matched in linear time.
        """
        user = self.user(name)
        self.virtual_host(virtual_host)
        permission = Permission(_pattern("configure", configure), _pattern("write", write), _pattern("read", read))
        before = user.permissions.get(virtual_host)
        user.permissions[virtual_host] = permission
        self._user_changed(user)
        self._log(
            "permission set", _permission_text(before), _permission_text(permission), user=name, vhost=virtual_host
        )
        self._declared(Kind.PERMISSION, virtual_host, name, permission)
        self._happened("permission.created", user=name, vhost=virtual_host, configure=configure, write=write, read=read)

    def clear_permission(self, name: str, virtual_host: str) -> None:
        """Take everything that a user may do in a virtual host away; what was not there is away already."""
        user = self.user(name)
        self.virtual_host(virtual_host)
        before = user.permissions.pop(virtual_host, None)
        if before is not None:
            self._user_changed(user)
            self._log("permission cleared", _permission_text(before), None, user=name, vhost=virtual_host)
            self._deleted(Kind.PERMISSION, virtual_host, name, before)
            self._happened("permission.deleted", user=name, vhost=virtual_host)

    def set_topic_permission(self, name: str, virtual_host: str, exchange: str, write: str, read: str) -> None:
        """Say with which routing keys a user may publish to and bind a topic exchange.

        ``{username}`` and ``{vhost}`` in the patterns stand for the names, ``{client_id}`` for the identifier of a
        client of MQTT.
        """
        user = self.user(name)
        self.virtual_host(virtual_host)
        if len(exchange.encode("utf-8", "surrogateescape")) > NAME_BYTES_MAX:
            raise AdministrationError(f"an exchange's name has at most {NAME_BYTES_MAX} bytes")
        for which, source in (("write", write), ("read", read)):
            _pattern(which, source.replace("{username}", "").replace("{vhost}", ""))
        permission, permissions = TopicPermission(write, read), user.topic_permissions.setdefault(virtual_host, {})
        before = _topic_text(permissions.get(exchange))
        permissions[exchange] = permission
        self._user_changed(user)
        names = {"user": name, "vhost": virtual_host, "exchange": exchange}
        self._log("topic permission set", before, _topic_text(permission), **names)
        self._declared(Kind.TOPIC_PERMISSION, virtual_host, name, permission)
        self._happened("topic.permission.created", **names, write=write, read=read)

    def clear_topic_permission(self, name: str, virtual_host: str, exchange: str | None = None) -> None:
        """Allow a user every routing key again.

        Args:
            exchange: of this exchange only; None for all of the virtual host.
        """
        user = self.user(name)
        self.virtual_host(virtual_host)
        permissions = user.topic_permissions.get(virtual_host, {})
        cleared = {one: permissions.pop(one, None) for one in (list(permissions) if exchange is None else [exchange])}
        if not permissions:
            user.topic_permissions.pop(virtual_host, None)
        self._user_changed(user)
        for one, before in cleared.items():
            if before is not None:
                names = {"user": name, "vhost": virtual_host, "exchange": one}
                self._log("topic permission cleared", _topic_text(before), None, **names)
                self._deleted(Kind.TOPIC_PERMISSION, virtual_host, name, before)
                self._happened("topic.permission.deleted", **names)


def password_bytes(password: str) -> bytes:
    """A password as clients send it.

    Raises:
        AdministrationError: clients could not, or it is empty.
    """
    encoded = password.encode("utf-8", "surrogateescape")
    if not 0 < len(encoded) <= PASSWORD_BYTES_MAX or b"\0" in encoded:
        raise AdministrationError(f"a password has 1 to {PASSWORD_BYTES_MAX} bytes, none of them zero")
    return encoded


def check_name(what: str, name: str) -> None:
    """Refuse a name that nothing can have.

    Raises:
        AdministrationError: why.
    """
    size_bytes = len(name.encode("utf-8", "surrogateescape"))
    if not 0 < size_bytes <= NAME_BYTES_MAX or any(ord(character) < 32 for character in name):
        raise AdministrationError(f"a {what}'s name has 1 to {NAME_BYTES_MAX} bytes, and no control characters")


def check_tags(tags: tuple[str, ...]) -> None:
    """Refuse tags that no user can have.

    Raises:
        AdministrationError: which and why.
    """
    for tag in tags:
        check_name("tag", tag)
        if "," in tag:  # RabbitMQ's definitions separate them so
            raise AdministrationError(f"'{tag}' is no tag: give each of them by itself, without a comma")


def check_limits(limits: dict[str, int | None]) -> None:
    for name, limit in limits.items():
        if limit is not None and not 0 <= limit <= LIMIT_MAX:
            raise AdministrationError(f"{name} is a number from 0 to {LIMIT_MAX}, or none for no limit")


def _pattern(which: str, source: str) -> Pattern:
    try:
        return Pattern(source)
    except BadPattern as error:
        raise AdministrationError(f"the {which} pattern '{source}' cannot be used: {error}") from error


# --- how things were and are, for the log


def _tags_text(tags: tuple[str, ...]) -> str:
    return f"tags={','.join(tags) or 'none'}"


def _permission_text(permission: Permission | None) -> str | None:
    if permission is None:
        return None
    configure, write, read = permission.configure.source, permission.write.source, permission.read.source
    return f"configure='{configure}' write='{write}' read='{read}'"


def _topic_text(permission: TopicPermission | None) -> str | None:
    return f"write='{permission.write}' read='{permission.read}'" if permission is not None else None


def limits_text(limits: UserLimits | VirtualHostLimits) -> str:
    return " ".join(f"{one.name}={getattr(limits, one.name)}" for one in fields(limits))
