"""Ctrl-C at any moment: exit code 130, no traceback."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of another kind")
ROOT = Path(__file__).parents[1]


def started(*arguments, deaf=()):
    """Start the command with a terminal's signal handling, but ignore those in `deaf`."""

    def prepare():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN if number in deaf else signal.SIG_DFL)

    return subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "vidmatte", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
        cwd=ROOT,
    )


def wait_for_import(process, name):
    """Until a module was loaded; what was loaded before it is returned."""
    for line in process.stderr:
        if line.rstrip().endswith(f"| {name}") or line.rstrip().endswith(f" {name}"):
            return
    pytest.fail(f"{name} is not imported")


def own_lines(text):
    return [line for line in text.splitlines() if not line.startswith("import time:")]


@pytest.mark.parametrize("name", ["vidmatte", "click.core", "numpy", "torch._C", "vidmatte.model"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_the_program_loads(name, number):
    process = started("models", "--json")
    wait_for_import(process, name)
    if name == "vidmatte":
        time.sleep(0.02)  # the handlers are set in the next lines
    process.send_signal(number)
    out, text = process.communicate(timeout=60)
    assert process.returncode == 130
    assert own_lines(text) == []
    assert out == ""


def test_a_job_that_was_made_deaf_goes_on():
    process = started("models", "--json", deaf=(signal.SIGINT, signal.SIGHUP))
    wait_for_import(process, "numpy")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.startswith("[{")


def test_in_a_command_that_says_nothing_of_it(monkeypatch):
    from click.testing import CliRunner

    from vidmatte.cli import cli

    def interrupted(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr("vidmatte.cli.diagnose.diagnose", interrupted)
    result = CliRunner().invoke(cli, ["doctor"])
    assert (result.exit_code, result.output) == (130, "")
