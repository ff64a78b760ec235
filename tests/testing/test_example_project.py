"""The examples that are projects, run as a user would run them: installed wheels, fresh environments, own folders.

They install a dozen packages, so they run only where AMQP_BROKER_TEST_EXAMPLES is set: ``make test-examples``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = REPOSITORY / "examples" / "testing"
PLUGINS = REPOSITORY / "examples" / "plugins"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
BUILD = (*PIP, "wheel", "--quiet", "--no-deps", "--no-build-isolation")  # with the hatchling that is here

pytestmark = pytest.mark.skipif("AMQP_BROKER_TEST_EXAMPLES" not in os.environ, reason="make test-examples runs it")


def run(*command: str | Path, folder: Path) -> str:
    """Run a program to its end, away from the repository; returns what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The broker's wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    run(*BUILD, "--wheel-dir", folder, REPOSITORY, folder=folder)
    (wheel,) = folder.glob("amqp_broker_server-*.whl")
    return wheel


def installed(folder: Path, *wanted: str | Path) -> Path:
    """The Python of a fresh environment in which this is installed, as `pip install` takes it."""
    environment = folder / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", environment, folder=folder)  # ours installs into it as well
    run(*PIP, "--python", environment, "install", "--quiet", *wanted, folder=folder)
    return environment / "bin" / "python"


def test_the_project_passes_its_tests_with_the_wheel(tmp_path: Path, wheel: Path) -> None:
    project = shutil.copytree(PROJECT, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    python = installed(tmp_path, wheel, "-r", project / "requirements.txt")

    where = run(python, "-c", "import amqp_broker; print(amqp_broker.__file__)", folder=project)
    assert where.startswith(str(tmp_path)), "it must be the installed package that is tested"
    report = run(python, "-m", "pytest", "-v", folder=project)
    assert report.count("PASSED") >= 17
    for failure in ("FAILED", "SKIPPED", "ERROR", "XFAIL"):
        assert failure not in report


def test_plugins_of_ones_own_work_from_a_wheel(tmp_path: Path, wheel: Path) -> None:
    project = shutil.copytree(PLUGINS, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    run(*BUILD, "--wheel-dir", tmp_path, project, folder=tmp_path)
    python = installed(tmp_path, wheel, *tmp_path.glob("*.whl"), "pytest", "pika")
    shutil.rmtree(project / "example_plugins")  # it must be the installed one

    report = run(python, "-m", "pytest", "-v", folder=project)
    assert report.count("PASSED") == 3
    listed = run(python.with_name("amqp-broker"), "plugins", "list", "--check", folder=project)
    lines = [line for line in listed.splitlines() if "example-plugins 1.0" in line]
    assert len(lines) == 5
    assert all(line.endswith("loads") for line in lines)
