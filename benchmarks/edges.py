"""Measure the edges of mattes: photographs and rendered clips with exact alpha.

    python benchmarks/edges.py photographs ROOT
    python benchmarks/edges.py clips RENDERS BACKGROUNDS
    python benchmarks/edges.py layout RENDERS BACKGROUNDS ROOT
    python benchmarks/edges.py time RENDERS

photographs: ROOT holds a folder per photograph with image.png, alpha.png and trimap.png. The mask
    of alpha above one half is given on the image itself ("own mask"), or on the same image mirrored
    and at 0.8 of its size ("other image"), or the trimap on the image itself ("trimap"). SAD, in
    thousands, is taken over the trimap's unknown area, beside that of closed-form matting with the
    trimap and of the mask itself.
clips: RENDERS holds held-out clips (`held-out-*/0000.png` and on: RGBA, straight colour) of
    `vidmatte.synth.blender` or `vidmatte.synth.groom`. Each moves at 1080p over a photograph of the
    folder BACKGROUNDS that pans; the exact first alpha above one half is the mask. MAD (x 1000) in
    the band, 12 pixels about what is soft, Grad (/ 1000) and dtSSD (x 100) as `vidmatte evaluate`
    takes them, over the later frames.
layout: writes frames and mattes of `clips` in the layouts of VideoMatte240K and YouTubeMatte, so
    that `vidmatte evaluate videomatte --root ROOT/videomatte` (or youtubematte) can be
    compared with the published figures of the originals.
time: processor time, of one thread, from a coarse matte to full size for the first held-out clip.

The first two also give, in percent, what is 21 pixels or more inside and has alpha under 0.995, and
what is as far outside and has alpha over 0.005.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import click
import cv2
import numpy as np
import torch

from vidmatte import load_model
from vidmatte.frames import FrameBatch
from vidmatte.metrics import dtssd, grad
from vidmatte.model.interface import Model
from vidmatte.prompts.prompt import Reference

CORE = 21
BAND = 12
FRAME = (1080, 1920)
ROUNDS = 7


def read(path: Path) -> np.ndarray:
    """Read an image as (H, W) or (H, W, 3 or 4) float32 0-1, colour as RGB."""
    codes = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    values = codes.astype(np.float32) / np.float32(np.iinfo(codes.dtype).max)
    if values.ndim == 2:
        return values
    return np.dstack([values[..., 2::-1], values[..., 3:]])


def planes(rgb: np.ndarray) -> torch.Tensor:
    """Return an image (H, W, 3) as (1, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1), np.float32))[None]


def mark(rgb: np.ndarray, alpha: np.ndarray, frame: int | None) -> Reference:
    """Return the reference that the mask of alpha above one half makes of an image."""
    mask = torch.from_numpy((alpha > 0.5).astype(np.float32))[None, None]
    return Reference(planes(rgb), mask, torch.ones_like(mask), frame)


def mark_known(rgb: np.ndarray, alpha: np.ndarray, known: np.ndarray) -> Reference:
    """Return the reference that a trimap makes of an image: alpha (H, W) where it is known."""
    given, where = (
        torch.from_numpy(plane.astype(np.float32))[None, None] for plane in (alpha * known, known)
    )
    return Reference(planes(rgb), given, where, 0)


def matte(model: Model, rgb: np.ndarray, reference: Reference) -> np.ndarray:
    """Return the alpha (H, W) of an image that is matched to a reference."""
    image = planes(rgb)
    batch = FrameBatch(image, (0,), (0,), (1,))
    return model.with_reference([reference])(batch).alpha[0, 0].numpy()


def wrong_inside(alpha: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return shares in percent: see-through among the far inside, visible among the far outside."""
    window = np.ones((2 * CORE + 1, 2 * CORE + 1), np.uint8)
    inside = cv2.erode((truth == 1).astype(np.uint8), window) > 0
    outside = cv2.erode((truth == 0).astype(np.uint8), window) > 0
    hollow = 100 * float((alpha[inside] < 0.995).mean()) if inside.any() else 0.0
    haze = 100 * float((alpha[outside] > 0.005).mean()) if outside.any() else 0.0
    return hollow, haze


@click.group()
def main() -> None:
    """Measure the edges of mattes."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


@main.command()
@click.argument("root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", "name", default="compact", show_default=True)
@click.option("--closed-form/--no-closed-form", default=True, help="It takes a minute per image.")
def photographs(root: Path, name: str, closed_form: bool) -> None:
    """Print SAD in the unknown area of photographs."""
    model = load_model(name, device="cpu")
    rows = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        rgb = read(folder / "image.png")
        truth = read(folder / "alpha.png")
        truth = truth if truth.ndim == 2 else truth[..., 0]
        trimap = read(folder / "trimap.png")
        trimap = trimap if trimap.ndim == 2 else trimap[..., 0]
        unknown = (trimap > 0.02) & (trimap < 0.98)
        small = tuple(round(0.8 * side) for side in truth.shape[::-1])
        other_rgb, other_alpha = (
            cv2.resize(picture, small, interpolation=cv2.INTER_AREA)[:, ::-1].copy()
            for picture in (rgb, truth)
        )
        found = {
            "own mask": matte(model, rgb, mark(rgb, truth, 0)),
            "other image": matte(model, rgb, mark(other_rgb, other_alpha, None)),
            "trimap": matte(model, rgb, mark_known(rgb, np.rint(trimap), ~unknown)),
            "mask": (truth > 0.5).astype(np.float32),
        }
        if closed_form:
            found["closed form"] = closed_form_alpha(rgb, trimap, unknown)
        errors = {
            key: float(np.abs(alpha - truth)[unknown].sum()) / 1000 for key, alpha in found.items()
        }
        for key in ("own mask", "other image"):
            errors[f"hollow {key}"], errors[f"haze {key}"] = wrong_inside(found[key], truth)
        rows.append(errors)
        say(folder.name, errors)
    sums = {key: sum(row[key] for row in rows) for key in rows[0]}
    means = {key: total / len(rows) for key, total in sums.items() if key[:2] in ("ho", "ha")}
    say("sum, mean of percentages", {**sums, **means})
    for key in ("own mask", "other image", "trimap"):
        for base in ("closed form", "mask"):
            if base in sums:
                click.echo(f"{key} relative to {base}: {sums[key] / sums[base]:.3f}")


def closed_form_alpha(rgb: np.ndarray, trimap: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Return the alpha (H, W) of closed-form matting with the trimap."""
    # Only one command needs it, and it takes seconds to load.
    from pymatting import estimate_alpha_cf

    known = np.where(unknown, 0.5, np.rint(trimap)).astype(np.float64)
    return estimate_alpha_cf(rgb.astype(np.float64), known)


def composites(folder: Path, background: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield frames (1080, 1920, 3), in codes of 8 bits as 0-1, with their exact alpha."""
    height, width = FRAME
    for t, path in enumerate(sorted(folder.glob("*.png"))):
        render = read(path)
        place = (width - render.shape[1]) // 2
        picture = np.zeros((height, width, 4), np.float32)
        picture[: render.shape[0], place : place + render.shape[1]] = render
        alpha = picture[..., 3]
        behind = background[:height, 6 * t : 6 * t + width]
        seen = alpha[..., None] * picture[..., :3] + (1 - alpha[..., None]) * behind
        yield np.rint(255 * seen) / np.float32(255), alpha


def drawn_clips(
    renders: Path, backgrounds: Path
) -> Iterator[tuple[Path, list[tuple[np.ndarray, np.ndarray]]]]:
    """Yield each held-out clip's folder and its frames over a photograph, see `composites`."""
    photos = sorted(backgrounds.glob("*.jpg"))
    if not photos:
        raise click.UsageError(f"{backgrounds}: has no photographs (*.jpg)")
    for number, folder in enumerate(held_out(renders)):
        background = photograph(photos[(37 * number) % len(photos)])
        yield folder, list(composites(folder, background))


def held_out(renders: Path) -> list[Path]:
    """Return the folders of the held-out clips."""
    folders = sorted(path for path in renders.glob("held-out-*") if path.suffix != ".part")
    if not folders:
        raise click.UsageError(f"{renders}: has no held-out-*; render some with --split held-out")
    return folders


def photograph(path: Path) -> np.ndarray:
    """Return a photograph that covers a frame and 64 pixels more across."""
    rgb = read(path)[..., :3]
    height, width = FRAME
    scale = max(height / rgb.shape[0], (width + 64) / rgb.shape[1])
    size = (int(rgb.shape[1] * scale) + 1, int(rgb.shape[0] * scale) + 1)
    return np.clip(cv2.resize(rgb, size, interpolation=cv2.INTER_CUBIC), 0, 1)


@main.command()
@click.argument("renders", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("backgrounds", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", "name", default="compact", show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Folder for frames and mattes.")
def clips(renders: Path, backgrounds: Path, name: str, keep: Path | None) -> None:
    """Print the errors of held-out clips, without adaptation."""
    model = load_model(name, device="cpu")
    rows = []
    for folder, frames in drawn_clips(renders, backgrounds):
        reference = mark(*frames[0], 0)
        predictor = model.with_reference([reference])
        tracker = predictor.tracker()
        coarse = [tracker.start(reference)]
        for rgb, _ in frames[1:]:
            coarse.append(tracker.step(predictor.shrink(planes(rgb))))
        pairs = zip(frames, coarse, strict=True)
        alphas = [predictor.finish(planes(rgb), each)[0, 0].numpy() for (rgb, _), each in pairs]
        found = np.stack(alphas[1:])
        truth = np.stack([alpha for _, alpha in frames[1:]])
        errors = measure(found, truth)
        rows.append(errors)
        say(folder.name, errors)
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            for t, ((rgb, _), alpha) in enumerate(zip(frames, alphas, strict=True)):
                codes = np.rint(255 * np.dstack([rgb[..., ::-1], alpha])).astype(np.uint8)
                cv2.imwrite(str(keep / f"{folder.name}-{t}.png"), codes)
    say("mean", {key: float(np.mean([row[key] for row in rows])) for key in rows[0]})


@main.command()
@click.argument("renders", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("backgrounds", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("root", type=click.Path(path_type=Path))
def layout(renders: Path, backgrounds: Path, root: Path) -> None:
    """Write the held-out clips over photographs as data sets with published figures."""
    for folder, frames in drawn_clips(renders, backgrounds):
        for dataset, seen in (("videomatte", "com"), ("youtubematte", "har")):
            clip = root / dataset / "drawn" / folder.name
            for kind in (seen, "pha"):
                (clip / kind).mkdir(parents=True, exist_ok=True)
            for t, (rgb, alpha) in enumerate(frames):
                codes = np.rint(255 * rgb[..., ::-1]).astype(np.uint8)
                cv2.imwrite(str(clip / seen / f"{t:04d}.png"), codes)
                cv2.imwrite(
                    str(clip / "pha" / f"{t:04d}.png"), np.rint(255 * alpha).astype(np.uint8)
                )


def measure(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return the errors of frames (T, H, W)."""
    window = np.ones((2 * BAND + 1, 2 * BAND + 1), np.uint8)
    soft = [cv2.dilate(((a > 0) & (a < 1)).astype(np.uint8), window) > 0 for a in truth]
    shares = [wrong_inside(alpha, exact) for alpha, exact in zip(found, truth, strict=True)]
    hollow, haze = np.mean(shares, axis=0).tolist()
    return {
        "MAD in the band": 1000 * float(np.abs(found - truth)[np.stack(soft)].mean()),
        "Grad": grad(found, truth),
        "dtSSD": dtssd(found, truth) if len(truth) > 1 else float("nan"),
        "hollow": hollow,
        "haze": haze,
    }


@main.command("time")
@click.argument("renders", type=click.Path(exists=True, file_okay=False, path_type=Path))
def time_stage(renders: Path) -> None:
    """Print the processor time from a coarse matte to full size at 1080p."""
    model = load_model(device="cpu")
    background = np.full((FRAME[0], FRAME[1] + 64, 3), 0.5, np.float32)
    rgb, alpha = next(composites(held_out(renders)[0], background))
    predictor = model.with_reference([mark(rgb, alpha, 0)])
    tracker = predictor.tracker()
    tracker.start(mark(rgb, alpha, 0))
    image = planes(rgb)
    coarse = tracker.step(predictor.shrink(image))
    taken = []
    for _ in range(ROUNDS + 1):
        began = time.process_time()
        predictor.finish(image, coarse)
        taken.append(time.process_time() - began)
    click.echo(f"{1000 * np.median(taken[1:]):.0f} ms, median of {ROUNDS}")


def say(name: str, values: dict[str, float]) -> None:
    """Print one line of a table."""
    click.echo(f"{name}  " + "  ".join(f"{key} {value:.2f}" for key, value in values.items()))


if __name__ == "__main__":
    main()
