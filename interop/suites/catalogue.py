"""Which suites there are: where each comes from, what it needs, how it finds the broker, and what is left out.

Every archive is pinned by version and hash, every package of a suite's environment by version. Not here: how they are
fetched (preparation.py) and run (running.py).
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
    """A source distribution on PyPI, fetched by pip, so that pip's own settings (mirrors, proxies) apply."""

    requirement: str
    sha256: str


@dataclass(frozen=True)
class Archive:
    """A tar file at the first of these addresses that has it."""

    urls: tuple[str, ...]
    sha256: str


@dataclass(frozen=True)
class Folder:
    """Tests that live in this repository."""

    path: Path


@dataclass(frozen=True)
class Setting:
    """A piece of the suite's own configuration that is rewritten in the unpacked copy. Never an assertion.

    `paths` is a pattern of files in the tree; `new` may hold {host} and {port}.
    """

    paths: str
    old: str
    new: str


@dataclass(frozen=True)
class LeftOut:
    """Tests that are not asked, as pytest arguments, and why."""

    arguments: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Suite:
    """One suite. In `environment`, {host}, {port} and {url} stand for the broker under test."""

    name: str
    version: str
    source: Sdist | Archive | Folder
    requirements: tuple[str, ...]
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    settings: tuple[Setting, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    meant: Mapping[str, str] = field(default_factory=dict)
    """Tests that may come out differently on the two brokers, each with its topic in interop/differences.py."""
    test_timeout_s: int = 120
    """A test that takes longer hangs: it fails and the next one runs."""


PIKA = Suite(
    name="pika",
    version="1.3.2",
    source=Archive(
        (
            f"{DEBIAN_POOL}/p/python-pika/python-pika_1.3.2.orig.tar.gz",
            f"{DEBIAN_SNAPSHOT}/c76f03ea0b09a8df03eb6a4e8a7f8e8db89c3415",
        ),
        "5eb71b9a0047c77d99378e525a2041fc50aae4a177b060f9825b3e2fdcc96fc4",
    ),
    requirements=(
        "gevent==26.9.0",
        "pynose==1.5.5",
        "pytest==8.4.2",
        "pytest-timeout==2.4.0",
        "tornado==6.6.1",
        "twisted==26.10.0",
    ),
    arguments=("tests/acceptance", "-o", "python_files=*_test.py *_tests.py"),
    settings=(
        # In acceptance/ and base/. The host stays what it is: one or the other name of this machine's loopback.
        Setting("tests/[ab]*/*.py", "port=5672", "port={port}"),
        Setting("tests/[ab]*/*.py", "'port': 5672", "'port': {port}"),
    ),
    left_out=(
        LeftOut(
            ("--deselect=tests/acceptance/io_services_tests.py::TestGetaddrinfoWWWGoogleDotComPort80",),
            "asks the internet's DNS for a web site, not the broker",
        ),
    ),
    meant={
        "tests.acceptance.blocking_adapter_test.TestInvalidExchangeTypeRaisesConnectionClosed::test": (
            "unknown-exchange-type"
        )
    },
)

PY_AMQP = Suite(
    name="py-amqp",
    version="5.4.2",
    source=Sdist("amqp==5.4.2", "9362660c4a31150cf18e78cae2ce8aa1e929fc6c6739e69f6dd5dbea9c3edc82"),
    requirements=("amqp==5.4.2", "pytest==8.4.2", "pytest-timeout==2.4.0", "vine==5.1.0"),
    arguments=("t/integration", "-W", "ignore::pytest.PytestUnknownMarkWarning"),
    environment={"RABBITMQ_HOST": "{host}", "RABBITMQ_5672_TCP": "{port}"},
    left_out=(LeftOut(("-k", "not tls"), "TLS needs a broker set up with the suite's certificates"),),
)

KOMBU = Suite(
    name="kombu",
    version="5.7.0",
    source=Sdist("kombu==5.7.0", "31e62fdfd2381caa3422f8e02b84a491d9a2180ddda74507b57f4cb1e1c2c2c9"),
    requirements=(
        "amqp==5.4.2",
        "hypothesis==6.170.15",
        "kombu==5.7.0",
        "pytest==8.4.2",
        "pytest-freezer==0.4.9",
        "pytest-timeout==2.4.0",
    ),
    arguments=("t/integration/test_py_amqp.py", "-W", "ignore::pytest.PytestUnknownMarkWarning"),
    environment={"RABBITMQ_HOST": "{host}", "RABBITMQ_5672_TCP": "{port}"},
)

AIORMQ = Suite(
    name="aiormq",
    version="6.8.1",
    source=Archive(
        (
            f"{DEBIAN_POOL}/p/python-aiormq/python-aiormq_6.8.1.orig.tar.gz",
            f"{DEBIAN_SNAPSHOT}/480d0f678b368eaff95656caf8a6750bd77f2564",
        ),
        "babf45d414f8754b037a23a3080a55582c1a38162139d25e95b8e83f8c191849",
    ),
    requirements=(
        "aiomisc==17.5.29",
        "aiomisc-pytest==1.1.2",
        "aiormq==6.8.1",
        "pamqp==3.3.0",
        "pytest==7.4.4",
        "pytest-timeout==2.4.0",
        "setuptools==69.5.1",
    ),
    arguments=("tests",),
    environment={"AMQP_URL": "{url}"},
    left_out=(
        LeftOut(
            (
                "-k",
                "not amqps",
                "--deselect=tests/test_connection.py::test_ssl_verification_fails_without_trusted_ca",
                "--deselect=tests/test_connection.py::test_ssl_context",
            ),
            "TLS needs a broker set up with the suite's certificates",
        ),
    ),
)

AIO_PIKA = Suite(
    name="aio-pika",
    version="9.5.6",
    source=Archive(
        (
            f"{DEBIAN_POOL}/p/python-aio-pika/python-aio-pika_9.5.6.orig.tar.gz",
            f"{DEBIAN_SNAPSHOT}/eaf2293f9ee49887d54e24bf6d16e1db75876bde",
        ),
        "441f66037fb6daa3e06d9de38bb8cbe95acb26580690a538514151c29c7c8ab5",
    ),
    requirements=(
        "aio-pika==9.5.6",
        "aiomisc==17.5.29",
        "aiomisc-pytest==1.1.2",
        "aiormq==6.8.1",
        "pamqp==3.3.0",
        "pytest==7.4.4",
        "pytest-timeout==2.4.0",
        "setuptools==69.5.1",
        "shortuuid==1.0.13",
    ),
    arguments=("tests",),
    environment={
        "BROKER_UNDER_TEST_HOST": "{host}",
        "BROKER_UNDER_TEST_PORT": "{port}",
        "PYTHONPATH": str(HERE / "stand_ins"),
    },
    left_out=(LeftOut(("--ignore=tests/test_amqps.py",), "TLS needs a broker set up with the suite's certificates"),),
)

CELERY = Suite(
    name="celery",
    version="5.7.0",
    source=Folder(HERE / "celery_app"),
    requirements=(
        "amqp==5.4.2",
        "celery==5.7.0",
        "kombu==5.7.0",
        "pytest==8.4.2",
        "pytest-timeout==2.4.0",
    ),
    arguments=("checks.py",),
    environment={"AMQP_URL": "{url}"},
)

SUITES: dict[str, Suite] = {suite.name: suite for suite in (PIKA, PY_AMQP, KOMBU, AIORMQ, AIO_PIKA, CELERY)}
"""All suites, the quick ones first; aiormq takes a minute or two, aio-pika and celery several."""
