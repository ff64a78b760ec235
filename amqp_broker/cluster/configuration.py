"""The configuration of a node in its cluster: where etcd is, which cluster, who it is itself. Read from the settings.

etcd://10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379/orders          etcds:// for TLS; user:password@ before the hosts

Where the nodes look after etcd's members themselves (``with_etcd``), those are known already, and the cluster needs no
more than a name.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from amqp_broker.cluster.etcd_member import MemberFiles, MemberPlace, members_in
from amqp_broker.cluster.members import Address
from amqp_broker.explanations import no_password, system_reason
from amqp_broker.settings import DESCRIPTIONS, SettingError, Settings

ETCD_PORT: Final = 2379
FORM: Final = "etcd://HOST:PORT,HOST:PORT/CLUSTER"
NAME: Final = "amqp-broker"


@dataclass(frozen=True, slots=True)
class ClusterConfiguration:
    """The configuration of one node in its cluster.

    Args:
        cluster: its name, the same on all nodes.
        addresses: of etcd's members.
        secret: that all nodes know.
        node_name: how operators call this node.
        link_host: where other nodes reach it.
        link_port: likewise; 0 picks one.
        lease_ttl_s: after how long without a word from it a node counts as gone.
        members: of etcd, where the nodes look after them.
        shards: how many there are.
        member_files: for TLS of the members that the nodes look after; None where they are without.
    """

    cluster: str
    addresses: tuple[Address, ...]
    secret: str
    node_name: str
    link_host: str
    link_port: int
    lease_ttl_s: int
    members: dict[str, MemberPlace] = field(default_factory=dict)  # of etcd, by node; where the nodes look after them
    shards: int = 1
    member_files: MemberFiles | None = None


def cluster_configuration(settings: Settings, *, needs_secret: bool = True) -> ClusterConfiguration:
    """Read the settings that begin with ``cluster``, ``node``, ``link``, ``etcd`` and ``lease``.

    Args:
        needs_secret: whether nodes are to be talked to, not etcd alone.

    Raises:
        SettingError: one of them cannot be used; the text names it and the way out.
    """
    if settings.with_etcd:
        return _with_etcd(settings, needs_secret)
    url = urlsplit(settings.cluster)
    name = unquote(url.path[1:])
    if url.scheme not in ("etcd", "etcds") or not url.netloc or not name or "/" in name:
        raise SettingError(f"cluster takes {FORM}, not '{_without_login(settings.cluster)}'")
    _check_secret(settings, needs_secret)
    _check_link_host(settings)
    login, _, hosts = url.netloc.rpartition("@")
    user, _, password = login.partition(":")
    tls = _tls(settings) if url.scheme == "etcds" else None
    addresses = tuple(_address(one, unquote(user), unquote(password), tls) for one in hosts.replace(" ", "").split(","))
    return ClusterConfiguration(
        name,
        addresses,
        settings.cluster_secret,
        settings.node_name or socket.gethostname(),
        settings.link_host,
        settings.link_port,
        -(-settings.lease_ttl_ms // 1000),
        shards=settings.cluster_shards,
    )


def _without_login(text: str) -> str:
    """An address that cannot be used, without what may be a password."""
    scheme, separator, rest = text.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else text.rpartition("@")[2]


def _check_secret(settings: Settings, needs_secret: bool) -> None:
    if needs_secret and not settings.cluster_secret:
        raise SettingError("cluster_secret is missing: give all nodes the same long random text")


def _check_link_host(settings: Settings) -> None:
    """It is told to the other nodes, and those that are for listening everywhere would lead them to themselves."""
    if settings.link_host in ("0.0.0.0", "::", "*"):  # refused
        raise SettingError(
            f"link_host takes the address at which the other nodes reach this one, not '{settings.link_host}'"
        )


def _with_etcd(settings: Settings, needs_secret: bool) -> ClusterConfiguration:
    """Of a node that looks after a member of etcd."""
    certificate = settings.etcd_certificate
    files = MemberFiles(certificate, settings.etcd_key or certificate, settings.etcd_ca) if certificate else None
    tls = _tls(settings) if files is not None else None
    members = members_in(settings.with_etcd, is_tls=files is not None)
    name = settings.node_name or socket.gethostname()
    if "/" in settings.cluster:
        raise SettingError(
            f"with_etcd says where etcd is: cluster takes a name alone, not '{_without_login(settings.cluster)}'"
        )
    if needs_secret and name not in members:
        raise SettingError(f"with_etcd does not name this node, '{name}': name it with node_name")
    _check_secret(settings, needs_secret)
    _check_link_host(settings)
    is_unset = settings.link_host == DESCRIPTIONS["link_host"].default
    return ClusterConfiguration(
        settings.cluster or NAME,
        tuple(Address(place.host, place.port, tls=tls) for place in members.values()),
        settings.cluster_secret,
        name,
        members[name].host if is_unset and name in members else settings.link_host,
        settings.link_port,
        -(-settings.lease_ttl_ms // 1000),
        members,
        settings.cluster_shards,
        files,
    )


def _address(text: str, user: str, password: str, tls: ssl.SSLContext | None) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(ETCD_PORT)
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise SettingError(f"cluster takes {FORM}: '{text}' is no host and port")
    return Address(host.strip("[]"), int(port), user, password, tls)


def _tls(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.etcd_ca or None)
        if settings.etcd_certificate:
            context.load_cert_chain(settings.etcd_certificate, settings.etcd_key or None, password=no_password)
    except (OSError, ssl.SSLError) as error:
        raise SettingError(
            f"the certificates for etcd (etcd_ca, etcd_certificate, etcd_key) cannot be used: {_reason(error)}"
        ) from error
    context.set_alpn_protocols(["h2"])
    return context


def _reason(error: OSError) -> str:
    """Why; what OpenSSL has to say would help nobody."""
    if isinstance(error, ssl.SSLError):
        return "one of them is not in PEM format, or the key belongs to another certificate"
    return system_reason(error)
