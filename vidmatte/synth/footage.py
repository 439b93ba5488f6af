"""Moving cut-outs from footage of a still camera: people, cars, hands.

A mover is found by its difference from the empty background; people seated in front of a wall for
the whole clip are found by their colours. A cut-out need not be right as a segmentation: composited
over another background, its alpha is exact by construction. It must be clean, though: whole, free
of its old background, and the same object in every frame. Others are rejected.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vidmatte.errors import ReadError
from vidmatte.imaging.arrays import Pixels
from vidmatte.imaging.foreground import estimate_foreground

Frame = NDArray[np.uint8]
Mask = NDArray[np.uint8]

SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".gif", ".webm")
LONGEST, SHORTEST = 48, 8
"""Frames of one cut-out."""

_LEAST_AREA = 0.006
"""Share of the frame; smaller regions are noise, or too small to be cut well."""
_LEAST_SIDE = 72
"""Pixels of the longer side of a mover."""
_MOST_HOLES = 0.06
"""Share of a mover's filled outline."""
_MOST_JUMP = 0.22
"""Change of the logarithm of the area from frame to frame."""
_LEAST_OVERLAP = 0.35
"""Intersection over union of a mover with itself one frame before."""


@dataclass(frozen=True)
class MoverSettings:
    """Settings of the search for movers in a clip.

    Attributes:
        seated: a person sits in front of a wall throughout, cut by the frame's lower edge; else
            objects pass.
        shadows: whether a darker area with the tint of the background counts as a shadow.
        convex: whether a mover is nearly convex, unlike the dark area under it.
        weak, strong: thresholds of difference in 8-bit codes: a mover has a strong pixel or more,
            and extends over the weak ones around it.
        frames: first frame, and one after the last.
        empty: spans of frames, each with an empty background; a mover differs from all of them.
    """

    seated: bool = False
    shadows: bool = True
    convex: bool = False
    weak: float = 17
    strong: float = 42
    frames: tuple[int, int] = (0, 1 << 30)
    empty: tuple[tuple[int, int], ...] = ((0, 1 << 30),)


DEFAULT_SETTINGS = MoverSettings()
# The signers of these clips sit in front of a wall.
_SIGNS = (
    "again bird book brother eat help learn milk night no please school sister sorry student "
    "thanks walk want yes"
)
SETTINGS_BY_NAME: dict[str, MoverSettings | None] = {
    **{f"{sign}.mkv": MoverSettings(seated=True) for sign in _SIGNS.split()},
    "hungry.mkv": None,
    "head-pose-face-detection-*": MoverSettings(seated=True),
    "car-detection.*": MoverSettings(convex=True),
    "person-bicycle-car-detection.*": MoverSettings(shadows=False, convex=True, weak=9, strong=30),
    "worker-zone-detection.*": MoverSettings(frames=(0, 48), empty=((0, 24), (46, 80))),
    "bottle-detection.*": None,
    "store-aisle-detection.*": None,
}
"""Settings for clips of Intel's sample-videos, by name; None for unusable clips."""


def settings_for(path: str | Path) -> MoverSettings | None:
    """Return the settings for a clip, or None if it is known to hold no usable mover."""
    name = Path(path).name
    return next(
        (settings for pattern, settings in SETTINGS_BY_NAME.items() if fnmatch(name, pattern)),
        DEFAULT_SETTINGS,
    )


@dataclass
class Mover:
    """One moving object: consecutive frames, each cropped to its own bounds.

    Attributes:
        start: index of its first frame in the footage.
        boxes: x, y, width, height of each crop in pixels of the footage.
        rgb: crops (h, w, 3).
        masks: (h, w) 0 or 1.
        cut: whether the lower edge of the frame cuts it.
        size: height and width of the footage.
    """

    start: int
    boxes: list[tuple[int, int, int, int]] = field(default_factory=list)
    rgb: list[Frame] = field(default_factory=list)
    masks: list[Mask] = field(default_factory=list)
    cut: bool = False
    size: tuple[int, ...] = (0, 0)

    def __len__(self) -> int:
        return len(self.masks)


def footage_files(folder: str | Path) -> list[Path]:
    """Return the clips of a folder, sorted. Raise ReadError if there are none."""
    paths = [path for path in sorted(Path(folder).iterdir()) if path.suffix.lower() in SUFFIXES]
    if not paths:
        raise ReadError(
            f"{folder}: expected clips, found no file ending in {', '.join(SUFFIXES)}; "
            f"name the folder that holds them"
        )
    return paths


def read_frames(path: str | Path) -> Iterator[Frame]:
    """Yield the frames of a clip, (h, w, 3) RGB. Raise ReadError if it cannot be decoded."""
    import av

    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    except (av.error.FFmpegError, IndexError) as error:
        raise ReadError(
            f"{path}: cannot be decoded as a video: {error}; replace or remove it"
        ) from error


def find_movers(path: str | Path) -> list[Mover]:
    """Cut the moving objects out of a clip of a still camera, and return those passed by `gate`."""
    settings = settings_for(path)
    if settings is None:
        return []
    if settings.seated:
        return find_person(path)
    plates = [find_plate(path, span) for span in settings.empty]
    tracks: list[Mover] = []
    passed: list[Mover] = []
    # The clip is streamed: only the open tracks are in memory.
    for index, frame in enumerate(read_frames(path)):
        if settings.frames[0] <= index < settings.frames[1]:
            tracks, ended = _extend(tracks, _label_movers(frame, plates, settings), frame, index)
            passed += [mover for track in ended for mover in gate(track)]
    return passed + [mover for track in tracks for mover in gate(track)]


def find_person(path: str | Path, *, width: int = 400, stride: int = 2) -> list[Mover]:
    """Cut out the person in the middle of a clip, in front of a wall from start to end, by colour.

    Every `stride`-th frame is used, shrunk to a width.
    """
    track = Mover(0, cut=True)
    for index, frame in enumerate(read_frames(path)):
        if index % stride:
            continue
        height = round(frame.shape[0] * width / frame.shape[1])
        small = np.asarray(
            cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA), np.uint8
        )
        mask = _cut_person(small)
        track = _append(track, (0, 0, width, height), mask, small)
    _refuse_headless(track)
    return gate(track, cut=True)


def _cut_person(frame: Frame) -> Mask:
    """Return the mask of the person in the middle of a frame, cut by its lower edge."""
    height, width = frame.shape[:2]
    # A body and a head are likely in the middle, nothing is at the sides and at the top.
    trimap = np.full((height, width), cv2.GC_PR_BGD, np.uint8)

    def draw(x: float, y: float, wide: float, tall: float, label: int) -> None:
        centre = (round(x * width), round(y * height))
        axes = (round(wide * width), round(tall * height))
        cv2.ellipse(trimap, centre, axes, 0, 0, 360, label, -1)

    draw(0.5, 0.75, 0.2, 0.45, cv2.GC_PR_FGD)
    draw(0.5, 0.3, 0.1, 0.2, cv2.GC_PR_FGD)
    trimap[:, : round(width * 0.22)] = cv2.GC_BGD
    trimap[:, round(width * 0.78) :] = cv2.GC_BGD
    trimap[: round(height * 0.04)] = cv2.GC_BGD
    # A narrow column of the body is sure; GrabCut needs some pixels of each kind.
    draw(0.5, 0.8, 0.06, 0.3, cv2.GC_FGD)
    mask = _largest(_opened(grabcut(frame, trimap, rounds=4)), least=0.5)
    # Hair and foreheads that shine like the wall leave notches in the head.
    top = int(np.nonzero(mask.any(1))[0][0])
    head = slice(max(0, top - 4), top + round(0.2 * (height - top)))
    padded = cv2.morphologyEx(np.pad(mask, 20), cv2.MORPH_CLOSE, _disc(round(0.07 * height)))
    # Padded, as closing at the border would otherwise grow into the frame's edge.
    closed = np.asarray(padded, np.uint8)[20:-20, 20:-20]
    mask[head] |= closed[head]
    mask[head] = fill_holes(mask, 0.03)[head]
    # Larger holes stay: the wall shows between arm and body.
    return fill_holes(mask, 0.002)


def _refuse_headless(track: Mover) -> None:
    """Empty the masks whose top is far from the median of all frames."""
    # The first row of each mask: in a frame without a head it is the shoulders.
    tops = np.array([np.nonzero(mask.any(1))[0][0] for mask in track.masks])
    usual = float(np.median(tops))
    height = track.masks[0].shape[0]
    for mask, top in zip(track.masks, tops, strict=True):
        if abs(top - usual) > 0.06 * height:
            mask[:] = 0


def find_plate(
    path: str | Path, span: tuple[int, int] = (0, 1 << 30), *, most: int = 240
) -> NDArray[np.float32]:
    """Return the background without movers, (h, w, 3) 0-255, from the frames of a span.

    Frames with hardly a differing pixel show the same picture. The largest such group is the empty
    background if it is large enough; else the median over time is.
    """
    frames = list(read_frames(path))[slice(*span)]
    frames = frames[:: max(1, len(frames) // most)]
    small = np.stack(
        [cv2.resize(frame, (96, 64), interpolation=cv2.INTER_AREA) for frame in frames]
    ).astype(np.float32)
    # Exposure drifts, so frames are compared relative to their median.
    small /= np.maximum(1, np.median(small, axis=(1, 2), keepdims=True))
    # Two frames agree if 99 % of their pixels differ by less than 16 % of the median.
    unlike = [(np.abs(small - one).max(-1) > 0.16).mean((1, 2)) for one in small]
    near = np.stack(unlike) < 0.01
    group = near[near.sum(1).argmax()]
    chosen = [frame for frame, member in zip(frames, group, strict=True) if member]
    if group.mean() < 0.15 or len(chosen) < 8:
        chosen = frames
    # Sixty frames are enough for a median, and fit into memory at full size.
    return np.asarray(np.median(np.stack(chosen[:: max(1, len(chosen) // 60)]), 0), np.float32)


def _label_movers(
    frame: Frame, plates: list[NDArray[np.float32]], settings: MoverSettings
) -> list[tuple[tuple[int, int, int, int], Mask]]:
    """Return box and mask (in its box) of each region different from all plates."""
    rough = np.minimum.reduce([_difference(frame, plate, settings) for plate in plates])
    plate = plates[0]
    height, width = rough.shape
    least = _LEAST_AREA * height * width
    # Parts of one object that are a little apart belong together.
    joined = cv2.morphologyEx(rough, cv2.MORPH_CLOSE, _disc(max(5, height // 28)))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(joined)
    found = []
    for i in range(1, count):
        if stats[i, cv2.CC_STAT_AREA] < least or max(stats[i, 2:4]) < _LEAST_SIDE:
            continue
        x, y, w, h = (int(v) for v in stats[i, :4])
        # Room for GrabCut to move the outline outward.
        margin = max(8, max(w, h) // 12)
        top = max(0, y - margin)
        left = max(0, x - margin)
        bottom = min(height, y + h + margin)
        right = min(width, x + w + margin)
        part = np.s_[top:bottom, left:right]
        mine = rough[part] & (labels[part] == i)
        others = (rough[part] > 0) & (labels[part] != i)
        mask = _refine(frame[part], mine.astype(np.uint8), others, plate[part])
        if settings.convex:
            mask = without_dark_rim(frame[part], mask, plate[part])
        if mask.sum() >= least:
            found.append(((left, top, right - left, bottom - top), mask))
    return found


def _difference(frame: Frame, plate: NDArray[np.float32], settings: MoverSettings) -> Mask:
    """Return 1 for pixels with a difference from the plate beyond exposure, noise and shadow."""
    seen = cv2.GaussianBlur(frame.astype(np.float32), (0, 0), 0.9)
    empty = cv2.GaussianBlur(plate, (0, 0), 0.9)
    # Exposure: each channel is scaled to the median of the plate's.
    seen = seen * (np.median(empty, (0, 1)) / np.maximum(1, np.median(seen, (0, 1))))
    far = np.abs(seen - empty).max(-1)
    ratio = (seen.sum(-1) + 1) / (empty.sum(-1) + 1)
    # A shadow darkens all channels alike.
    tinted = np.abs(seen - empty * ratio[..., None]).max(-1)
    shadow = (
        # A shadow leaves 42 % of the light or more; anything darker is an object.
        (ratio > 0.42) & (ratio < 1.25) & (tinted < np.where(ratio < 1, 13, 9)) & settings.shadows
    )
    weak = ((far > settings.weak) & ~shadow).astype(np.uint8)
    strong = (far > settings.strong) & ~shadow
    weak = cv2.morphologyEx(weak, cv2.MORPH_OPEN, _disc(3))
    count, labels = cv2.connectedComponents(weak)
    # Hysteresis as in Canny's edges: weak pixels count if a strong one is connected.
    kept = np.zeros(count, bool)
    kept[np.unique(labels[strong])] = True
    kept[0] = False
    return np.asarray(
        cv2.morphologyEx(kept[labels].astype(np.uint8), cv2.MORPH_CLOSE, _disc(7)), np.uint8
    )


def _refine(
    frame: Frame, rough: Mask, others: NDArray[np.bool_], plate: NDArray[np.float32]
) -> Mask:
    """Move a rough mask's outline to the nearest change of colour (GrabCut), and fill pinholes."""
    rough = fill_holes(rough, 0.01)
    # GrabCut decides within a band of a sixtieth of the longer side each way.
    band = max(2, round(max(rough.shape) / 60))
    trimap = np.where(rough > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    trimap[cv2.erode(rough, _disc(2 * band + 1), borderValue=1) > 0] = cv2.GC_FGD
    trimap[cv2.dilate(rough, _disc(2 * band + 1)) == 0] = cv2.GC_BGD
    # A patch that equals the empty background is background.
    same = np.abs(cv2.GaussianBlur(frame, (0, 0), 1).astype(np.float32) - plate).max(-1) < 6
    trimap[
        cv2.morphologyEx(same.astype(np.uint8), cv2.MORPH_OPEN, _disc(5))
        * (trimap == cv2.GC_PR_BGD)
        > 0
    ] = cv2.GC_BGD
    trimap[others] = cv2.GC_BGD
    return fill_holes(_largest(_opened(grabcut(frame, trimap))), 0.004)


def without_dark_rim(frame: Frame, mask: Mask, plate: NDArray[np.float32]) -> Mask:
    """Cut off the dark area under an object, outside of the convex hull of its bright part."""
    seen = frame.astype(np.float32)
    ratio = (seen.sum(-1) + 1) / (plate.sum(-1) + 1)
    tinted = np.abs(seen - plate * ratio[..., None]).max(-1)
    # Brighter than the plate, or of another tint: no shadow is either.
    bright = (mask > 0) & ((ratio > 1.06) | (tinted > 18))
    light = _largest(_opened(bright.astype(np.uint8)), least=0.02)
    rows, columns = np.nonzero(light)
    if not len(rows):
        return mask
    hull = cv2.convexHull(np.stack([columns, rows], 1).astype(np.int32))
    within = np.zeros_like(mask)
    cv2.fillConvexPoly(within, hull, 1)
    return np.asarray(mask & within, np.uint8)


def grabcut(frame: Frame, trimap: Mask, *, rounds: int = 2) -> Mask:
    """Return the mask 0 or 1 of GrabCut (Rother et al., 2004) from a trimap of its own labels."""
    labels = trimap.copy()
    if (
        not ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).any()
        or not ((labels == cv2.GC_BGD) | (labels == cv2.GC_PR_BGD)).any()
    ):
        return np.asarray(labels % 2 == 1, np.uint8)
    # GrabCut uses a random generator of the whole process: without a seed, results would depend on
    # earlier calls.
    cv2.setRNGSeed(0)
    cv2.grabCut(
        frame,
        labels,
        (0, 0, 1, 1),
        # Colour models of 65 numbers, which are not used afterwards.
        np.zeros((1, 65)),
        np.zeros((1, 65)),
        rounds,
        cv2.GC_INIT_WITH_MASK,
    )
    return np.asarray(labels % 2 == 1, np.uint8)


def fill_holes(mask: Mask, share: float) -> Mask:
    """Fill the holes of a mask 0 or 1 if they are smaller than a share of its area."""
    # Padded by one, so that the outside is one component, that of the corner.
    padded = np.pad(mask, 1)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(1 - padded, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < share * mask.sum()
    # Component 0 is the mask itself.
    small[0] = False
    small[labels[0, 0]] = False
    filled = padded | small[labels]
    return np.asarray(filled, np.uint8)[1:-1, 1:-1]


def _largest(mask: Mask, *, least: float = 0.03) -> Mask:
    """Keep the largest piece of a mask, and others of at least a share of it."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return np.asarray((areas >= least * areas.max())[labels] * mask, np.uint8)


def _opened(mask: Mask) -> Mask:
    """Return a mask without specks and spikes of up to two pixels."""
    return np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, _disc(3)), np.uint8)


def _disc(size: int) -> NDArray[np.uint8]:
    # An odd size has a middle.
    size |= 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)


def _extend(
    tracks: list[Mover],
    found: list[tuple[tuple[int, int, int, int], Mask]],
    frame: Frame,
    index: int,
) -> tuple[list[Mover], list[Mover]]:
    """Add the masks of a frame to the tracks; return the continued tracks and the ended ones.

    If a mask lies over two tracks, or a track under two masks, the tracks end.
    """
    size = frame.shape[:2]
    over = np.array(
        [[_overlap(_last(t, size), _place(*f, size)) for f in found] for t in tracks]
    ).reshape(len(tracks), len(found))
    going = []
    ended = []
    taken = set()
    for i, track in enumerate(tracks):
        # Below a tenth, two masks only touch.
        matches = np.flatnonzero(over[i] > 0.1)
        if (
            len(matches) == 1
            and over[i, matches[0]] > _LEAST_OVERLAP
            and (over[:, matches[0]] > 0.1).sum() == 1
        ):
            taken.add(int(matches[0]))
            box, mask = found[matches[0]]
            going.append(_append(track, box, mask, frame))
        else:
            ended.append(track)
    for j, (box, mask) in enumerate(found):
        if j not in taken:
            going.append(_append(Mover(index), box, mask, frame))
    return going, ended


def _append(track: Mover, box: tuple[int, int, int, int], mask: Mask, frame: Frame) -> Mover:
    x, y, w, h = box
    track.boxes.append(box)
    track.masks.append(mask)
    track.rgb.append(frame[y : y + h, x : x + w].copy())
    track.size = frame.shape[:2]
    return track


def _place(box: tuple[int, int, int, int], mask: Mask, size: tuple[int, ...]) -> NDArray[np.bool_]:
    x, y, w, h = box
    whole = np.zeros(size, bool)
    whole[y : y + h, x : x + w] = mask > 0
    return whole


def _last(track: Mover, size: tuple[int, ...]) -> NDArray[np.bool_]:
    return _place(track.boxes[-1], track.masks[-1], size)


def _overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Intersection over union."""
    both = float((a & b).sum())
    return both / max(1.0, float((a | b).sum()))


def gate(track: Mover, *, cut: bool = False) -> list[Mover]:
    """Cut a track into runs of frames with whole, steady masks inside the frame.

    With `cut`, the object may touch the frame's lower edge.
    """
    runs: list[list[int]] = [[]]
    # A frame that breaks the run begins a new one if it is sound itself.
    for i in range(len(track)):
        if not _sound(track, i, cut) or (runs[-1] and not _steady(track, i)):
            runs.append([])
        if _sound(track, i, cut):
            runs[-1].append(i)
    return [
        piece
        for run in runs
        if len(run) >= SHORTEST
        for first in range(0, len(run) - SHORTEST + 1, LONGEST)
        if (piece := _slice(track, run[first : first + LONGEST], cut)) is not None
    ]


def _sound(track: Mover, i: int, cut: bool) -> bool:
    (x, y, _, _), mask = track.boxes[i], track.masks[i]
    height, width = track.size
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return False
    # A pixel of distance on each side: a cut object has a straight edge that no alpha would show.
    clear = x + columns.min() > 1 and y + rows.min() > 1 and x + columns.max() < width - 2
    below = y + rows.max() < height - 2
    filled = fill_holes(mask, 1e9)
    holes = 1 - mask.sum() / filled.sum()
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    pieces = stats[1:, cv2.CC_STAT_AREA].max() / mask.sum()
    hull = cv2.convexHull(np.stack([columns, rows], 1).astype(np.int32))
    # A mask much smaller than its hull is usually two objects, or an object with its shadow.
    solid = mask.sum() / max(1.0, cv2.contourArea(hull))
    return bool(clear and (below or cut) and holes < _MOST_HOLES and pieces > 0.93 and solid > 0.45)


def _steady(track: Mover, i: int) -> bool:
    a, b = track.masks[i - 1].sum(), track.masks[i].sum()
    size = track.size
    same = _overlap(
        _place(track.boxes[i - 1], track.masks[i - 1], size),
        _place(track.boxes[i], track.masks[i], size),
    )
    # The logarithm treats growing and shrinking alike.
    return abs(float(np.log(a / b))) < _MOST_JUMP and same > _LEAST_OVERLAP


def _slice(track: Mover, run: list[int], cut: bool) -> Mover | None:
    """Return the frames of a run, or None if the object hardly moves."""
    masks = [_place(track.boxes[i], track.masks[i], track.size) for i in run]
    # Compared with the middle too: a mover may return to its place.
    moved = 1 - _overlap(masks[0], masks[-1]), 1 - _overlap(masks[0], masks[len(masks) // 2])
    if max(moved) < 0.08:
        return None
    pick = slice(run[0], run[-1] + 1)
    return Mover(
        track.start + run[0], track.boxes[pick], track.rgb[pick], track.masks[pick], cut, track.size
    )


def as_pictures(
    mover: Mover, *, side: int = 256
) -> tuple[list[Pixels], list[Pixels], list[tuple[float, float]]]:
    """Return the crops of a mover as square pictures of one scale, with the mover in the middle.

    Returns:
        Straight colours (S, S, 3) and alphas (S, S), 0-1, S at most `side`; and the x and y of the
        centre in each frame, in sides of the picture, relative to the first.
    """
    bounds = [_bounds(mask, box) for mask, box in zip(mover.masks, mover.boxes, strict=True)]
    if mover.cut:
        # A seated person keeps its place in the picture: only the arms move.
        whole = _union(bounds)
        bounds = [whole] * len(bounds)
    centres = _smooth(np.array([((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in bounds]))
    if mover.cut:
        centres[:] = centres[0]
    # The picture has to reach the farthest bound of any frame.
    reach = max(
        max(abs(x0 - cx), abs(x1 - cx), abs(y0 - cy), abs(y1 - cy))
        for (x0, y0, x1, y1), (cx, cy) in zip(bounds, centres, strict=True)
    )
    span = 2 * reach + 6
    side = min(side, int(np.ceil(span)))
    colours, alphas = [], []
    for rgb, mask, box, centre in zip(mover.rgb, mover.masks, mover.boxes, centres, strict=True):
        colour, alpha = _straighten(rgb, mask, keep_below=mover.cut)
        # Never enlarged: `side` is at most the span in pixels of the footage.
        scale = side / span
        place = np.array(
            [
                [scale, 0, side / 2 - scale * (centre[0] - box[0])],
                [0, scale, side / 2 - scale * (centre[1] - box[1])],
            ]
        )
        place[:, 2] += 0.5 * scale - 0.5
        colours.append(_shrink(colour, place, side, cv2.BORDER_REPLICATE))
        alphas.append(_shrink(alpha, place, side, cv2.BORDER_CONSTANT))
    return colours, alphas, [(float(x), float(y)) for x, y in (centres - centres[0]) / span]


def soft_alpha(mask: Mask, *, keep_below: bool = False) -> Pixels:
    """Return alpha (h, w) 0-1 of a mask 0 or 1, with an edge of about a pixel inside the mask's.

    Soft pixels then show none of the old background. With `keep_below` the last row is no edge.
    """
    border = cv2.BORDER_REPLICATE if keep_below else cv2.BORDER_CONSTANT
    # Eight rows below, for the blur at the edge that the frame cuts.
    padded = cv2.copyMakeBorder(mask.astype(np.float32), 0, 8, 0, 0, border, value=0)
    inner = cv2.erode(padded, _disc(3), borderValue=0)
    soft = cv2.GaussianBlur(inner, (0, 0), 0.9)
    alpha = np.clip(soft * 1.8 - 0.8, 0, 1)
    return np.asarray(alpha[:-8], np.float32)


def _straighten(rgb: Frame, mask: Mask, *, keep_below: bool) -> tuple[Pixels, Pixels]:
    """Return the mover's straight colour (h, w, 3), continued beyond it, and its alpha (h, w)."""
    # Jagged outlines are smoothed before they get soft.
    smooth = cv2.GaussianBlur(
        cv2.copyMakeBorder(mask.astype(np.float32), 8, 8, 8, 8, cv2.BORDER_REPLICATE), (0, 0), 1.2
    )
    mask = (smooth[8:-8, 8:-8] > 0.5).astype(np.uint8)
    alpha = soft_alpha(mask, keep_below=keep_below)
    # Straight colour, estimated like that of real mattes.
    image = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
    colour = (
        estimate_foreground(image, torch.from_numpy(alpha)[None, None])[0].permute(1, 2, 0).numpy()
    )
    return np.asarray(colour, np.float32), alpha


def _shrink(image: Pixels, place: NDArray[np.float64], side: int, border: int) -> Pixels:
    scale = place[0, 0]
    if scale < 0.7:
        # A picture that shrinks much is blurred first: a bilinear warp would alias.
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.4 / scale), np.float32)
    return np.asarray(
        cv2.warpAffine(image, place, (side, side), flags=cv2.INTER_LINEAR, borderMode=border),
        np.float32,
    )


def _bounds(mask: Mask, box: tuple[int, int, int, int]) -> tuple[float, float, float, float]:
    rows, columns = np.nonzero(mask)
    return (
        box[0] + columns.min(),
        box[1] + rows.min(),
        box[0] + columns.max() + 1,
        box[1] + rows.max() + 1,
    )


def _union(bounds: list[tuple[float, float, float, float]]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = np.array(bounds).T
    return float(x0.min()), float(y0.min()), float(x1.max()), float(y1.max())


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the running mean over five frames, so a mover does not shake with its outline."""
    padded = np.pad(values, ((2, 2), (0, 0)), mode="edge")
    return np.asarray(np.stack([padded[i : i + len(values)] for i in range(5)]).mean(0))
