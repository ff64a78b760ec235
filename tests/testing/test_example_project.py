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


def run(*command: str | Path, folder: Path) -> str:
    """Run a program to its end, away from the repository; returns what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


@pytest.mark.skipif("AMQP_BROKER_TEST_EXAMPLES" not in os.environ, reason="make test-examples runs it")
def test_the_project_passes_its_tests_with_the_wheel(tmp_path: Path) -> None:
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, REPOSITORY, folder=tmp_path)
    (wheel,) = tmp_path.glob("amqp_broker_server-*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "venv", folder=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    project = shutil.copytree(PROJECT, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    run(python, "-m", "pip", "install", "--quiet", wheel, "-r", project / "requirements.txt", folder=project)

    where = run(python, "-c", "import amqp_broker; print(amqp_broker.__file__)", folder=project)
    assert where.startswith(str(tmp_path)), "it must be the installed package that is tested"
    report = run(python, "-m", "pytest", "-v", folder=project)
    assert report.count("PASSED") >= 17
    for failure in ("FAILED", "SKIPPED", "ERROR", "XFAIL"):
        assert failure not in report


@pytest.mark.skipif("AMQP_BROKER_TEST_EXAMPLES" not in os.environ, reason="make test-examples runs it")
def test_plugins_of_ones_own_work_from_a_wheel(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    project = shutil.copytree(PLUGINS, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, REPOSITORY, project, folder=tmp_path)
    run(sys.executable, "-m", "venv", tmp_path / "venv", folder=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", *wheels.glob("*.whl"), "pytest", "pika", folder=tmp_path)
    shutil.rmtree(project / "example_plugins")  # it must be the installed one

    report = run(python, "-m", "pytest", "-v", folder=project)
    assert report.count("PASSED") == 3
    listed = run(tmp_path / "venv" / "bin" / "amqp-broker", "plugins", "list", "--check", folder=project)
    lines = [line for line in listed.splitlines() if "example-plugins 1.0" in line]
    assert len(lines) == 5
    assert all(line.endswith("loads") for line in lines)
