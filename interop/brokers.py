"""Starts and ends the brokers that are asked, RabbitMQ and ours: own ports, own folders, loopback only.

Everything that is started here ends with the process that started it, also when that one is killed.
Not here: what is asked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from interop.rabbitmqctl import KeptRabbitmqctl, erl_arguments, unpack

REPOSITORY = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 300.0  # on a machine that has ten times too much to do
STOP_TIMEOUT_S = 10.0
CLEAN_STOP_TIMEOUT_S = 120.0  # where what is kept counts: SIGKILL would lose some of it
COMMAND_TIMEOUT_S = 300.0  # of rabbitmqctl and of ours; on a machine that has ten times too much to do 60 were too few
STARTED = b" completed with "  # so many plugins: RabbitMQ's last word on its output when it starts
PORTS = range(20_000, 32_000)
AS_DOOR = "INTEROP_AS_DOOR"  # a variable that is set where each broker of ours is to be a cluster, asked at a door
OF_SECOND_PROCESS = "INTEROP_OF_SECOND_PROCESS"  # likewise where `/` is to be its second process's, not the root's
DEFAULT_SERIES = "3.13"  # what ours behaves like when it is not told

RABBITMQ_CONFIG = """\
listeners.tcp.1 = 127.0.0.1:{port}
loopback_users = none
# Tests hold deliveries unacknowledged; none of them wants to be timed out.
consumer_timeout = 3600000
log.file.level = info
"""


@dataclass(frozen=True)
class Address:
    """Where a broker listens, and who may log in."""

    host: str
    port: int
    user: str = "guest"
    password: str = "guest"
    vhost: str = "/"

    @property
    def url(self) -> str:
        vhost = "%2F" if self.vhost == "/" else self.vhost
        return f"amqp://{self.user}:{self.password}@{self.host}:{self.port}/{vhost}"

    @classmethod
    def parse(cls, url: str) -> Address:
        parts = urlsplit(url)
        return cls(
            parts.hostname or "localhost",
            parts.port or 5672,
            unquote(parts.username or "guest"),
            unquote(parts.password or "guest"),
            unquote(parts.path[1:]) or "/",
        )


OURS = "ours"
RABBITMQ = "rabbitmq"


@dataclass(frozen=True)
class Choice:
    """Whose broker is asked, and which RabbitMQ it is or behaves like."""

    kind: str
    series: str  # the first two numbers of RabbitMQ's version

    def __str__(self) -> str:
        return self.kind + self.series

    def start(
        self,
        *,
        config: str = "",
        advanced: str = "[].",
        plugins: Sequence[str] = (),
        files: Mapping[str, Path] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> RabbitMQ | OurBroker:
        """A broker of this choice: all but the environment, which is ours, is RabbitMQ's (class RabbitMQ)."""
        if self.kind == OURS:
            if os.environ.get(AS_DOOR):
                from interop.our_door import OurDoor

                return OurDoor(self.series, environment=environment)
            from tests.support.command_line import OurBroker as WithCommandsHere

            broker = WithCommandsHere(self.series, environment=environment)
            if os.environ.get(OF_SECOND_PROCESS):
                broker.give_default_virtual_host_away()
            return broker
        return RabbitMQ(
            INSTALLATIONS[self.series](), config=config, advanced=advanced, plugins=plugins, files=files, keeps_ctl=True
        )


class BrokerProcess(Protocol):
    """A broker that is asked, started here or found running."""

    @property
    def kind(self) -> str:
        """Whose it is: ours or rabbitmq."""

    choice: Choice
    address: Address

    def stop(self) -> None:
        """Ends what was started here."""

    def restart(self) -> None:
        """A clean stop and a start on the same data; raises NotImplementedError for a broker that was found running."""

    def kill_and_restart(self) -> None:
        """kill -9 and a start on the same data."""


class RunningBroker:
    """A broker somebody else started."""

    def __init__(self, kind: str, url: str, series: str = DEFAULT_SERIES) -> None:
        self.kind = kind
        self.choice = Choice(kind, series)
        self.address = Address.parse(url)

    def stop(self) -> None:
        pass

    def restart(self) -> None:
        raise NotImplementedError("this broker was not started by the tests")

    kill_and_restart = restart


def our_environment() -> dict[str, str]:
    """The environment in which `python -m amqp_broker` is, from any folder, the one that is under test."""
    path = [os.environ.get("PYTHONPATH", ""), str(REPOSITORY)]  # a build that is to be preferred is named first
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}


class OurBroker:
    """`python -m amqp_broker serve` in a folder of its own."""

    kind = OURS
    module = "amqp_broker"  # what python -m runs

    def __init__(
        self,
        series: str = DEFAULT_SERIES,
        *,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        subfolder: str = "data",
    ) -> None:
        self.choice = Choice(self.kind, series)
        self._folder = Path(tempfile.mkdtemp(prefix="interop-ours-"))
        self.data_folder = self._folder / subfolder
        self._options = list(options)
        self._environment = {"AMQP_BROKER_BEHAVE_LIKE": series, **(environment or {})}
        self._port = 0
        self._start()

    def _start(self) -> None:
        command = [sys.executable, "-m", self.module, "serve"]
        command += ["--port", str(self._port), "--data-dir", str(self.data_folder), *self._options]
        self._log_path = self._folder / "log"
        with self._log_path.open("ab") as log:
            self._log_start_bytes = log.tell()
            environment = {**our_environment(), "PYTHONUNBUFFERED": "1", **self._environment}
            self._process = start_process(command, environment, log)
        self.address = Address("127.0.0.1", self._await_port())
        self._port = self.address.port
        await_amqp(self.address, self._process, self._log_path)

    def _await_port(self) -> int:
        """The port from the line that says where it listens, for instance `listening on amqp://127.0.0.1:40123`."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            said = self._log_path.read_bytes()[self._log_start_bytes :].decode(errors="replace")
            if found := re.search(r"amqp://\S*?:(\d+)\b", said):
                return int(found.group(1))
            time.sleep(0.01)
        code = self._process.poll()
        end_process(self._process)
        log = self._log_path.read_text(errors="replace")[-4000:]
        raise RuntimeError(f"our broker did not say where it listens (exit code {code}):\n{log}")

    @property
    def pid(self) -> int:
        """The broker's process."""
        return self._process.pid

    def log_text(self) -> str:
        """All that the broker has printed and logged."""
        return self._log_path.read_text(errors="replace")

    def ctl(self, *arguments: str, standard_input: str = "") -> str:
        """`amqp-broker` against this broker, for instance `users list`. Returns what it printed."""
        command = [sys.executable, "-m", "amqp_broker", *arguments, "--data-dir", str(self.data_folder)]
        done = subprocess.run(
            command,
            env=our_environment(),
            input=standard_input,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"amqp-broker {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def restart(self) -> None:
        end_process(self._process, patience_s=CLEAN_STOP_TIMEOUT_S)
        self._start()

    def kill_and_restart(self) -> None:
        end_process(self._process, signal.SIGKILL)
        self._start()

    def stop(self) -> None:
        end_process(self._process)
        shutil.rmtree(self._folder, ignore_errors=True)


class Mosquitto:
    """`mosquitto`, a broker of MQTT alone, without a data folder. Its address is that of MQTT."""

    kind = "mosquitto"

    def __init__(self, port: int, *, acl: str = "", user: tuple[str, str] | None = None) -> None:
        """`acl` is its file of who may do what; empty: all may do all. `user` has a name and a password."""
        self._folder = Path(tempfile.mkdtemp(prefix="interop-mosquitto-"))
        lines = ["user root", f"listener {port} 127.0.0.1", "allow_anonymous true", "max_keepalive 60"]
        if acl:
            (self._folder / "acl").write_text(acl)
            lines.append(f"acl_file {self._folder / 'acl'}")
        if user:
            subprocess.run(["mosquitto_passwd", "-b", "-c", str(self._folder / "users"), *user], check=True)
            lines.append(f"password_file {self._folder / 'users'}")
        (self._folder / "conf").write_text("\n".join(lines))
        self.address = Address("127.0.0.1", port)
        self._process = start_process([_mosquitto(), "-c", str(self._folder / "conf")], os.environ)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
                return
            time.sleep(0.02)
        raise RuntimeError(f"mosquitto does not listen on port {port}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        end_process(self._process)
        shutil.rmtree(self._folder, ignore_errors=True)


def find_mosquitto() -> str | None:
    """The program `mosquitto` of this machine, or None. Debian has it where only root's PATH looks."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def _mosquitto() -> str:
    found = find_mosquitto()
    if found is None:
        raise RuntimeError("mosquitto is not installed")
    return found


# In a mount namespace, so that nothing stays mounted: what Erlang asks of memory and disks it asks of /proc, and this
# machine's own name, which RabbitMQ looks up for each connection, stands in its own /etc/hosts: a name server may take
# seconds to know nothing of it.
_ENTER = """\
mount --bind "$0" "$0" && mount -t proc proc "$0/proc" && mount --bind /etc/hosts "$0/etc/hosts" &&
exec chroot "$0" "$@"
"""
_ENTERING = ("unshare", "--mount", "sh", "-c", _ENTER)


@dataclass(frozen=True)
class Installation:
    """A RabbitMQ on this machine: where its programs are, seen from the root folder in which they run."""

    series: str  # the version's first two numbers
    programs: Path
    root: Path | None = None  # None: this machine's own root folder

    def command(self, program: str, *arguments: str) -> list[str]:
        """How one of RabbitMQ's or Erlang's programs is run."""
        path = self.programs / program
        if self.root is None:
            return [str(path) if path.exists() else _on_path(program), *arguments]
        inside = str(path) if (self.root / str(path).lstrip("/")).exists() else f"/usr/bin/{program}"
        return [*_ENTERING, str(self.root), inside, *arguments]

    def home(self) -> Path:
        """The folder that RabbitMQ was installed into, as this machine sees it."""
        programs = self.programs if self.root is None else self.root / str(self.programs).lstrip("/")
        program = programs / "rabbitmqctl"
        linked = programs / program.readlink() if program.is_symlink() else program
        return Path(os.path.normpath(linked)).parent.parent

    def new_folder(self) -> Path:
        """A folder that RabbitMQ can reach."""
        parent = None if self.root is None else self.root / "tmp"
        return Path(tempfile.mkdtemp(prefix="interop-rabbitmq-", dir=parent))

    def seen_inside(self, path: Path) -> Path:
        """The path by which RabbitMQ knows this file."""
        return path if self.root is None else Path("/") / path.relative_to(self.root)


class RabbitMQ:
    """A RabbitMQ of this machine, with an epmd of its own, so that nothing of it is shared or left behind."""

    kind = RABBITMQ

    def __init__(
        self,
        installation: Installation | None = None,
        *,
        config: str = "",
        advanced: str = "[].",
        plugins: Sequence[str] = (),
        files: Mapping[str, Path] | None = None,
        environment: Mapping[str, str] | None = None,
        keeps_ctl: bool = False,
    ) -> None:
        """`config` is added to rabbitmq.conf, `advanced` is advanced.config; plugins are named as for
        rabbitmq-plugins; files are copied under these names to the folder that `config` calls FOLDER. Without an
        installation it is the one of this machine's package. `environment` takes the place of what is set here.
        With `keeps_ctl` all commands of `ctl` are run by one process, which stays beside the node."""
        found = installation or find_rabbitmq()
        if found is None:
            raise RuntimeError("RabbitMQ is not installed: no rabbitmq-server in /usr/lib/rabbitmq/bin or on the PATH")
        self.choice = Choice(self.kind, found.series)
        self._installation = found
        self.folder = found.new_folder()
        port, distribution_port, epmd_port = free_ports(3)
        self.address = Address("127.0.0.1", port)
        self.node = f"interop-{os.getpid()}-{port}@localhost"
        inside = found.seen_inside(self.folder)
        for name, source in (files or {}).items():
            shutil.copyfile(source, self.folder / name)
        (self.folder / "rabbitmq.conf").write_text(
            RABBITMQ_CONFIG.format(port=port) + config.replace("FOLDER", str(inside))
        )
        (self.folder / "advanced.config").write_text(advanced)
        (self.folder / "enabled_plugins").write_text(f"[{','.join(plugins)}].")
        self._environment = {
            **os.environ,
            "HOME": str(inside),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(epmd_port),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_MNESIA_BASE": str(inside / "data"),
            "RABBITMQ_LOG_BASE": str(inside / "log"),
            "RABBITMQ_CONFIG_FILE": str(inside / "rabbitmq"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(inside / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(inside / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(inside / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(inside / "config"),
            # Without it the start script stays in between, and a signal would reach only the script.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-noinput -kernel inet_dist_use_interface {127,0,0,1}",
            **(environment or {}),
        }
        self._keeps_ctl = keeps_ctl
        self._kept_ctl: KeptRabbitmqctl | None = None
        self._epmd = start_process(
            found.command("epmd", "-port", self._environment["ERL_EPMD_PORT"], "-address", "127.0.0.1"),
            self._environment,
        )
        self._start()

    def _start(self) -> None:
        log_path = self.folder / "output"
        with log_path.open("ab") as log:
            begins_at = log.tell()
            self._process = start_process(self._installation.command("rabbitmq-server"), self._environment, log)
        try:
            await_amqp(self.address, self._process, log_path)
            self._await_commands(log_path, begins_at)
        except BaseException:
            self.stop()
            raise

    def _await_commands(self, log_path: Path, begins_at: int) -> None:
        """Returns when rabbitmqctl is served: clients are a moment earlier."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while STARTED not in (said := log_path.read_bytes()[begins_at:]):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"RabbitMQ has not started: {said.decode(errors='replace')[-4000:]}")
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        """The first of the node's processes; the others are below it."""
        return self._process.pid

    def ctl(self, *arguments: str) -> str:
        """rabbitmqctl against this node; takes a second or more, but where it is kept. Returns what it printed."""
        if self._keeps_ctl:
            self._kept_ctl = self._kept_ctl or self._keep_ctl()
            return self._kept_ctl.run(["-q", "-n", self.node, *arguments], COMMAND_TIMEOUT_S)
        return self._run("rabbitmqctl", *arguments)

    def upgrade(self, *arguments: str) -> str:
        """rabbitmq-upgrade against this node: ``drain`` and ``revive``. Returns what it printed."""
        return self._run("rabbitmq-upgrade", *arguments)

    def _run(self, program: str, *arguments: str) -> str:
        command = self._installation.command(program, "-q", "-n", self.node, *arguments)
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def _keep_ctl(self) -> KeptRabbitmqctl:
        home, seen = self._installation.home(), self._installation.seen_inside
        folder = self.folder / "rabbitmqctl-modules"
        code = [seen(path) for path in unpack(home / "escript" / "rabbitmqctl", folder)]
        own = {"RABBITMQ_HOME": str(seen(home)), "ERL_LIBS": str(seen(home / "plugins"))}
        command = self._installation.command("erl", *erl_arguments(seen(folder), code))
        return KeptRabbitmqctl(command, {**self._environment, **own})

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to all of the node's processes."""
        os.killpg(self._process.pid, number)

    def ctl_program(self) -> Path:
        """A program of this machine that is rabbitmqctl in this node's environment."""
        own = {name: value for name, value in self._environment.items() if os.environ.get(name) != value}
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in own.items())
        program = self.folder / "rabbitmqctl"
        program.write_text(f'#!/bin/sh\n{exports}exec {shlex.join(self._installation.command("rabbitmqctl"))} "$@"\n')
        program.chmod(0o755)
        return program

    def copied(self, source: Path) -> Path:
        """A copy of a file that the node can read; the path by which it knows it."""
        return self._installation.seen_inside(Path(shutil.copy(source, self.folder)))

    def log_text(self) -> str:
        """All that the node has logged."""
        return "".join(path.read_text(errors="replace") for path in sorted((self.folder / "log").glob("*.log")))

    def restart(self) -> None:
        end_process(self._process, patience_s=CLEAN_STOP_TIMEOUT_S)
        self._start()

    def kill_and_restart(self) -> None:
        end_process(self._process, signal.SIGKILL)
        self._start()

    def stop(self) -> None:
        end_process(self._process, signal.SIGKILL)  # its data is thrown away, and a clean stop takes seconds
        if self._kept_ctl is not None:
            self._kept_ctl.end()
        end_process(self._epmd, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


def find_rabbitmq() -> Installation | None:
    """The RabbitMQ of this machine's package, or None.

    /usr/lib comes first: what Debian has on the PATH is a wrapper that changes the user.
    """
    debian = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    if debian.exists():
        return Installation("3.10", debian.parent)
    found = shutil.which("rabbitmq-server")
    return Installation("3.10", Path(found).resolve().parent) if found else None


def find_rabbitmq_4() -> Installation | None:
    """RabbitMQ 4.0 in the root folder that interop/rabbitmq4.sh makes, or None.

    Only root can enter that folder.
    """
    named = os.environ.get("AMQP_BROKER_RABBITMQ_4")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = Path(named) if named else cache / "amqp-broker" / "rabbitmq-4"
    if os.geteuid() != 0 or not (root / ".complete").exists():
        return None
    return Installation("4.0", Path("/usr/lib/rabbitmq/bin"), root)


INSTALLATIONS = {"3.10": find_rabbitmq, "4.0": find_rabbitmq_4}


# Whoever has a port has a lock on that byte of the file, which ends with the process: RabbitMQ takes seconds until it
# binds one, and meanwhile another worker, or somebody else's tests, would find it free.
_PORTS_GIVEN = Path(tempfile.gettempdir()) / f"amqp-broker-ports-{os.getuid()}"
_given_ports: set[int] = set()  # by this process, whose own locks do not keep it out


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that were free a moment ago, that the system gives to no client, and that no tests get again
    while this process runs."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(PORTS)
        if port not in _given_ports and _is_free(port):
            found.append(port)
            _given_ports.add(port)
    return found


def _is_free(port: int) -> bool:
    """Whether nobody listens there; then it is locked."""
    try:
        fcntl.lockf(_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except (BlockingIOError, PermissionError):
        return False
    with contextlib.suppress(OSError), socket.socket() as one:
        one.bind(("127.0.0.1", port))
        return True
    return False


@cache
def _locks() -> int:
    """The file's descriptor, open as long as the process runs: closing it gives all locks back."""
    return os.open(_PORTS_GIVEN, os.O_RDWR | os.O_CREAT, 0o600)


def end_process(
    process: subprocess.Popen[bytes],
    first_signal: signal.Signals = signal.SIGTERM,
    patience_s: float = STOP_TIMEOUT_S,
) -> None:
    """Ends a process and its group: this signal first, SIGKILL when it does not obey within that patience."""
    for number in (first_signal, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
            return


def start_process(
    command: list[str], environment: Mapping[str, str], output: object = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """A process in a group of its own; with setpriv (Linux) the kernel kills it when we die without a goodbye."""
    if threading.current_thread() is threading.main_thread() and (setpriv := shutil.which("setpriv")):
        command = [setpriv, "--pdeathsig", "KILL", *command]
    process: subprocess.Popen[bytes] = subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,  # type: ignore[call-overload]
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    return process


def _on_path(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise RuntimeError(f"{program} is not on the PATH")
    return found


def await_amqp(address: Address, process: subprocess.Popen[bytes], log_path: Path) -> None:
    """Returns when the broker answers a protocol header with connection.start."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((address.host, address.port), timeout=2) as probe:
            probe.sendall(b"AMQP\x00\x00\x09\x01")
            if probe.recv(1) == b"\x01":
                return
        time.sleep(0.02)
    code = process.poll()
    end_process(process, signal.SIGKILL)
    raise RuntimeError(
        f"no AMQP on port {address.port} (exit code {code}):\n{log_path.read_text(errors='replace')[-4000:]}"
    )
