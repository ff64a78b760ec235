"""A broker that is divided into shards, as one: which owner answers a call, or all of them together.

What belongs to a virtual host is its owner's; users, permissions and the list of virtual hosts are the root's; lists
are collected from all, and an owner that is missing is an error, never a shorter list. The root's broker knows all
virtual hosts, but those that are of another shard are empty there, and left out of what it lists.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import trio

from amqp_broker.management.api.lists import Listing, answer_one, answer_rows, columns_of
from amqp_broker.management.http.forwarding import forward, refresh
from amqp_broker.management.http.merging import nodes_together, summed
from amqp_broker.management.http.messages import Answer, HttpError, answer_json, no_such_object, to_json
from amqp_broker.network.listeners import FORWARDED, METRICS
from amqp_broker.server.sharding.definitions import OF_VIRTUAL_HOSTS, Stage, Step, half_done, import_steps
from amqp_broker.server.sharding.shards import ROOT, Shards

if TYPE_CHECKING:
    from amqp_broker.management.http.call import Call
    from amqp_broker.management.http.router import Endpoint

Row = dict[str, Any]

HERE: Final = frozenset(
    (
        "/api",
        "/api/auth",
        "/api/auth/attempts/{node}",  # logins over HTTP are made here
        "/api/auth/attempts/{node}/source",
        "/api/auth/hash_password/{password}",
        "/api/deprecated-features",
        "/api/deprecated-features/used",
        "/api/feature-flags",
        "/api/login",
        "/api/version",
        "/api/whoami",
        "/api/x/events",
        "/api/x/log",
        "/api/x/session",
    )
)
METRICS_PATH: Final = "/metrics"
NODES: Final = ("api", "nodes")
OF_ROOT: Final = (  # although some of their paths name a virtual host
    "/api/permissions",
    "/api/topic-permissions",
    "/api/users",
    "/api/vhosts/{vhost}/deletion/protection",
    "/api/vhosts/{vhost}/permissions",
    "/api/vhosts/{vhost}/topic-permissions",
    "/api/vhosts/{vhost}/start/{node}",
)


class ListOfAll(NamedTuple):
    """A list that is collected from all owners, as a broker alone answers it (``api/lists.py``).

    Args:
        has_pages: whether a page of it may be asked for.
        names: fields that a page's name is compared with.
        order: the field by which it is sorted when nothing else is asked for.
        is_whole: it is neither sorted nor cut, whatever is asked for.
    """

    has_pages: bool = False
    names: tuple[str, ...] = ("name",)
    order: str = "vhost"
    is_whole: bool = False


PAGES: Final = ListOfAll(has_pages=True)
BY_CONNECTION: Final = ListOfAll(has_pages=True, order="name")
SIMPLE: Final = ListOfAll()
WHOLE: Final = ListOfAll(is_whole=True)
LISTS: Final[Mapping[str, ListOfAll]] = {
    "/api/bindings": ListOfAll(has_pages=True, names=("destination",)),
    "/api/channels": BY_CONNECTION,
    "/api/connections": ListOfAll(has_pages=True, names=("name", "user_provided_name"), order="name"),
    "/api/connections/username/{user}": ListOfAll(order="name"),
    "/api/consumers": SIMPLE,
    "/api/exchanges": PAGES,
    "/api/federation-links": SIMPLE,
    "/api/federation-links/state/down": SIMPLE,
    "/api/operator-policies": SIMPLE,
    "/api/parameters": SIMPLE,
    "/api/parameters/{component}": SIMPLE,
    "/api/policies": SIMPLE,
    "/api/queues": PAGES,
    "/api/queues/detailed": PAGES,
    "/api/shovels": SIMPLE,
    "/api/stream/connections": BY_CONNECTION,
    "/api/stream/consumers": SIMPLE,
    "/api/stream/publishers": SIMPLE,
    "/api/traces": WHOLE,
    "/api/traces/node/{node}": WHOLE,
    "/api/vhost-limits": WHOLE,
    "/api/vhosts": ListOfAll(has_pages=True, order="name"),
    "/api/x/delayed": PAGES,
}
ANYWHERE: Final = frozenset(  # what they name is at one of the owners
    (
        "/api/channels/{channel}",
        "/api/connections/{connection}",
        "/api/connections/{connection}/channels",
        "/api/connections/{connection}/sessions",
    )
)
EACH: Final = frozenset(  # alarms and samples: each owner has its own
    (
        "/api/health/checks/alarms",
        "/api/health/checks/local-alarms",
        "/api/healthchecks/node",
        "/api/healthchecks/node/{node}",
        "/api/reset",
        "/api/reset/{node}",
    )
)
BY_QUERY: Final = frozenset(("/api/x/explain/route", "/api/x/topology"))
OF_LISTINGS: Final = frozenset(("page", "page_size", "sort", "sort_reverse", "name", "use_regex", "columns"))
OF_NODES: Final = ("listeners", "contexts")
SUMMED: Final = ("message_stats", "churn_rates", "queue_totals", "object_totals")


class Division:
    """The shards of a broker, to administrators who ask one node.

    Args:
        shards: as the node knows them.
    """

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._special: dict[str, Callable[[Call], Awaitable[Answer]]] = {
            "/api/all-configuration": self._definitions,
            "/api/definitions": self._definitions,
            "/api/nodes": self._nodes,
            "/api/nodes/{node}": self._node,
            "/api/nodes/{node}/memory": self._node_memory,
            "/api/overview": self._overview,
            "/api/trace-files": self._trace_files,
            "/api/trace-files/node/{node}": self._trace_files,
            "/api/trace-files/{file}": self._trace_file,
            "/api/trace-files/node/{node}/{file}": self._trace_file,
            "/api/vhosts/{vhost}": self._virtual_host,
            "/api/x/drops": self._drops,
            "/api/x/problems": self._problems,
            "/api/x/queues": self._brief_queues,
            "/api/x/trace": self._trace,
        }

    async def answer(self, endpoint: Endpoint, call: Call) -> Answer | None:
        """Have a call answered by whom it concerns; None where that is this node.

        Raises:
            HttpError: it is refused, or an owner does not answer.
        """
        try:
            return await self._answer(endpoint.path, call)
        except _Refused as refused:
            return refused.answer

    async def _answer(self, path: str, call: Call) -> Answer | None:
        if path.startswith(METRICS_PATH):
            return await self._metrics(path, call)
        if path in HERE or not path.startswith("/api"):
            return None
        if path in self._special:
            return await self._special[path](call)
        if path.startswith(OF_ROOT):
            return await forward(self._shards, ROOT, call)
        host = call.variables.get("vhost")
        if path in BY_QUERY:
            asked: Mapping[str, Any] = call.body() if call.request.method == "POST" else call.request.query
            host = str(asked.get("vhost", "/"))
        if host is not None:
            return await forward(self._shards, self._shards.shard_of(host), call)
        if path in LISTS and call.request.method in ("GET", "HEAD"):
            return await self._list(call, LISTS[path], "name" if path == "/api/vhosts" else "vhost")
        if path in ANYWHERE:
            return await self._first(call)
        if path in LISTS or path in EACH:
            return await self._each(call)
        return await forward(self._shards, ROOT, call)

    # --- from all

    async def _all(
        self,
        call: Call,
        query: Mapping[str, str] | None = None,
        path: Sequence[str] | None = None,
        needed: Sequence[int] | None = None,
    ) -> dict[int, Any]:
        """What each owner answers, by shard.

        Args:
            query: in place of the call's.
            path: likewise.
            needed: shards without whose owners there is no answer; None for all.

        Raises:
            _Refused: one of them refuses.
        """
        answers: dict[int, Answer] = {}
        failed: list[Exception] = []

        async def ask(shard: int) -> None:
            try:
                answers[shard] = await forward(self._shards, shard, call, query, path=path)
            except Exception as error:
                if needed is None or shard in needed:
                    failed.append(error)

        async with trio.open_nursery() as nursery:
            for shard in self._shards.numbers:
                nursery.start_soon(ask, shard)
        if failed:
            raise failed[0]
        for answer in answers.values():
            if answer.status != 200:
                raise _Refused(answer)
        return {shard: json.loads(answers[shard].body) for shard in sorted(answers)}

    def _own(self, shard: int, rows: Iterable[Row], name: str = "vhost") -> list[Row]:
        """Those rows that a shard has to say something of."""
        return [row for row in rows if name not in row or self._shards.shard_of(row[name]) == shard]

    async def _list(self, call: Call, shown: ListOfAll, host: str) -> Answer:
        """A list of all.

        Args:
            host: the field that has the virtual host of a row.
        """
        query = {name: value for name, value in call.request.query.items() if name not in OF_LISTINGS}
        found = await self._all(call, query)
        rows = [row for shard, some in found.items() for row in self._own(shard, some, host)]
        rows.sort(key=lambda row: str(row.get(shown.order, "")))
        if shown.is_whole:
            return answer_json(rows)
        first, *others = (partial(_text_of, name) for name in shown.names)
        also_named = others[0] if others else None
        return await Listing(
            call, rows, lambda row: row, first, has_pages=shown.has_pages, also_named=also_named
        ).answer()

    async def _first(self, call: Call) -> Answer:
        """Of the owner that knows what the path names."""
        answer = no_such_object().answer()
        for shard in self._shards.numbers:
            answer = await forward(self._shards, shard, call)
            if answer.status != 404:
                break
        return answer

    async def _each(self, call: Call) -> Answer:
        """Have all owners do it, one after the other; the first that refuses, or is not well, has the word."""
        answer = no_such_object().answer()
        for shard in self._shards.numbers:
            answer = await forward(self._shards, shard, call)
            if answer.status >= 300:
                break
        return answer

    async def _overview(self, call: Call) -> Answer:
        query = {name: value for name, value in call.request.query.items() if name != "columns"}
        found = await self._all(call, query)
        whole: Row = found[ROOT]
        for shard, one in found.items():
            if shard != ROOT:
                for name in SUMMED:
                    whole[name] = summed(whole.get(name), one.get(name))
        for name in OF_NODES:
            every = [
                row for one in found.values() for row in one.get(name, ())
            ]  # a node that owns several says it again
            whole[name] = [row for place, row in enumerate(every) if row not in every[:place]]
        elsewhere = [host for host in call.broker.virtual_hosts.values() if self._shards.shard_of(host.name) != ROOT]
        seen = [host for host in elsewhere if call.user.permissions.get(host.name) or "monitoring" in _tags(call)]
        whole["object_totals"]["exchanges"] -= sum(len(host.exchanges) for host in seen)
        return await answer_one(call, whole)

    async def _nodes(self, call: Call) -> Answer:
        return answer_json([columns_of(call, node) for node in await self._described_nodes(call)])

    async def _node(self, call: Call) -> Answer:
        return await answer_one(call, await self._named_node(call))

    async def _node_memory(self, call: Call) -> Answer:
        from amqp_broker.management.api.nodes import answer_memory

        return answer_memory((await self._named_node(call))["mem_used"])

    async def _named_node(self, call: Call) -> Row:
        for node in await self._described_nodes(call):
            if node["name"] == call.variables["node"]:
                return node
        raise no_such_object()

    async def _described_nodes(self, call: Call) -> list[Row]:
        """All nodes; an owner that is missing, other than the root's, tells nothing of itself."""
        query = {name: value for name, value in call.request.query.items() if name != "columns"}
        return nodes_together(await self._all(call, query, path=NODES, needed=(ROOT,)))

    async def _metrics(self, path: str, call: Call) -> Answer | None:
        """Of the shards that this node owns; where there is none, of the node alone."""
        from amqp_broker.management.prometheus.merging import merged
        from amqp_broker.management.prometheus.scraping import logins_here

        protocol = FORWARDED if call.user.name else METRICS
        answers = [await forward(self._shards, shard, call, protocol=protocol) for shard in self._shards.owned]
        if not answers:
            return None
        texts = [answer.body.decode("utf-8", "replace") for answer in answers]
        return Answer(body=merged([logins_here(path, call), *texts]).encode(), content_type=answers[0].content_type)

    async def _problems(self, call: Call) -> Answer:
        found = await self._all(call)
        problems = [one for some in found.values() for one in some["problems"]]
        problems.sort(key=lambda one: bool(one["severity"] != "bad"))
        totals: Any = {}
        for some in found.values():
            totals = summed(totals, some["totals"])
        return answer_json({"problems": problems, "totals": totals})

    async def _drops(self, call: Call) -> Answer:
        found = await self._all(call)
        by_reason: Any = {}
        for some in found.values():
            by_reason = summed(by_reason, some["by_reason"])
        rows = [row for some in found.values() for row in some["drops"]]
        rows.sort(key=lambda row: -row["count"])
        return answer_json({"by_reason": by_reason, "drops": rows})

    async def _trace_files(self, call: Call) -> Answer:
        """Files of the same name are one: a trace of each owner may have had it."""
        found = await self._all(call)
        sizes = Counter[str]()
        for some in found.values():
            sizes.update({row["name"]: row["size"] for row in some})
        return answer_json([{"name": name, "size": sizes[name]} for name in sorted(sizes)])

    async def _trace_file(self, call: Call) -> Answer:
        """What all owners have in files of that name, one after the other; or have all of them delete it."""
        answer = no_such_object().answer()
        for shard in self._shards.numbers:
            one = await forward(self._shards, shard, call)
            if one.status >= 300 and one.status != 404:
                return one
            if one.status != 404:
                one.body = (answer.body if answer.status != 404 else b"") + one.body
                answer = one
        return answer

    async def _trace(self, call: Call) -> Answer:
        """The trace of messages: an owner that is not asked for it has one that was before it, at most."""
        from amqp_broker.management.api.brief_queues import whole
        from amqp_broker.management.api.observing import TRACES_LIMIT

        if call.request.method == "PUT":
            return await self._start_trace(call)
        if call.request.method == "DELETE":
            return await self._each(call)
        found = await self._all(call)
        newest: Row = max(found.values(), key=lambda one: one["since"] or 0)
        shown = [newest] if newest["vhost"] is not None else list(found.values())
        messages = [message for one in shown for message in one["messages"]]
        messages.sort(key=lambda message: -message["hops"][0]["at"])
        head = {**newest, "traces": sum(one["traces"] for one in shown)}
        del head["messages"]
        return answer_rows(head, "messages", messages[: whole(call, "limit", TRACES_LIMIT, TRACES_LIMIT)])

    async def _start_trace(self, call: Call) -> Answer:
        """Of one virtual host its owner does it, and nobody else goes on with another."""
        host = call.body().get("vhost")
        if not isinstance(host, str):
            return await self._each(call)
        owner = self._shards.shard_of(host)
        answer = await forward(self._shards, owner, call)
        if answer.status == 200:
            for shard in self._shards.numbers:
                if shard != owner:
                    await forward(self._shards, shard, call, method="DELETE")
        return answer

    async def _brief_queues(self, call: Call) -> Answer:
        """A window of the queues: the first so many of each owner have those of all among them."""
        from amqp_broker.management.api.brief_queues import WINDOW_MAX, whole

        query = call.request.query
        offset, limit = whole(call, "offset", 0, 10**9), max(whole(call, "limit", 50, WINDOW_MAX), 1)
        rows: list[Row] = []
        for begin in range(0, offset + limit, WINDOW_MAX):
            wanted = {"offset": str(begin), "limit": str(min(offset + limit - begin, WINDOW_MAX))}
            found = await self._all(call, {**query, **wanted})
            rows += [row for some in found.values() for row in some["items"]]
            if all(len(some["items"]) < WINDOW_MAX for some in found.values()):
                break
        sort = query.get("sort") or "name"
        rows.sort(key=lambda row: (str(row["name"]), str(row["vhost"])))
        if sort != "name":
            rows.sort(key=lambda row: _number(row.get(sort)), reverse=call.request.flag("sort_reverse"))
        elif call.request.flag("sort_reverse"):
            rows.reverse()
        first = found[ROOT]
        return answer_json(
            {
                "total": sum(some["total"] for some in found.values()),
                "filtered": sum(some["filtered"] for some in found.values()),
                "offset": offset,
                "types": first["types"],
                "items": rows[offset : offset + limit],
            }
        )

    # --- one after the other

    async def _virtual_host(self, call: Call) -> Answer:
        """The root has the list; what is in a virtual host, and whether it is traced, is its owner's."""
        name, method = call.variables["vhost"], call.request.method
        if method == "PUT":
            return await self._created(call)
        return await forward(self._shards, ROOT if method == "DELETE" else self._shards.shard_of(name), call)

    async def _created(self, call: Call) -> Answer:
        answer = await forward(self._shards, ROOT, call)
        if answer.status in (201, 204) and "tracing" in call.body():
            await refresh(self._shards)
            shard = self._shards.shard_of(call.variables["vhost"])
            if shard != ROOT:
                traced = await forward(self._shards, shard, call)
                return answer if traced.status in (201, 204) else traced
        return answer

    async def _definitions(self, call: Call) -> Answer:
        from amqp_broker.management.api.definitions import download_header

        if call.request.method == "POST":
            return await self._import(call)
        found = await self._all(call, {})
        whole: Row = found[ROOT]
        for section in OF_VIRTUAL_HOSTS:
            whole[section] = [row for shard, one in found.items() for row in self._own(shard, one[section])]
        return Answer(body=to_json(whole), headers=download_header(call))

    async def _import(self, call: Call) -> Answer:
        """Have it in steps (``server/sharding/definitions.py``)."""
        from amqp_broker.management.api.definitions import read_document

        done = list[int]()
        answer = Answer(204)
        for step in import_steps(await read_document(call), self._shards.numbers, self._shards.shard_of):
            if step.stage is not Stage.CHECK and call.request.flag("dry_run"):
                break
            answer = await self._imported(call, step, done)
            if answer.status >= 300:
                break
            if step.stage is Stage.ROOT:
                await refresh(self._shards)
        return answer

    async def _imported(self, call: Call, step: Step, done: list[int]) -> Answer:
        """Take one step; when one owner is lost half-way, the others have theirs, and the answer says that."""
        if step.stage is not Stage.HOSTS:
            return await self._post(step.shard, call, step.document, step.stage is Stage.CHECK)
        try:
            answer = await self._post(step.shard, call, step.document)
        except HttpError as error:
            answer = error.answer()
        if answer.status >= 300:
            found = json.loads(answer.body) if answer.body else {}
            raise HttpError(answer.status, str(found.get("error")), half_done(step, found.get("reason"), done))
        done.append(step.shard)
        return answer

    async def _post(self, shard: int, call: Call, document: Mapping[str, Any], dry_run: bool = False) -> Answer:
        query = {"dry_run": "true"} if dry_run else None
        call.request.headers = {**call.request.headers, "content-type": "application/json"}
        return await forward(self._shards, shard, call, query, body=to_json(document))


class _Refused(Exception):
    """An owner has refused; its answer is everybody's."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def _tags(call: Call) -> tuple[str, ...]:
    return (*call.user.tags, *(("monitoring",) if "administrator" in call.user.tags else ()))


def _text_of(field: str, row: Row) -> str:
    return str(row.get(field, ""))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
