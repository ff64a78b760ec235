"""The broker in the foreground, from its settings to its exit code: what ``amqp-broker serve`` does.

Nothing here needs the library of the command line: a start does not wait for it (``serve_options.py``).
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from amqp_broker.cli import announcements
from amqp_broker.cli.configuration import ConfigurationError, load, wanted_log_format
from amqp_broker.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    import trio

    from amqp_broker.network.listeners import Endpoint
    from amqp_broker.server.broker_server import BrokerServer
    from amqp_broker.server.data_folder import DataFolder
    from amqp_broker.server.service_manager import ServiceManager
    from amqp_broker.settings import LogFormat, LogLevel

ErrorT = TypeVar("ErrorT", bound=BaseException)

_ENDINGS = (signal.SIGTERM, signal.SIGINT)
_RELOAD: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
# While a thread computes (it rewrites a segment, say), the loop waits so long for the interpreter each time it comes
# back from the system, several times for a message. CPython's own 5 ms make pauses of 20 to 90 ms of that.
THREAD_TURN_S = 0.0005
_SIGNALS = (*_ENDINGS, *([_RELOAD] if _RELOAD is not None else []))


def serve(given: Mapping[str, str | None]) -> None:
    """Run the broker until SIGTERM or Ctrl-C.

    Args:
        given: what the command line says, by the name of the setting; ``config`` is the file of settings.

    Raises:
        SystemExit: it ended otherwise than by a signal; with the exit code, the reason has been told.
    """
    config = given.get("config")
    config_file = None if config is None else Path(config)
    refuse = partial(_refuse, given.get("log_format"), config_file)
    command_line = {name: text for name, text in given.items() if name != "config"}
    try:
        settings = load(command_line, config_file, os.environ).settings
    except ConfigurationError as error:
        refuse(ExitCode.WRONG_USE, str(error))
    _set_up_logs(settings.log_level, settings.log_format)

    from amqp_broker.management.management import Management
    from amqp_broker.server.broker_server import BrokerServer
    from amqp_broker.server.descriptors import take_all_descriptors

    gc.freeze()  # what was loaded stays: looking through it would take a tenth of the start
    gc.enable()
    take_all_descriptors()
    sys.setswitchinterval(THREAD_TURN_S)
    fail = partial(_fail, settings.log_format)
    if settings.cluster or settings.with_etcd:
        from amqp_broker.cli.serve_cluster import serve_cluster

        serve_cluster(settings, fail)
    elif settings.processes > 1:
        if sys.platform == "win32":
            fail(ExitCode.WRONG_USE, "several processes are not to be had on Windows: set processes to 1")
        from amqp_broker.cli.serve_processes import serve_processes

        serve_processes(settings, _explained, fail)
    else:
        server = BrokerServer(settings)
        server.speak_http(Management(server).serve)
        _serve_alone(server)


def _serve_alone(server: BrokerServer) -> None:
    """Run a broker that is one process, and no node of a cluster."""
    import trio

    from amqp_broker.journal.failures import JournalError
    from amqp_broker.network.listeners import CannotListen
    from amqp_broker.network.tls import BadCertificate
    from amqp_broker.server.data_folder import CannotUseDataFolder, DataFolder
    from amqp_broker.server.definition_files import CannotLoadDefinitions
    from amqp_broker.server.logins.failures import CannotAskBackend
    from amqp_broker.server.service_manager import ServiceManager

    settings = server.settings
    server.log_lines.attach()
    announcements.starting(settings, server.memory)
    failure: Exception | None = None
    try:
        trio.run(_serve, server, DataFolder(Path(settings.data_dir)), ServiceManager(os.environ))
    except* (
        JournalError,
        CannotListen,
        BadCertificate,
        CannotUseDataFolder,
        CannotLoadDefinitions,
        CannotAskBackend,
    ) as errors:
        failure = _first(errors)
    # Out here: what is raised within except* comes out in a group, until Python 3.11.4 even when it is alone.
    if failure is not None:
        code, text = _explained(failure, settings.data_dir)
        _fail(settings.log_format, code, text)
    announcements.stopped(time.monotonic() - server.ending_since_s)


def _set_up_logs(level: LogLevel, log_format: LogFormat) -> None:
    from amqp_broker.logs import set_up_logs

    set_up_logs(level, log_format)
    if log_format == "json":
        from amqp_broker.cli.defects import tell_defects_as_events

        tell_defects_as_events()


def _fail(log_format: str, code: ExitCode, text: str) -> NoReturn:
    announcements.failed(text, code, log_format)
    sys.exit(int(code))


def _refuse(log_format: str | None, config: Path | None, code: ExitCode, text: str) -> NoReturn:
    """End because of settings that cannot be taken: as JSON where that is what the log shall be."""
    wanted = wanted_log_format(log_format, config, os.environ)
    _set_up_logs("info", wanted)
    _fail(wanted, code, text)


def _first(errors: BaseExceptionGroup[ErrorT]) -> ErrorT:
    """What went wrong first: trio hands errors out of its nurseries in groups, and groups of groups."""
    error: ErrorT | BaseExceptionGroup[ErrorT] = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _explained(error: Exception, data_dir: str) -> tuple[ExitCode, str]:
    """The exit code of what went wrong, and the text that says what it was and the way out."""
    from amqp_broker.journal.failures import FormatNotSupported, JournalDamaged, JournalError, NotAllowed
    from amqp_broker.network.listeners import CannotListen
    from amqp_broker.network.tls import BadCertificate
    from amqp_broker.server.data_folder import whose
    from amqp_broker.server.definition_files import CannotLoadDefinitions
    from amqp_broker.server.journal_folder import WAY_OUT_OF_OTHER_RELEASE
    from amqp_broker.server.logins.failures import CannotAskBackend

    match error:
        case CannotListen():
            return ExitCode.CANNOT_LISTEN, str(error)
        case BadCertificate() | CannotLoadDefinitions() | CannotAskBackend():
            return ExitCode.WRONG_USE, str(error)
        case JournalDamaged():
            way_out = (
                f"see 'amqp-broker journal check --data-dir {data_dir}', and 'journal repair' to save what can be saved"
            )
            return ExitCode.JOURNAL_DAMAGED, f"{error}: {way_out}"
        case FormatNotSupported():
            return ExitCode.NOT_SUPPORTED, f"{error}: {WAY_OUT_OF_OTHER_RELEASE}"
        case NotAllowed():
            other = "choose another folder with --data-dir"
            way_out = whose(Path(error.file or data_dir), other) or f"let it be read and written, or {other}"
            return ExitCode.CANNOT_USE_DATA_FOLDER, f"{error}: {way_out}"
        case JournalError():
            return ExitCode.JOURNAL_FAILED, f"{error}: nothing was confirmed since; repair the disk and start again"
        case _:
            return ExitCode.CANNOT_USE_DATA_FOLDER, str(error)


async def _serve(server: BrokerServer, data_folder: DataFolder, manager: ServiceManager) -> None:
    """Start, announce, and serve until a signal; the signals are received before anything is begun."""
    import trio

    from amqp_broker.server.garbage import collect_garbage

    starting = trio.CancelScope()
    with trio.open_signal_receiver(*_SIGNALS) as signals, ExitStack() as held:
        async with trio.open_nursery() as background:
            background.start_soon(_obey, signals, server, manager, starting)
            with starting:
                await _open(server, data_folder, held)
            if not starting.cancelled_caught:
                async with trio.open_nursery() as nursery:
                    endpoints = await nursery.start(server.run)
                    background.start_soon(
                        collect_garbage, server.broker, lambda: server.connections_ended, server.memory.size_bytes
                    )
                    announcements.ready(endpoints, server.http_endpoints, server.settings, server.memory)
                    _warn_if_nobody_can_log_in(endpoints, server)
                    announcements.without_effect(server.chosen_settings, server.memory, server.broker)
                    manager.ready()
                    background.start_soon(manager.keep_watchdog)
            background.cancel_scope.cancel()


async def _open(server: BrokerServer, data_folder: DataFolder, held: ExitStack) -> None:
    """Take the addresses and the data folder, read the journal, and let clients connect; can be cancelled."""
    import trio

    from amqp_broker.server.data_folder import PROCESSES_FOLDER_NAME
    from amqp_broker.server.garbage import without_collections
    from amqp_broker.server.journal_folder import RecoveryProgress, open_journal

    # The port first: when it is taken, the data folder must not have been touched.
    held.callback(server.stop_listening)
    await server.bind()
    held.enter_context(data_folder)
    if (data_folder.path / PROCESSES_FOLDER_NAME).exists():
        from amqp_broker.processes.folder import check_processes

        check_processes(data_folder.path, 1)
    show = RecoveryProgress(as_events=server.settings.log_format == "json")

    def progress(read_bytes: int, all_bytes: int) -> None:
        trio.from_thread.check_cancelled()
        show(read_bytes, all_bytes)

    began_s = time.monotonic()
    # In a thread, so that a signal is heard while a long journal is read.
    with without_collections():
        await trio.to_thread.run_sync(server.open, open_journal(data_folder.path, server.settings), progress)
    announcements.recovered(server.broker, data_folder.was_left_open, time.monotonic() - began_s)
    if server.settings.load_definitions:
        from amqp_broker.server.definition_files import load_definitions

        load_definitions(server.broker, server.settings.load_definitions)
    server.control_folder = data_folder.path
    server.listen()


async def _obey(
    signals: AsyncIterator[int], server: BrokerServer, manager: ServiceManager, starting: trio.CancelScope
) -> None:
    """End the broker at the first SIGTERM or Ctrl-C. From then on they do what they do to any process: end it at once.

    SIGHUP has the certificates read again.
    """
    async for number in signals:
        if number == _RELOAD:
            manager.reloading()
            server.reload_certificates()
            manager.reloaded()
            continue
        for ending in _ENDINGS:
            signal.signal(ending, signal.SIG_DFL)
        manager.stopping()
        announcements.stopping(server.client_count, server.settings)
        starting.cancel()
        server.shut_down()


def _warn_if_nobody_can_log_in(endpoints: list[Endpoint], server: BrokerServer) -> None:
    """Say so when others may connect, but every user there is may log in from this machine only."""
    import logging

    from amqp_broker.logs import log_event

    users, settings = server.broker.users, server.settings
    is_reachable = not all(endpoint.is_loopback for endpoint in endpoints)
    if is_reachable and all(user.name in settings.loopback_users for user in users):
        names = " and ".join(user.name for user in users)
        log_event(
            logging.WARNING,
            "nobody can log in from other machines",
            reason=f"loopback_users lets {names or 'nobody'} in from this machine only",
            way_out="add a user with 'amqp-broker users add' and 'amqp-broker permissions set'",
        )
