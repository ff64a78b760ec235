"""``amqp-broker cluster``: who is in a cluster and who owns the broker, handing it over, and moving in and out.

Does not hold how a node runs; that is ``serve --cluster`` (``serve_cluster.py``).
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amqp_broker.cli import control, options, tables
from amqp_broker.cli.exit_codes import EPILOG, ExitCode
from amqp_broker.cli.tables import size_text
from amqp_broker.explanations import system_reason

if TYPE_CHECKING:
    from amqp_broker.cluster.configuration import ClusterConfiguration

SHARD = 0
TITLE_WIDTH = 11
SHOWN_EVERY_S = 0.25

Source = Annotated[Path, typer.Argument(metavar="DIR", help="The data folder of a broker that ran alone.")]
Target = Annotated[Path, typer.Argument(metavar="DIR", help="A new data folder, which serve starts from.")]
BackupFile = Annotated[Path, typer.Argument(metavar="FILE", help="What to write.")]

application = typer.Typer(
    help="Several nodes as one broker: who is there, who owns it, and moving in or out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@application.command("status", epilog=EPILOG)
def status(as_json: control.Json = False, data_dir: options.DataDir = None, config: options.ConfigFile = None) -> None:
    """Show a cluster as a node on this machine sees it: its nodes, which of them owns the broker, and etcd.

    \b
    amqp-broker cluster status
    amqp-broker cluster status --json | jq -r .owner
    """
    said = control.ask(data_dir, config, "cluster.status")
    if as_json:
        print(json.dumps(said, indent=2))
        return
    for name, text in _lines(said):
        print(tables.titled(name, text, TITLE_WIDTH))
    rows = [{**node, "role": _role(node, said["shards"]), "up": _passed(node["started_s"])} for node in said["nodes"]]
    print()
    tables.show(rows, ("name", "role", "link", "version", "up"), False)
    if said["shards"]:
        print()
        columns = ("number", "owner", "epoch", "backlog", "takeover", "virtual hosts")
        tables.show([_shard_row(shard) for shard in said["shards"]], columns, False)


def _lines(said: dict[str, Any]) -> list[tuple[str, str]]:
    etcd = said["etcd"]
    used = f"{size_text(etcd['database_used_bytes'])} used of {size_text(etcd['quota_bytes'])}"
    owner = f"{said['owner']}, epoch {said['epoch']}" if said["owner"] else "none now: nobody is served"
    lines = [
        ("cluster", said["cluster"]),
        ("asked", f"node {said['node']}"),
        ("owner", owner),
        ("etcd", f"{etcd['version']} at {etcd['address']}"),
        ("", f"{used}, {size_text(etcd['database_bytes'])} on its disk"),
    ]
    if not etcd["has_leader"]:
        lines.append(("", "etcd has no leader: nothing can be written"))
    if etcd.get("publishers_wait"):  # not with a node of an earlier release
        lines.append(("", "so much of etcd's quota is used that publishers wait: consume, or give etcd more"))
    lines += [("", error) for error in etcd["errors"]]
    lines += _members(etcd.get("members", []))  # not with a node of an earlier release
    lines.append(("backlog", _backlog(said)))
    if not said["shards"]:
        lines.append(("takeover", _takeover(said.get("last_takeover"))))
    return lines


def _members(members: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """How many members of etcd can be counted on, and what is wrong with each of the others."""
    failed = [f"{member['address']}: {member['failure']}" for member in members if member["failure"]]
    if not failed:
        return [("members", f"all {len(members)} answer")] if len(members) > 1 else []
    return [("members", f"{len(members) - len(failed)} of {len(members)} answer"), *(("", line) for line in failed)]


def _backlog(said: dict[str, Any]) -> str:
    """How much waits, which a takeover reads; etcd has more until it has forgotten what is gone."""
    size_bytes = said.get("backlog_bytes")  # not with a node of an earlier release
    if size_bytes is None:
        return "not told by the owner yet" if said["owner"] else "not known while nobody owns the broker"
    return f"{size_text(size_bytes)} live, {100 * size_bytes / said['etcd']['quota_bytes']:.1f} % of etcd's quota"


def _takeover(takeover: dict[str, Any] | None) -> str:
    """When it was, and who took over from whom."""
    if takeover is None:
        return "none is known"
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(takeover["at_s"]))
    return f"{when}: {_who(takeover)}"


def _who(takeover: dict[str, Any]) -> str:
    """Who took over from whom, and for how long nobody had owned it, as far as those are known."""
    before, seconds = takeover["from_node"], takeover["seconds"]
    whose = "" if before is None else " again" if before == takeover["node"] else f" from {before}"
    return f"{takeover['node']}{whose}" + ("" if seconds is None else f" within {seconds:.2f} s")


def _shard_row(shard: dict[str, Any]) -> dict[str, Any]:
    size_bytes, takeover = shard.get("backlog_bytes"), shard.get("last_takeover")
    return {
        **shard,
        "backlog": None if size_bytes is None else size_text(size_bytes),
        "takeover": None if takeover is None else f"{_passed(takeover['at_s'])} ago: {_who(takeover)}",
        "virtual hosts": ", ".join(shard["virtual_hosts"]),
    }


def _role(node: dict[str, Any], shards: list[dict[str, Any]]) -> str:
    """What a node owns; where there is one shard, that is everything or nothing."""
    if not shards:
        return "owner" if node["is_owner"] else "door"
    owned = [str(shard["number"]) for shard in shards if shard["owner"] == node["name"]]
    return f"owner of {', '.join(owned)}" if owned else "door"


def _passed(since_s: int) -> str:
    minutes = max(0, int(time.time() - since_s)) // 60
    return f"{minutes // 1440} d" if minutes >= 2880 else f"{minutes // 60} h" if minutes >= 120 else f"{minutes} min"


@application.command("step-down", epilog=EPILOG)
def step_down(data_dir: options.DataDir = None, config: options.ConfigFile = None) -> None:
    """Have the owner hand the broker over to another node, before its machine is restarted; its clients reconnect.

    \b
    amqp-broker cluster step-down
    """
    name = control.ask(data_dir, config, "cluster.step-down")
    print(f"node '{name}' has handed the broker over")


@application.command("import", epilog=EPILOG)
def import_data(folder: Source, cluster: options.Cluster = None, config: options.ConfigFile = None) -> None:
    """Make the data of a broker that ran alone that of a cluster. No node of it may run yet; DIR stays as it is.

    \b
    amqp-broker cluster import ./alone --cluster etcd://10.0.0.1:2379/orders
    """
    from amqp_broker.journal.real_files import RealFiles
    from amqp_broker.server.data_folder import DataFolder
    from amqp_broker.server.journal_folder import JOURNAL_FOLDER_NAME

    configuration = _configuration(cluster, config)
    if not (folder / JOURNAL_FOLDER_NAME).is_dir():
        options.fail(ExitCode.CANNOT_USE_DATA_FOLDER, f"{folder} is no data folder: it has no {JOURNAL_FOLDER_NAME}")
    with _failures_told(folder, f"{folder} is as it was; the same command begins again"), DataFolder(folder):
        import trio

        from amqp_broker.cluster.transfer import import_journal

        files = RealFiles(folder / JOURNAL_FOLDER_NAME)
        size_bytes = trio.run(import_journal, configuration, SHARD, files, _progress("importing"))
    print(f"the cluster '{configuration.cluster}' has the {size_text(size_bytes)} of {folder}: start its nodes")


@application.command("export", epilog=EPILOG)
def export_data(folder: Target, cluster: options.Cluster = None, config: options.ConfigFile = None) -> None:
    """Copy a cluster's data into a folder that a broker alone starts from. Nodes may run: it is as of one moment.

    \b
    amqp-broker cluster export ./alone --cluster etcd://10.0.0.1:2379/orders
    amqp-broker serve --data-dir ./alone
    """
    from amqp_broker.journal.real_files import RealFiles
    from amqp_broker.server.data_folder import DataFolder
    from amqp_broker.server.journal_folder import JOURNAL_FOLDER_NAME

    configuration = _configuration(cluster, config)
    with _failures_told(folder, f"{folder} has no journal; the same command begins again"), DataFolder(folder):
        from amqp_broker.cluster.transfer import export_journal

        journal = folder / JOURNAL_FOLDER_NAME
        part = folder / f"{JOURNAL_FOLDER_NAME}.part"  # no broker is to start from half of it
        if journal.is_dir() and any(journal.iterdir()):
            options.fail(ExitCode.CANNOT_USE_DATA_FOLDER, f"{folder} has a journal already: name a new folder")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        try:
            size_bytes = export_journal(configuration, SHARD, RealFiles(part), _progress("exporting"))
            journal.mkdir(exist_ok=True)
            journal.rmdir()
            part.rename(journal)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    print(f"{folder} has the {size_text(size_bytes)} of the cluster '{configuration.cluster}'")


@application.command("backup", epilog=EPILOG)
def backup(file: BackupFile, cluster: options.Cluster = None, config: options.ConfigFile = None) -> None:
    """Write a snapshot of all that etcd has into a file, for 'etcdctl snapshot restore'. Nodes may run.

    \b
    amqp-broker cluster backup snapshot --cluster etcd://10.0.0.1:2379/orders
    """
    if file.is_dir():
        options.fail(ExitCode.WRONG_USE, f"{file} is a folder: name a file that is to be written")
    configuration = _configuration(cluster, config)
    with _failures_told(file, f"{file} is not written"):
        import trio

        from amqp_broker.cluster.transfer import back_up

        size_bytes = trio.run(back_up, configuration, file, _progress("receiving"))
    print(f"{file} has the {size_text(size_bytes)} of etcd")


def _configuration(cluster: str | None, config: Path | None) -> ClusterConfiguration:
    settings = options.configure(None, None, None, config, None, None, cluster=cluster).settings
    if not settings.cluster and not settings.with_etcd:
        options.fail(ExitCode.WRONG_USE, "name the cluster: --cluster etcd://HOST:PORT,HOST:PORT/NAME")
    try:
        from amqp_broker.cluster.configuration import cluster_configuration
    except ModuleNotFoundError as error:
        options.fail(
            ExitCode.WRONG_USE,
            f"a cluster needs the package {error.name}: pip install 'amqp-broker-server[cluster]'",
        )
    from amqp_broker.settings import SettingError

    try:
        return cluster_configuration(settings, needs_secret=False)
    except SettingError as error:
        options.fail(ExitCode.WRONG_USE, str(error))


@contextmanager
def _failures_told(path: Path, stopped: str) -> Iterator[None]:
    """What goes wrong in a line, with its exit code.

    Args:
        path: what is read or written.
        stopped: what has become of it when Ctrl-C ends the command.
    """
    from amqp_broker.cluster.etcd_checks import CannotJoin
    from amqp_broker.cluster.transfer import CannotTransfer
    from amqp_broker.server.data_folder import CannotUseDataFolder

    failed: tuple[ExitCode, str] | None = None
    is_interrupted = False
    try:
        yield
    except* KeyboardInterrupt:
        is_interrupted = True
    except* (CannotJoin, CannotTransfer) as errors:
        failed = ExitCode.CANNOT_JOIN, str(_first(errors))
    except* CannotUseDataFolder as errors:
        failed = ExitCode.CANNOT_USE_DATA_FOLDER, str(_first(errors))
    except* OSError as errors:
        error = _first(errors)
        assert isinstance(error, OSError)
        failed = ExitCode.CANNOT_USE_DATA_FOLDER, f"{error.filename or path}: {system_reason(error)}"
    if is_interrupted:
        options.fail_for_interrupt(stopped)
    if failed is not None:
        options.fail(*failed)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _progress(doing: str) -> Callable[[int, int], None]:
    """Shows on a terminal how far it is."""
    shown_s = 0.0

    def show(done_bytes: int, all_bytes: int) -> None:
        nonlocal shown_s
        is_done = done_bytes >= all_bytes
        if not sys.stderr.isatty() or (time.monotonic() - shown_s < SHOWN_EVERY_S and not is_done):
            return
        shown_s = time.monotonic()
        end = "\n" if is_done else "\r"
        sys.stderr.write(f"{doing}: {100 * done_bytes // max(all_bytes, 1)} % of {all_bytes / 1e6:.0f} MB{end}")
        sys.stderr.flush()

    return show
