"""Find the files of a layout, with errors about missing ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vidmatte.errors import ReadError
from vidmatte.media.patterns import final_digits
from vidmatte.read.images import IMAGE_SUFFIXES

_NAMED = 5
"""How many missing files a message names."""


def root_folder(root: str | Path, layout: str) -> Path:
    """Return the folder of a data set. Raises ReadError if there is none."""
    folder = Path(root).expanduser()
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise ReadError(
            f"{folder}: expected the folder of data set {layout!r}, but it {what}; check --root"
        )
    return folder


def one_of(root: Path, names: Sequence[str], layout: str) -> Path:
    """Return the first existing folder of some. Raises ReadError naming all of them."""
    for name in names:
        if (root / name).is_dir():
            return root / name
    looked = " or ".join(f"{name}/" for name in names)
    raise ReadError(
        f"{root}: is not laid out as {layout!r}: looked for {looked}, found {_listing(root)}"
    )


def nothing_found(root: Path, layout: str, looked_for: str) -> ReadError:
    """Return the error for a folder without any file of a layout."""
    return ReadError(
        f"{root}: is not laid out as {layout!r}: looked for {looked_for}, found {_listing(root)}"
    )


def images_by_stem(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by stem, sorted. Raises ReadError if two share one."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if (
            # Other files, such as notes and thumbnails of the system, may lie beside.
            path.suffix.lower() not in IMAGE_SUFFIXES
            or path.name.startswith(".")
            or not path.is_file()
        ):
            continue
        if path.stem in found:
            raise ReadError(
                f"{folder}: holds both {found[path.stem].name} and {path.name}; take one of them "
                "away"
            )
        found[path.stem] = path
    return found


def image_named(folder: Path, stem: str) -> Path | None:
    """Return the image of a folder with this stem, whatever its extension."""
    return next(
        (path for suffix in IMAGE_SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()), None
    )


def require(wanted: Iterable[str], there: Mapping[str, Path], folder: Path, what: str) -> None:
    """Raise ReadError with the missing ones of the `wanted` names."""
    missing = [name for name in wanted if name not in there]
    if missing:
        named = ", ".join(missing[:_NAMED]) + (
            f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        )
        raise ReadError(
            f"{folder}: {what} missing for {named}; looked for that name with "
            f"{', '.join(IMAGE_SUFFIXES)}"
        )


def folders(root: Path) -> list[Path]:
    """Return the folders in a folder by name, except hidden ones."""
    return sorted(
        path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def frames_in_order(folder: Path) -> tuple[Path, ...]:
    """Return the frames of a folder by number. Raises ReadError if there are none."""
    found = images_by_stem(folder)
    if not found:
        raise ReadError(f"{folder}: holds no frames; looked for {', '.join(IMAGE_SUFFIXES)}")
    # By number: 10 comes behind 9.
    return tuple(found[name] for name in sorted(found, key=_place))


def frames_with_truth(frames: Path, truth: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Return the frames of a folder by number, and for each the file of truth of the same name.

    Raises ReadError for an empty folder, and if a truth is missing.
    """
    shown = frames_in_order(frames)
    true = images_by_stem(truth)
    require([path.stem for path in shown], true, truth, "the truth is")
    return shown, tuple(true[path.stem] for path in shown)


def _place(name: str) -> tuple[int, str]:
    number = final_digits(name)
    # Names without a number come first.
    return (-1 if number is None else number), name


def _listing(folder: Path) -> str:
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    shown = ", ".join(names[:_NAMED]) + (
        f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    )
    return shown or "an empty folder"
