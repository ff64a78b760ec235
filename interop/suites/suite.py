"""What a suite is: where it comes from, what it needs, how it finds the broker, and what is left out.

Not here: which suites there are (catalogue.py, amqp10_catalogue.py, mqtt_catalogue.py, stomp_catalogue.py,
stream_catalogue.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEBIAN_POOL = "https://deb.debian.org/debian/pool/main"
DEBIAN_SNAPSHOT = "https://snapshot.debian.org/file"
"""Debian's archive of every file it ever had, by SHA-1: for when a version has left the pool."""


@dataclass(frozen=True)
class Sdist:
    """A source distribution on PyPI, or in the package index that PIP_INDEX_URL names."""

    project: str
    file_name: str
    sha256: str


@dataclass(frozen=True)
class Archive:
    """A tar file at the first of these addresses that has it."""

    urls: tuple[str, ...]
    sha256: str


@dataclass(frozen=True)
class Commit:
    """A commit of a public git repository, which is its own hash."""

    url: str
    commit: str


@dataclass(frozen=True)
class Folder:
    """Tests that live in this repository."""

    path: Path


@dataclass(frozen=True)
class Setting:
    """A piece of the suite's own configuration that is rewritten in the unpacked copy, or how a test waits. Never an
    assertion.

    `paths` is a pattern of files in the tree; `new` may hold what an environment may (`Suite`).
    """

    paths: str
    old: str
    new: str


@dataclass(frozen=True)
class LeftOut:
    """Tests that are not asked, as arguments of what runs the suite, and why."""

    arguments: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Suite:
    """One suite. In `environment`, {kind}, {host}, {port}, {url} and more (`BrokerAsked`) say where the broker is."""

    name: str
    version: str
    source: Sdist | Archive | Commit | Folder
    requirements: tuple[str, ...]
    """Packages: of pip, and of npm where it `runs_with` node."""
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    settings: tuple[Setting, ...] = ()
    replaced: Mapping[str, Path] = field(default_factory=dict)
    """Files of the tree that would start a broker themselves, and what takes their place."""
    left_out: tuple[LeftOut, ...] = ()
    meant: Mapping[str, str] = field(default_factory=dict)
    """Tests that may come out differently on the two brokers, each with its topic in interop/differences.py; or what
    the RabbitMQ that is asked lacks, which is no difference of ours: "behave_like ..." or "RabbitMQ lacks ..."."""
    unsteady: frozenset[str] = frozenset()
    """Tests that come out now so, now so on RabbitMQ itself: run and shown, but neither a failure nor a difference."""
    test_timeout_s: int = 120
    """A test that takes longer hangs: it fails and the next one runs."""
    runs_with: str = "pytest"
    """pytest, or node: a program that writes what came of each test, as pytest does, to the file JUNIT_REPORT."""
    protocol: str = "amqp"
    """What the suite's clients speak: amqp, amqp10, mqtt, stomp or stream. The port is that protocol's."""
    explained: Mapping[str, str] = field(default_factory=dict)
    """Of a suite that is counted and not compared: the tests that our broker fails, each with why."""

    @property
    def counted(self) -> bool:
        """Each broker's score is shown by itself: there may be more than two, and RabbitMQ has no MQTT 5."""
        return self.protocol not in ("amqp", "amqp10")
