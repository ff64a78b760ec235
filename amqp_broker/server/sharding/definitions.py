"""Definitions of a broker that is divided into shards: whose each of them is, and in which order an import goes.

Users, permissions, virtual hosts and global parameters are the root's; what is in a virtual host is its owner's. Nobody
is asked here: whoever imports takes one step after the other, and asks the owner that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

from amqp_broker.server.sharding.shards import ROOT

OF_VIRTUAL_HOSTS: Final = ("parameters", "policies", "queues", "exchanges", "bindings")

Document = Mapping[str, Any]
ShardOf = Callable[[str], int]


class Stage(Enum):
    """The work of an owner with the definitions of one step."""

    CHECK = "check"
    ROOT = "root"
    HOSTS = "hosts"


class Step(NamedTuple):
    """One step of an import: the owner of a shard takes some definitions."""

    stage: Stage
    shard: int
    document: Document


def import_steps(document: Document, numbers: Sequence[int], shard_of: ShardOf) -> Iterator[Step]:
    """The steps: each owner checks what is its; then first what the root has, then what is in the virtual hosts.

    So nothing is changed when there is a mistake, or an owner is missing. Each step is to be done before the next one
    is asked for: where new virtual hosts are, ``shard_of`` says when the root has them.
    """
    of_everything = {name: value for name, value in document.items() if name not in OF_VIRTUAL_HOSTS}
    checked = _parts(document, numbers, shard_of)
    checked[ROOT] = {**of_everything, **checked.get(ROOT, {})}  # new virtual hosts are known by what the root has
    for shard, part in checked.items():
        yield Step(Stage.CHECK, shard, part)
    yield Step(Stage.ROOT, ROOT, of_everything)
    for shard, part in _parts(document, numbers, shard_of).items():
        yield Step(Stage.HOSTS, shard, part)


def _parts(document: Document, numbers: Sequence[int], shard_of: ShardOf) -> dict[int, Document]:
    """What is in virtual hosts, by the shard that has it."""
    parts: dict[int, Document] = {}
    for shard in numbers:
        part = {
            section: [row for row in document[section] if _shard_of_row(row, shard_of) in (shard, None)]
            for section in OF_VIRTUAL_HOSTS
            if isinstance(document.get(section), list)
        }
        if any(part.values()):
            parts[shard] = part
    return parts


def _shard_of_row(row: Any, shard_of: ShardOf) -> int | None:
    """Whose a definition is; the root's if it is none, which says so; everybody's without a virtual host."""
    if not isinstance(row, dict) or not isinstance(row.get("vhost", ""), str):
        return ROOT
    return shard_of(row["vhost"]) if "vhost" in row else None


def half_done(step: Step, reason: object, done: Sequence[int]) -> str:
    """The words for an import that ends half-way; sent again, it does the rest.

    Args:
        step: the one that was not done.
        reason: why.
        done: the shards that have theirs.
    """
    others = f"shard {', '.join(map(str, done))}" if done else "no shard"
    text = f"users, permissions and virtual hosts are imported, and what is in {others}"
    way_out = "import the same again, what is there already stays as it is"
    return f"shard {step.shard} has not imported its part: {reason}; {text}: {way_out}"
