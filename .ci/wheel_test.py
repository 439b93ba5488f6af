"""Build wheel and source archive, install the wheel into a clean environment, matte with it.

    python .ci/wheel_test.py       # or: make wheel-test

The wheel is built from the source archive, so that what is missing in either shows. The installed
command runs outside of the repository on the sample clip, and its alpha is compared with the known
one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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


def main() -> None:
    """Build, install, matte, compare."""
    with tempfile.TemporaryDirectory(prefix="vidmatte-wheel-") as name:
        folder = Path(name)
        run(sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT, folder=folder)
        (wheel,) = (folder / "dist").glob("*.whl")
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
