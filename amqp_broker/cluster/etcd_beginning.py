"""The beginning of a member of etcd that has no data: with all the others, or among those that have begun already.

etcd has to be told which (``--initial-cluster-state``). One that begins anew among others is refused, and what it has
written by then is of no use any more, so they are asked first. The process is ``etcd_member.py``'s.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from amqp_broker.cluster.etcd_member import CannotBegin, MemberPlace
from amqp_broker.cluster.members import Credentials, Member
from amqp_broker.etcd import messages

NEW: Final = "new"
EXISTING: Final = "existing"


def initial_state(
    members: Mapping[str, MemberPlace], name: str, folder: Path, tls: ssl.SSLContext | None = None
) -> str:
    """What etcd is to be told, in a thread. With data it takes no notice.

    Args:
        members: all of them.
        name: which one is to begin.
        folder: for its data.
        tls: how the others are asked; None without TLS.

    Raises:
        CannotBegin: the others are there, and do not wait for it.
    """
    if any((folder / "member" / "wal").glob("*.wal")):
        return NEW
    url = members[name].peer_url
    add = f"etcdctl member add {name} --peer-urls={url}"
    for one, place in members.items():
        listed = _listed_by(place, tls) if one != name else None
        if listed is None:
            continue
        found = next((member for member in listed if url in member.peer_urls), None)
        begun = len([member for member in listed if member.client_urls])
        if found is None and begun <= len(members) // 2:
            # With one that is added they would be too few, and it is let in only where all that it names are known.
            raise CannotBegin(
                f"etcd has {begun} of the {len(members)} members that with_etcd names, too few to add others: end all "
                "nodes, and restore a 'cluster backup' at each member (etcdctl snapshot restore)"
            )
        if found is None:
            raise CannotBegin(f"the members of etcd do not know {name} at {url}: say '{add}' at one of them")
        if found.client_urls:
            remove = f"etcdctl member remove {found.member_id & 2**64 - 1:x}"
            raise CannotBegin(f"{name} has lost its data: say '{remove}' and then '{add}' at another member of etcd")
        return EXISTING
    return NEW


def _listed_by(place: MemberPlace, tls: ssl.SSLContext | None) -> list[messages.Member] | None:
    """All members, as one of them knows them; None where it does not answer."""
    member = Member(place.host, place.port, Credentials(tls=tls))
    outcome = member.call_all(messages.MEMBER_LIST, [b""])[0]
    member.close()
    return messages.Member.read_all(outcome) if isinstance(outcome, bytes) else None
