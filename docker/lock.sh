#!/bin/sh
# Write docker/requirements.lock: the packages of the image and their hashes, without PyTorch and what comes with it.
# Needs uv (pip install uv).
set -eu
cd "$(dirname "$0")/.."
uv pip compile pyproject.toml --extra exr --extra heif --constraint constraints.txt \
  --python-version 3.12 --python-platform x86_64-manylinux_2_28 --generate-hashes --no-annotate \
  --no-emit-index-url --no-emit-find-links --quiet --custom-compile-command "docker/lock.sh" \
  --no-emit-package torch --no-emit-package triton --output-file docker/requirements.lock
# The CUDA libraries belong to PyTorch, which is installed before this file.
python3 - <<'PYTHON'
import re
from pathlib import Path

path = Path("docker/requirements.lock")
blocks = re.split(r"^(?=[a-z0-9])", path.read_text(), flags=re.MULTILINE)
path.write_text("".join(block for block in blocks if not block.startswith(("nvidia-", "cuda-"))))
PYTHON
