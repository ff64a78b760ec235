"""A member of etcd that a node looks after: a process of its own, started with the node and ended with it.

Its data is in the node's data folder. What it logs are events of the node's log. When it ends by itself it is started
again. Holds no calls to etcd (``etcd_beginning.py``), and does not change which members there are: that is ``etcdctl
member``'s.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import trio

from amqp_broker.logs import log_event
from amqp_broker.settings import SettingError

CLIENT_PORT: Final = 2379
FORM: Final = "NAME=HOST,NAME=HOST,NAME=HOST"
FOLDER_NAME: Final = "etcd"
STATE_OPTION: Final = "--initial-cluster-state"
RESTART_PAUSE_S: Final = 1.0
ENDING_S: Final = 5.0
LINE_BYTES_MAX: Final = 65_536
COUNTS: Final = (1, 3, 5, 7)
SNAPSHOT_COUNT: Final = 1000  # until then it holds the bytes of all transactions in memory: 5000 and so many more
LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING}
PASSED_OVER: Final = ("level", "ts", "logger", "caller", "msg", "stacktrace")

# A process that is killed takes nobody with it; on Linux the kernel can be asked to see to that. It does so when the
# thread ends that has started the process, and those that Trio starts processes in end when they are idle.
_LAUNCH: Final = """
import ctypes, os, sys
os.setsid()  # Ctrl-C is for the node, which ends its member when it has no need of it any more
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG, SIGTERM
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class EtcdMissing(Exception):
    """etcd is not installed."""


class CannotBegin(Exception):
    """The other members would refuse a member without data; the text says what they are to be told."""


@dataclass(frozen=True, slots=True)
class MemberPlace:
    """The address of a member of etcd.

    Args:
        host: its machine.
        port: of its clients; the other members come to the next one.
        is_tls: whether TLS is spoken at both.
    """

    host: str
    port: int = CLIENT_PORT
    is_tls: bool = False

    @property
    def client_url(self) -> str:
        """Where clients reach it."""
        return f"{self._scheme}://{_bracketed(self.host)}:{self.port}"

    @property
    def peer_url(self) -> str:
        """Where the other members do."""
        return f"{self._scheme}://{_bracketed(self.host)}:{self.port + 1}"

    @property
    def _scheme(self) -> str:
        return "https" if self.is_tls else "http"


@dataclass(frozen=True, slots=True)
class MemberFiles:
    """The files with which a member speaks TLS: to its clients and to the other members the same.

    Args:
        certificate: for both servers and clients, and for the address of its machine.
        key: the certificate's; it may be the same file.
        authorities: that the certificates of clients and of other members come from.
    """

    certificate: str
    key: str
    authorities: str

    @property
    def options(self) -> list[str]:
        """More of etcd's command line."""
        options = ["--client-cert-auth", "--peer-client-cert-auth"]
        for prefix in ("--", "--peer-"):
            options += [f"{prefix}cert-file", self.certificate, f"{prefix}key-file", self.key]
            options += [f"{prefix}trusted-ca-file", self.authorities]
        return options


def members_in(text: str, *, is_tls: bool = False) -> dict[str, MemberPlace]:
    """The members that the setting ``with_etcd`` names.

    Args:
        is_tls: whether they speak TLS.

    Raises:
        SettingError: it cannot be read.
    """
    members: dict[str, MemberPlace] = {}
    for one in text.split(","):
        name, _, place = one.strip().partition("=")
        host, colon, port = place.rpartition(":")
        if not colon or place.endswith("]"):
            host, port = place, str(CLIENT_PORT)
        if not name or not host or not port.isdecimal() or not 0 < int(port) < 65_535 or name in members:
            raise SettingError(f"with_etcd takes {FORM}, each name once: '{one}' is none")
        members[name] = MemberPlace(host.strip("[]"), int(port), is_tls)
    for member in members.values():
        if not _can_be_listened_at(member.host):
            raise SettingError(f"with_etcd takes IP addresses, as etcd listens at no name: '{member.host}' is none")
    if len(members) not in COUNTS:
        raise SettingError(f"with_etcd names {len(members)} nodes: etcd wants 3 or 5, or 1 to try things out")
    return members


def _can_be_listened_at(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def etcd_command(
    members: dict[str, MemberPlace],
    name: str,
    cluster: str,
    folder: Path,
    quota_bytes: int,
    files: MemberFiles | None = None,
) -> list[str]:
    """How a member is started, without its initial state (``etcd_beginning.py``).

    Args:
        members: all of them.
        name: which one.
        cluster: that they are of; members of another one are refused.
        folder: for its data.
        quota_bytes: how much it may hold.
        files: for TLS; None for none.

    Raises:
        EtcdMissing: it is not installed.
        OSError: its folder cannot be made.
    """
    program = shutil.which("etcd")
    if program is None:
        raise EtcdMissing("etcd is not installed: apt install etcd-server, or see https://etcd.io")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)  # etcd wants it so
    peers = {one: place.peer_url for one, place in members.items()}
    clients = members[name].client_url
    return [
        program,
        *("--name", name, "--data-dir", str(folder), "--initial-cluster-token", f"amqp-broker-{cluster}"),
        *("--listen-client-urls", clients, "--advertise-client-urls", clients),
        *("--listen-peer-urls", peers[name], "--initial-advertise-peer-urls", peers[name]),
        *("--initial-cluster", ",".join(f"{one}={url}" for one, url in peers.items())),
        *("--quota-backend-bytes", str(quota_bytes), "--snapshot-count", str(SNAPSHOT_COUNT)),
        *("--logger", "zap", "--log-outputs", "stderr", "--log-level", "warn"),
        *(files.options if files is not None else ()),
    ]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def look_after(command: list[str], initial_state: Callable[[], str]) -> None:
    """Run a member until cancelled; then end it, and return when it has ended.

    Args:
        command: as ``etcd_command`` has it.
        initial_state: asked in a thread before each start; raises ``CannotBegin``.
    """
    while True:
        state = await _until_it_can_begin(initial_state)
        process = _started([*command, STATE_OPTION, state])
        log_event(logging.INFO, "etcd started", process=process.pid)
        try:
            await trio.to_thread.run_sync(_log_until_it_ends, process, abandon_on_cancel=True)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_end, process)
        log_event(logging.ERROR, "etcd ended", exit_code=process.returncode, again_in_s=RESTART_PAUSE_S)
        await trio.sleep(RESTART_PAUSE_S)


async def _until_it_can_begin(initial_state: Callable[[], str]) -> str:
    told = ""
    while True:
        try:
            return await trio.to_thread.run_sync(initial_state, abandon_on_cancel=True)
        except CannotBegin as error:
            if str(error) != told:
                told = str(error)
                log_event(logging.ERROR, "etcd not started", reason=told)
        await trio.sleep(RESTART_PAUSE_S)


def _started(command: list[str]) -> subprocess.Popen[bytes]:
    """A member, begun by the thread of the event loop: the kernel ends it with the thread that has begun it."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _log_until_it_ends(process: subprocess.Popen[bytes]) -> None:
    """In a thread."""
    assert process.stderr is not None
    with process.stderr as said:
        while line := said.readline(LINE_BYTES_MAX):
            _log(line)
    process.wait()


def _end(process: subprocess.Popen[bytes]) -> None:
    """In a thread: ask it to end; kill it when it does not."""
    process.terminate()
    try:
        process.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _log(line: bytes) -> None:
    """A line of etcd's as an event; what is none of its JSON is told as it is."""
    try:
        found = json.loads(line)
        level, text = LEVELS.get(found["level"], logging.ERROR), str(found["msg"])
    except (ValueError, KeyError, TypeError):
        if line.strip():
            log_event(logging.WARNING, "etcd", text=line.decode("utf-8", "replace"))
        return
    details = " ".join(f"{name}={value}" for name, value in found.items() if name not in PASSED_OVER)
    log_event(level, "etcd", text=text, **({"details": details} if details else {}))
