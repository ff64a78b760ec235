"""``amqp-broker serve`` for a node of a cluster, from its settings to its exit code; ``serving.py`` is for others."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from amqp_broker.cli import announcements
from amqp_broker.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    import trio

    from amqp_broker.cluster.node import ClusterNode
    from amqp_broker.network.listeners import Endpoint
    from amqp_broker.server.broker_server import BrokerServer
    from amqp_broker.server.reception import Serve
    from amqp_broker.server.service_manager import ServiceManager
    from amqp_broker.server.sharding.shards import Shards
    from amqp_broker.settings import Settings

_ENDINGS = (signal.SIGTERM, signal.SIGINT)
_RELOAD: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
_SIGNALS = (*_ENDINGS, *([_RELOAD] if _RELOAD is not None else []))


def serve_cluster(settings: Settings, fail: Callable[[ExitCode, str], NoReturn]) -> None:
    """Be a node until a signal; its data folder holds nothing that is worth keeping.

    Args:
        fail: ends the command with an exit code, and a line that says why.
    """
    import trio

    try:
        from amqp_broker.cluster.configuration import cluster_configuration
        from amqp_broker.cluster.etcd_beginning import initial_state
        from amqp_broker.cluster.etcd_checks import CannotJoin
        from amqp_broker.cluster.etcd_member import FOLDER_NAME, EtcdMissing, etcd_command, look_after
        from amqp_broker.cluster.node import ClusterNode
    except ModuleNotFoundError as error:
        fail(
            ExitCode.WRONG_USE,
            f"a cluster needs the package {error.name}: pip install 'amqp-broker-server[cluster]'",
        )
    from amqp_broker.network.listeners import CannotListen
    from amqp_broker.network.tls import BadCertificate
    from amqp_broker.server.data_folder import CannotUseDataFolder, DataFolder
    from amqp_broker.server.logins.failures import CannotAskBackend
    from amqp_broker.server.service_manager import ServiceManager
    from amqp_broker.settings import SettingError

    try:
        configuration = cluster_configuration(settings)
    except SettingError as error:
        fail(ExitCode.WRONG_USE, str(error))
    codes: dict[type[BaseException], ExitCode] = {
        BadCertificate: ExitCode.WRONG_USE,
        CannotAskBackend: ExitCode.WRONG_USE,
        CannotJoin: ExitCode.CANNOT_JOIN,
        CannotListen: ExitCode.CANNOT_LISTEN,
        CannotUseDataFolder: ExitCode.CANNOT_USE_DATA_FOLDER,
        EtcdMissing: ExitCode.CANNOT_JOIN,
    }
    failure: BaseException | None = None
    try:
        with DataFolder(Path(settings.data_dir)) as folder:
            etcd = None
            if configuration.members:
                member = configuration.members, configuration.node_name
                place, quota_bytes = folder.path / FOLDER_NAME, settings.etcd_quota_bytes
                cluster, files = configuration.cluster, configuration.member_files
                command = etcd_command(*member, cluster, place, quota_bytes, files)
                tls = configuration.addresses[0].tls  # the same for all
                etcd = partial(look_after, command, partial(initial_state, *member, place, tls))
            node = ClusterNode(settings, configuration, folder.path, _administration)
            ready = partial(announcements.node_ready, cluster=configuration.cluster, log_format=settings.log_format)
            trio.run(_serve, node, etcd, ServiceManager(os.environ), ready)
    except* (BadCertificate, CannotAskBackend, CannotJoin, CannotListen, CannotUseDataFolder, EtcdMissing) as errors:
        failure = errors
        while isinstance(failure, BaseExceptionGroup):
            failure = failure.exceptions[0]
    if failure is not None:
        fail(codes[type(failure)], str(failure))


def _administration(server: BrokerServer, shards: Shards | None) -> Serve:
    """What serves administrators, loaded when there is a broker for them."""
    from amqp_broker.management.management import Management

    return Management(server, shards).serve


async def _serve(
    node: ClusterNode,
    etcd: Callable[[], Awaitable[None]] | None,
    manager: ServiceManager,
    ready: Callable[[Sequence[Endpoint]], None],
) -> None:
    """Run a node, and the member of etcd that it looks after, which ends last."""
    import trio

    starting = trio.CancelScope()  # it may wait for etcd, a minute
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        async with trio.open_nursery() as background:
            background.start_soon(_obey, signals, node, manager, starting)
            if etcd is not None:
                background.start_soon(etcd)
            async with trio.open_nursery() as nursery:
                with starting:
                    endpoints = await nursery.start(_run, node)
                    ready(endpoints)
                    manager.ready()
                    background.start_soon(manager.keep_watchdog)
            background.cancel_scope.cancel()


async def _run(node: ClusterNode, *, task_status: trio.TaskStatus[list[Endpoint]]) -> None:
    await node.run(task_status=task_status)


async def _obey(
    signals: AsyncIterator[int], node: ClusterNode, manager: ServiceManager, starting: trio.CancelScope
) -> None:
    async for number in signals:
        if number == _RELOAD:
            manager.reloading()
            node.reload_certificates()
            manager.reloaded()
        else:
            for ending in _ENDINGS:
                signal.signal(ending, signal.SIG_DFL)
            manager.stopping()
            starting.cancel()
            node.shut_down()
            return
