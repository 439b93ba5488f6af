"""What is built and shipped: metadata, source archive, container, recipe, cache folder."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from vidmatte.model.hub import own_folder

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NEEDED = {
    canonicalize_name(needed.name): needed for needed in map(Requirement, PROJECT["dependencies"])
}
CONDA_NAMES = {"pytorch": "torch", "py-opencv": "opencv-python-headless"}


def test_every_dependency_has_both_bounds():
    for extra in ("", *PROJECT["optional-dependencies"]):
        listed = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
        for needed in map(Requirement, listed):
            if needed.name != "vidmatte" and needed.name != "fsspec":
                operators = {each.operator for each in needed.specifier}
                assert operators in ({">=", "<"}, {"=="}), needed


def test_torch_is_open_in_the_metadata_and_pinned_by_the_constraints():
    assert {str(each) for each in NEEDED["torch"].specifier} == {">=2.6", "<3"}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    (pinned,) = [Requirement(line) for line in lines if line and not line.startswith("#")]
    (version,) = [each.version for each in pinned.specifier]
    assert NEEDED["torch"].specifier.contains(version)
    for file in ("Makefile", "docker/Dockerfile", ".ci/wheel_test.py"):
        assert "constraints.txt" in (ROOT / file).read_text(), file


def test_the_lock_of_the_container_has_what_the_metadata_allow():
    text = (ROOT / "docker" / "requirements.lock").read_text()
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))
    for name, needed in NEEDED.items():
        if needed.marker is None and name != "torch":
            assert needed.specifier.contains(locked[name]), name
    assert not {"torch", "triton"} & set(locked)
    # Every package has hashes, and no index is named.
    assert len(re.findall(r"^\S+==\S+ \\\n    --hash=sha256:", text, re.MULTILINE)) == len(locked)
    assert "://" not in text


def test_the_container_copies_files_that_exist_and_that_docker_sees():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in (ROOT / "docker" / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for name in line.split()[1:-1]:
                assert (ROOT / name).exists(), name
                assert f"!{name.partition('/')[0]}" in ignored, name


def test_the_conda_recipe_needs_what_the_metadata_need():
    text = (ROOT / "conda" / "meta.yaml").read_text()
    run = text.partition("  run:\n")[2].partition("\ntest:")[0]
    listed = dict(re.findall(r"^    - (\S+) (\S+)$", run, re.MULTILINE))
    assert listed.pop("python") == PROJECT["requires-python"]
    names = {canonicalize_name(CONDA_NAMES.get(name, name)): spec for name, spec in listed.items()}
    assert set(names) == set(NEEDED)
    for name, spec in names.items():
        assert set(spec.split(",")) == {str(each) for each in NEEDED[name].specifier}, name


def test_pictures_of_the_readme_are_shown_by_a_package_index():
    """An index has no files of the repository beside the text."""
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert pictures
    for address in pictures:
        file = address.partition("/raw/main/")[2]
        assert address.startswith(PROJECT["urls"]["Source"])
        assert (ROOT / file).is_file()


def test_classifiers_name_the_versions_of_python_that_are_supported():
    found = [word for word in PROJECT["classifiers"] if word.startswith("Programming Language")]
    versions = {word.rpartition(" ")[2] for word in found}
    assert {"3.10", "3.11", "3.12", "3.13"} <= versions
    assert {"Homepage", "Documentation", "Source", "Changelog", "Issues"} == set(PROJECT["urls"])


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"VIDMATTE_CACHE": "/disk/weights"}, "/disk/weights"),
        ({"XDG_CACHE_HOME": "/disk/cache"}, "/disk/cache/vidmatte"),
        ({"HOME": "/home/artist"}, "/home/artist/.cache/vidmatte"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="folders of Linux")
def test_the_cache_is_where_it_is_said_to_be(monkeypatch, variables, folder):
    for name in ("VIDMATTE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert own_folder() == Path(folder)


@pytest.mark.slow
def test_wheel_and_source_archive_work_in_clean_environments():
    subprocess.run([sys.executable, ROOT / ".ci" / "wheel_test.py"], check=True)
