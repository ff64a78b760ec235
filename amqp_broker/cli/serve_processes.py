"""``amqp-broker serve`` with several processes, from its settings to its exit code; ``serving.py`` is for one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from amqp_broker.cli import announcements
from amqp_broker.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    import trio

    from amqp_broker.network.listeners import Listener
    from amqp_broker.processes.worker import Worker
    from amqp_broker.server.broker_server import BrokerServer
    from amqp_broker.server.data_folder import DataFolder
    from amqp_broker.server.memory_limit import MemoryLimit
    from amqp_broker.server.reception import Reception, Serve
    from amqp_broker.server.sharding.shards import Shards
    from amqp_broker.settings import Settings

Explain = Callable[[Exception, str], tuple[ExitCode, str]]  # what went wrong, with which data folder


def serve_processes(settings: Settings, explain: Explain, fail: Callable[[ExitCode, str], NoReturn]) -> None:
    """Have several processes serve until a signal.

    Args:
        explain: what went wrong, in words, and the exit code of that.
        fail: ends the command with an exit code, and a line that says why.
    """
    import trio

    from amqp_broker.network.listeners import CannotListen
    from amqp_broker.network.tls import BadCertificate
    from amqp_broker.processes.folder import check_processes, make_folders
    from amqp_broker.processes.supervisor import SIGNS, Supervisor
    from amqp_broker.server.data_folder import CannotUseDataFolder, DataFolder
    from amqp_broker.server.definition_files import CannotLoadDefinitions
    from amqp_broker.server.memory_limit import available_memory
    from amqp_broker.server.resources import with_memory_limits
    from amqp_broker.server.service_manager import ServiceManager

    memory = available_memory()
    whole = with_memory_limits(settings, memory)
    announcements.starting(whole, memory)
    reception = _reception(settings)
    data_folder, code, began_s = DataFolder(Path(settings.data_dir)), 0, 0.0
    try:
        trio.run(reception.bind)  # before the data folder is touched
        with data_folder:
            check_processes(data_folder.path, settings.processes)
            make_folders(data_folder.path, settings.processes)
            manager = ServiceManager(os.environ)
            run = partial(_run, whole, data_folder, reception.listeners, explain, manager.alive_every_s / SIGNS)
            may_start = partial(_may_start, reception, whole, memory)
            supervisor = Supervisor(settings.processes, run, may_start, reception.stop_listening, manager)
            code, began_s = supervisor.supervise(), supervisor.ending_since_s
    except (CannotListen, BadCertificate, CannotUseDataFolder, CannotLoadDefinitions) as error:
        failure: Exception | None = error
    else:
        failure = None
    finally:
        reception.stop_listening()
    if failure is not None:
        fail(*explain(failure, settings.data_dir))
    if code:
        raise SystemExit(code)  # the process that has failed has said why
    announcements.stopped(time.monotonic() - began_s)


def _reception(settings: Settings) -> Reception:
    """Where clients may come; nobody is served here."""
    from amqp_broker.network.turns import Turns
    from amqp_broker.server.reception import Reception

    reception = Reception(settings, Turns(), _nobody, lambda: (0, 0))
    reception.is_http_served = True
    return reception


async def _nobody(stream: trio.abc.Stream, peer: object, protocol: str) -> None:
    raise AssertionError("the supervisor accepts nobody")


def _may_start(
    reception: Reception, settings: Settings, memory: MemoryLimit, is_still_to_start: Callable[[], bool]
) -> None:
    """All processes can serve: let clients come."""
    from amqp_broker.network.listeners import FOR_ADMINISTRATORS

    if settings.load_definitions and not _load_definitions(settings, is_still_to_start):
        return
    reception.listen()
    endpoints = [one for one in reception.endpoints if one.protocol not in FOR_ADMINISTRATORS]
    http_endpoints = [one for one in reception.endpoints if one.protocol in FOR_ADMINISTRATORS]
    announcements.ready(endpoints, http_endpoints, settings, memory)


def _load_definitions(settings: Settings, is_still_to_start: Callable[[], bool]) -> bool:
    """Have what the setting says, by the processes' own command line, before the first client comes.

    Returns:
        Whether it is there; False where all end meanwhile.

    Raises:
        CannotLoadDefinitions: it cannot be had.
    """
    from amqp_broker.cli.control import NotReached, Refused, exchange
    from amqp_broker.server.definition_files import CannotLoadDefinitions, read_definitions

    name = settings.load_definitions
    try:
        for _ in exchange(settings.data_dir, "definitions.import", {"definitions": read_definitions(name)}):
            if not is_still_to_start():
                return False
    except (Refused, NotReached) as error:
        raise CannotLoadDefinitions(f"load_definitions: {name}: {error}") from error
    return True


def _administration(server: BrokerServer, shards: Shards | None) -> Serve:
    from amqp_broker.management.management import Management

    return Management(server, shards).serve


def _share_of(settings: Settings) -> Settings:
    """The settings of one process, which has its share of the memory."""
    count = settings.processes
    return replace(
        settings,
        memory_high_water_bytes=settings.memory_high_water_bytes // count,
        memory_budget_bytes=settings.memory_budget_bytes // count,
    )


def _run(
    settings: Settings,
    data_folder: DataFolder,
    listeners: list[Listener],
    explain: Explain,
    sign_every_s: float,
    number: int,
    alive: int,
    start: int,
    ready: int,
) -> int:
    """Be one of the processes; returns its exit code."""
    import trio

    from amqp_broker.journal.failures import JournalError
    from amqp_broker.network.tls import BadCertificate
    from amqp_broker.processes.folder import folder_of
    from amqp_broker.processes.worker import Surroundings, Worker
    from amqp_broker.server.data_folder import CannotUseDataFolder
    from amqp_broker.server.journal_folder import open_journal
    from amqp_broker.server.logins.failures import CannotAskBackend
    from amqp_broker.server.sharding.directory import CannotAgree

    here = Surroundings(_share_of(settings), data_folder.path, listeners, alive, start, ready, sign_every_s)
    failure: BaseException | None = None
    try:
        worker = Worker(number, here, _administration, open_journal)
        trio.run(_serve, worker, number == 0 and data_folder.was_left_open, settings.log_format == "json")
    except* (JournalError, BadCertificate, CannotUseDataFolder, CannotAskBackend, CannotAgree) as errors:
        failure = errors
        while isinstance(failure, BaseExceptionGroup):
            failure = failure.exceptions[0]
    if not isinstance(failure, Exception):
        return 0
    place = str(data_folder.path if number == 0 else folder_of(data_folder.path, number))
    code, text = explain(failure, place)
    announcements.failed(text, code, settings.log_format)
    return int(code)


async def _serve(worker: Worker, was_left_open: bool, as_events: bool) -> None:
    """Be one of the processes until a signal; it is received before anything is begun."""
    import trio

    from amqp_broker.server.journal_folder import RecoveryProgress

    show = RecoveryProgress(as_events=as_events)
    began_s = time.monotonic()

    def progress(read_bytes: int, all_bytes: int) -> None:
        trio.from_thread.check_cancelled()
        show(read_bytes, all_bytes)

    def recovered() -> None:
        is_unclean, server = worker.was_left_open or was_left_open, worker.server
        announcements.recovered(server.broker, is_unclean, time.monotonic() - began_s)
        if worker.is_root:
            announcements.without_effect(server.chosen_settings, server.memory, server.broker)

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as background:
            background.start_soon(_obey, signals, worker)
            await worker.run(progress, recovered)
            background.cancel_scope.cancel()


async def _obey(signals: AsyncIterator[int], worker: Worker) -> None:
    async for number in signals:
        if number == signal.SIGHUP:
            worker.reload_certificates()
        else:
            worker.shut_down()
