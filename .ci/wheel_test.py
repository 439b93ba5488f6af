"""Build wheel and source archive, check them, and use them in clean environments.

    python .ci/wheel_test.py       # or: make wheel-test

- `twine check --strict` reads the metadata as a package index does.
- The source archive has every file of the repository, and some of its own tests run in it.
- The wheel, which is built from the source archive, is installed into a clean environment with all
  that it needs. The command mattes the sample clip outside of the repository, and its alpha is
  compared with the known one.
- Each other Python of 3.10 to 3.13 on this machine compiles the wheel and shows its help. Their
  builds of PyTorch may be gigabytes, so that only the hosted CI installs those.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "vidmatte" / "sample"
FRAMES = 4
LARGEST_ERROR = 0.01
"""Mean absolute error of alpha of the worst frame; 0.0065 was measured when this was written."""

COMPARE = f"""
import sys
from itertools import islice
from pathlib import Path

import vidmatte
from vidmatte.metrics import mad

# The environment must run what was installed, not the repository.
assert Path(vidmatte.__file__).resolve().is_relative_to(Path(sys.prefix).resolve())
with vidmatte.open_video("alpha.mkv") as found, vidmatte.open_video(sys.argv[1]) as truth:
    pairs = zip(found.decode(), islice(truth.decode(), {FRAMES}), strict=True)
    errors = [mad(ours.rgb[0], exact.rgb[0]) for ours, exact in pairs]
worst = max(errors)
frames, version = len(errors), vidmatte.__version__
print(f"wheel of vidmatte {{version}}: {{frames}} frames, mean error at most {{worst:.4f}}")
sys.exit(worst > {LARGEST_ERROR})
"""


def run(*command: str | Path, folder: Path) -> None:
    """Run a command; its failure ends this program."""
    # Without PYTHONPATH, which could lead to the repository.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([str(part) for part in command], cwd=folder, env=environment, check=True)


def check_archive(archive: Path, folder: Path) -> None:
    """Compare the files of a source archive with those of the repository, and run tests in it."""
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
        tar.extractall(folder / "source", filter="data")
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        missing = sorted(set(listed.stdout.splitlines()) - names)
        assert not missing, f"missing in the source archive, see MANIFEST.in: {missing}"
    (source,) = (folder / "source").iterdir()
    tests = [f"tests/test_{name}.py" for name in ("distribution", "samples", "patterns", "metrics")]
    run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, folder=source)


def starts(python: str) -> bool:
    """Return whether a Python can be run: version managers leave launchers of others behind."""
    return subprocess.run([python, "--version"], capture_output=True).returncode == 0


def check_other_pythons(wheel: Path, folder: Path) -> None:
    """Compile the wheel and show its help with every other Python that it is for."""
    for minor in range(10, 14):
        python = shutil.which(f"python3.{minor}")
        if python is None or sys.version_info[:2] == (3, minor) or not starts(python):
            continue
        place = folder / f"python3.{minor}"
        run(python, "-m", "venv", place, folder=folder)
        programs = place / ("Scripts" if os.name == "nt" else "bin")
        install = (programs / "python", "-m", "pip", "install", "--quiet", "--no-input")
        run(*install, "--no-deps", wheel, folder=folder)
        run(*install, "click", folder=folder)
        packages = next(place.rglob("site-packages")) / "vidmatte"
        run(programs / "python", "-m", "compileall", "-q", packages, folder=folder)
        run(programs / "vidmatte", "--help", folder=folder)


def main() -> None:
    """Build, check, install, matte, compare."""
    with tempfile.TemporaryDirectory(prefix="vidmatte-wheel-") as name:
        folder = Path(name)
        run(sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT, folder=folder)
        files = sorted((folder / "dist").iterdir())
        run(sys.executable, "-m", "twine", "check", "--strict", *files, folder=folder)
        (archive,) = (folder / "dist").glob("*.tar.gz")
        check_archive(archive, folder)
        (wheel,) = (folder / "dist").glob("*.whl")
        check_other_pythons(wheel, folder)
        venv.create(folder / "venv", with_pip=True)
        programs = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        install = (programs / "python", "-m", "pip", "install", "--quiet", "--no-input")
        run(*install, "--constraint", ROOT / "constraints.txt", wheel, folder=folder)
        vidmatte = shutil.which("vidmatte", path=str(programs))
        assert vidmatte is not None, "the wheel installs no command"
        options = f"--end {FRAMES - 1} --adapt-steps 0 --alpha alpha.mkv -o matte.mov --quiet"
        mask = SAMPLES / "portrait_mask.png"
        run(vidmatte, SAMPLES / "portrait.mp4", "--mask", mask, *options.split(), folder=folder)
        run(programs / "python", "-c", COMPARE, SAMPLES / "portrait_alpha.mkv", folder=folder)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(map(str, error.cmd))[:200]}: exit code {error.returncode}")
