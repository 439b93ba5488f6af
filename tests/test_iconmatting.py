import functools
import hashlib
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from test_stable_diffusion import attention_by_hand
from tiny_sd import CHANNELS, COARSE, FINE, SIDE, pictures, tiny_parts, tiny_sd, watched

from vidmatte.errors import ModelError, OptionError
from vidmatte.frames import FrameBatch
from vidmatte.model.iconmatting import (
    IconMattingNet,
    IconMattingOptions,
    InContextFeatures,
    StableDiffusion,
    build_iconmatting,
    build_iconmatting_free,
)
from vidmatte.model.iconmatting.fit import Fit
from vidmatte.model.iconmatting.free import TrainingFreeDecoder
from vidmatte.model.iconmatting.head import TrimapHead
from vidmatte.model.iconmatting.predictor import TrainedDecoder
from vidmatte.model.iconmatting.prompts import cells_of_prompt, query_cells, whole_cells
from vidmatte.model.iconmatting.similarity import (
    IntraSimilarity,
    inter_similarity,
    match,
    resize_cells,
    spread,
)
from vidmatte.model.interface import Model, Predictor, SupportsGuidance
from vidmatte.model.settings import as_options, parse_settings
from vidmatte.prompts.prompt import Prompt, Reference

CPU = torch.device("cpu")


def coarse_size(fit):
    """Height and width of whole frames at the scale of the squares."""
    long, short = fit._coarse_starts[-1] + fit._picture[0], fit._picture[1]
    return (long, short) if fit.height > fit.width else (short, long)


def recipe_weights(shapes):
    """Return weights by a fixed recipe with NumPy's legacy generator, which is frozen."""
    random, tensors = np.random.RandomState(2403), {}
    for name in sorted(shapes):
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.tensor(0)
            continue
        values = random.standard_normal(tuple(shapes[name]))
        if values.ndim == 4:
            values = values * (2 / np.prod(values.shape[1:])) ** 0.5
        elif name.endswith("running_var"):
            values = 1 + 0.2 * np.abs(values)
        elif name.endswith(("running_mean", "bias")):
            values = 0.1 * values
        else:
            values = 1 + 0.1 * values
        tensors[name] = torch.from_numpy(np.asarray(values, np.float32))
    return tensors


@functools.cache
def recipe_net(channels, cells):
    with torch.device("meta"):
        state = IconMattingNet(channels, cells).state_dict()
    tensors = recipe_weights({name: tensor.shape for name, tensor in state.items()})
    return IconMattingNet.from_checkpoint(tensors, "recipe", feature_channels=channels, cells=cells)


def recipe_inputs(frames, channels, coarse, fine, side):
    random = np.random.RandomState(15789)

    def draw(*shape):
        return torch.from_numpy(random.standard_normal(shape).astype(np.float32))

    reference = draw(frames, channels, fine, fine)
    maps = [draw(frames, channels, coarse, coarse), draw(frames, channels, fine, fine)]
    attention = [(2 * draw(frames, cells**2, cells**2)).softmax(-1) for cells in (coarse, fine)]
    rgb = torch.from_numpy(random.random_sample((frames, 3, side, side)).astype(np.float32))
    roi = torch.zeros(frames, 1, side, side)
    roi[0, 0, 40:150, 30:120] = 1
    roi[0, 0, 80:83, 60:64] = 0
    roi[1, 0, 64:, 100:] = 1
    return reference, InContextFeatures(*maps, *attention), rgb, roi


RESEARCH_ALPHA = (
    "0.42617 0.40532 0.41848 0.39788 0.40263 0.44317 0.41586 0.42416 0.37768 0.41185 0.43392 "
    "0.41251 0.3959 0.40952 0.38273 0.45176 0.39805 0.38656 0.37694 0.38496 0.41332 0.38114 "
    "0.39641 0.39519 0.40374 0.41172 0.38563 0.4469 "
    "0.38229 0.34394 0.40707 0.43826 0.42019 0.43003 0.46842 0.42198",
    "0.40502 0.47168 0.463 0.40232 0.4365 0.35647 0.38855 0.48017 0.43883 0.47796 0.37728 0.41907 "
    "0.40598 0.43205 0.47507 0.51215 0.41036 0.33821 0.36699 0.39114 0.46915 0.45171 0.46619 "
    "0.42231 0.45602 0.41275 0.39501 0.46499 0.43568 0.53063 0.33326 0.40355 0.3887 0.46262 "
    "0.34674 0.45263",
)
"""Every 32nd pixel, from the 16th on, of the alpha that the research decoder gives (tiny-smart/
in-context-matting at d5197e0, torch 2.13 on the CPU, float32) gives for `recipe_inputs` and
`recipe_weights`, with 48 feature channels, 6 and 12 cells, images of 192 x 192, and everything else
as in its config/eval.yaml."""
RESEARCH_MEAN, RESEARCH_DEVIATION = (0.421993, 0.424482), (0.041746, 0.041849)
RESEARCH_SIMILARITY = (
    "0.13815 0.19171 0.1864 0.23537 0.26532 0.22878 0.28878 0.22051 0.21679",
    "0.26409 0.26788 0.29547 0.20688 0.29113 0.33338 0.32802 0.19365 0.32682",
)
"""Every 4th cell of its inter-similarity."""


def numbers(text):
    return torch.tensor([float(word) for word in text.split()])


@torch.inference_mode()
def test_alpha_is_that_of_the_research_code():
    net = recipe_net(48, (6, 12))
    reference, features, rgb, roi = recipe_inputs(2, 48, 6, 12, 192)
    known = net.tokens(InContextFeatures(features.coarse, reference))
    tokens = net.tokens(features)
    similarity = []
    for n in range(2):
        query = known[n][whole_cells(roi[n], 12)]
        similarity.append(match(query, query[:0], tokens[n : n + 1], None, 1))
        torch.testing.assert_close(
            similarity[n].reshape(12, 12)[::4, ::4].flatten(),
            numbers(RESEARCH_SIMILARITY[n]),
            atol=2e-5,
            rtol=0,
        )
    alpha = net(rgb, features, torch.cat(similarity)).alpha
    for n in range(2):
        torch.testing.assert_close(
            alpha[n, 0, 16::32, 16::32].flatten(), numbers(RESEARCH_ALPHA[n]), atol=1e-4, rtol=0
        )
        assert float(alpha[n].double().mean()) == pytest.approx(RESEARCH_MEAN[n], abs=1e-5)
        assert float(alpha[n].double().std()) == pytest.approx(RESEARCH_DEVIATION[n], abs=1e-5)


def test_tensors_are_those_of_the_released_checkpoint():
    """The sha256 of the names and shapes of its 89 tensors, a line each, sorted."""
    with torch.device("meta"):
        state = IconMattingNet().state_dict()
    lines = "\n".join(f"{name} {list(tensor.shape)}" for name, tensor in sorted(state.items()))
    assert len(state) == 89
    found = hashlib.sha256(lines.encode()).hexdigest()
    assert found == "002a11fccc5d73136819b5eb8a969fc744a8737643be3c602ed041bb2872c9e1"


def test_full_size_shapes():
    with torch.device("meta"):
        net = IconMattingNet()
        features = InContextFeatures(
            *(torch.empty(2, 1280, cells, cells) for cells in (24, 48)),
            *(torch.empty(2, cells**2, cells**2) for cells in (24, 48)),
        )
        assert net.tokens(features).shape == (2, 2304, 1280)
        decoded = net(torch.empty(2, 3, 768, 768), features, torch.empty(2, 2304))
        assert decoded.alpha.shape == (2, 1, 768, 768)
        assert decoded.intra_similarity.shape == (2, 48, 48)
        alpha = TrimapHead()(
            torch.empty(1, 3, 768, 768),
            torch.empty(1, 1, 768, 768),
            features.coarse[:1],
            features.fine[:1],
        )
        assert alpha.shape == (1, 1, 768, 768)


@torch.inference_mode()
def test_the_trimap_head_sees_its_trimap():
    head = TrimapHead(8, 16).eval()
    rgb, coarse, fine = torch.rand(1, 3, 64, 64), torch.randn(1, 8, 2, 2), torch.randn(1, 8, 4, 4)
    first = head(rgb, torch.full((1, 1, 64, 64), 0.5), coarse, fine)
    assert first.shape == (1, 1, 64, 64)
    assert first.min() >= 0
    assert first.max() <= 1
    assert not torch.equal(first, head(rgb, torch.zeros(1, 1, 64, 64), coarse, fine))
    assert sum(
        "convstream.convs.0.conv.weight" in name and t.shape[1] == 4
        for name, t in head.state_dict().items()
    )


CELLS = (COARSE, FINE)


def tiny_checkpoint():
    return dict(recipe_net(CHANNELS, CELLS).state_dict())


def load(checkpoint):
    return IconMattingNet.from_checkpoint(
        checkpoint, "some.ckpt", feature_channels=CHANNELS, cells=CELLS
    )


def test_lightnings_wrapping_is_ignored():
    tensors = tiny_checkpoint()
    wrapped = {
        "state_dict": {**tensors, "feature_extractor.vae.weight": torch.ones(1)},
        "epoch": 3,
        "callbacks": {},
    }
    for checkpoint in (tensors, wrapped):
        state = load(checkpoint).state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in tensors.items())


def spoiled(change):
    tensors = tiny_checkpoint()
    change(tensors)
    return tensors


NAME = "in_context_decoder.detail_decoder.matting_head.matting_convs.3.bias"


@pytest.mark.parametrize(
    ("checkpoint", "says"),
    [
        (lambda: spoiled(lambda t: t.pop(NAME)), f"{NAME} is missing"),
        (lambda: spoiled(lambda t: t.update(more=torch.ones(1))), "more is surplus"),
        (
            lambda: spoiled(lambda t: t.update({NAME: torch.ones(2)})),
            r"is \(2,\) instead of \(1,\)",
        ),
        (
            lambda: spoiled(lambda t: t.update({NAME: torch.tensor([torch.nan])})),
            f"{NAME} holds NaN",
        ),
        (lambda: {"state_dict": [1]}, "its state_dict is list"),
        (lambda: {"epoch": 3}, "holds no tensors"),
    ],
)
def test_other_checkpoints_are_refused(checkpoint, says):
    with pytest.raises(ModelError, match=says):
        load(checkpoint())


def test_inter_similarity_equals_the_formula_by_hand():
    query, target = (
        torch.tensor([[1.0, 0.0], [0.0, 2.0]]),
        torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]]),
    )
    scale = 2**-0.5
    first = np.exp(scale * np.array([1, 0, 1]))
    second = np.exp(scale * np.array([0, 2, 2]))
    expected = first / first.sum() + second / second.sum()
    assert inter_similarity(query, target)[0].tolist() == pytest.approx(expected.tolist())
    shown = torch.tensor([True, True, False])
    expected = first[:2] / first[:2].sum() + second[:2] / second[:2].sum()
    assert inter_similarity(query, target, shown)[0].tolist() == pytest.approx(
        [*expected.tolist(), 0]
    )


def test_many_queries_go_in_parts_and_a_reference_given_twice_counts_once():
    torch.manual_seed(0)
    query, target = torch.randn(5000, 4), torch.randn(2, 9, 4)
    by_hand = torch.softmax(query @ target.mT / 2, -1).sum(1)
    torch.testing.assert_close(inter_similarity(query, target), by_hand, atol=1e-2, rtol=1e-4)
    once = match(query, query[:0], target, None, 1)
    torch.testing.assert_close(
        match(query.repeat(2, 1), query[:0], target, None, 2), once, rtol=1e-4, atol=1e-2
    )


def test_background_is_taken_off():
    target = 6 * torch.eye(4)[None]
    objects, background = target[0, [0, 1]], target[0, [1, 2]]
    alone, less = (
        match(objects, objects[:0], target, None, 1)[0],
        match(objects, background, target, None, 1)[0],
    )
    # Cell 1 is asked for by both as much as by either: nothing is left of it.
    assert alone[:2].tolist() == pytest.approx([1, 1], abs=1e-3)
    assert less.tolist() == pytest.approx([1, 0, 0, 0], abs=1e-3)
    nine = match(objects, target[0, [2]].repeat(9, 1), target, None, 1)[0]
    assert nine.tolist() == pytest.approx([1, 1, 0, 0], abs=1e-3)


def test_intra_similarity_equals_the_formula_by_hand():
    intra = IntraSimilarity(2, 1)
    torch.nn.init.zeros_(intra.conv.weight)
    intra.conv.weight.data[0, 3, 1, 1] = 1  # passes on what each cell's row says of cell 3
    similarity, attention = (
        torch.tensor([[0.0, 1.0, 2.0, 3.0]]),
        torch.tensor([0.1, 0.2, 0.3, 0.4]).repeat(1, 4, 1),
    )
    attention[0, 1] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    row = np.array([0.0, 0.2, 0.6, 1.2])
    normal = (row - row.mean()) / np.sqrt(row.var() + 1e-5)
    expected = [normal[3], 0, normal[3], normal[3]]
    with torch.inference_mode():
        assert intra(similarity, attention).flatten().tolist() == pytest.approx(expected, rel=1e-5)
        itself = intra(similarity, None).flatten().tolist()
    row = np.array([0.0, 0.0, 0.0, 3.0])
    assert itself == pytest.approx(
        [0, 0, 0, (row[3] - row.mean()) / np.sqrt(row.var() + 1e-5)], rel=1e-5
    )


def test_cells_are_resized_with_corners_on_corners():
    similarity = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    assert resize_cells(similarity, 3)[0].tolist() == [[0, 0.5, 1], [1, 1.5, 2], [2, 2.5, 3]]


def test_spread_is_attention_times_similarity():
    attention = torch.tensor(
        [[[0.5, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0.25, 0.25, 0.25, 0.25]]]
    )
    similarity = torch.tensor([[1.0, 3.0, 5.0, 7.0]])
    assert spread(similarity, attention).flatten().tolist() == [2, 3, 7, 4]


def test_cells_of_a_mask_are_those_wholly_inside():
    mask = torch.zeros(1, 64, 64)
    mask[0, 8:48, 16:48] = 1  # rows 16-47 of columns 16-47 are whole cells of 16 pixels
    assert whole_cells(mask, 4).reshape(4, 4).nonzero().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]


def test_thin_things_fall_back_to_the_cells_they_cover_best():
    wire = torch.zeros(1, 64, 64)
    wire[0, 20:23] = 1
    wire[0, 20:23, 50:] = 0  # covers only a little of the last cell
    assert whole_cells(wire, 4).reshape(4, 4).nonzero().tolist() == [[1, 0], [1, 1], [1, 2]]
    assert not whole_cells(torch.zeros(1, 64, 64), 4).any()


def test_no_click_is_lost_beside_a_broad_stroke():
    marks = torch.zeros(1, 64, 64)
    marks[0, :32, :32] = 1
    marks[0, 57:60, 57:60] = 1
    assert cells_of_prompt(marks, 4).reshape(4, 4).nonzero().tolist() == [
        [0, 0],
        [0, 1],
        [1, 0],
        [1, 1],
        [3, 3],
    ]


def reference_of(rgb, frame=None, **marks):
    return Prompt(**marks).reference(rgb, frame=frame)


def chain(cells, links):
    """Attention in which a cell attends to itself half, and to the cells linked with it."""
    attention = 0.5 * torch.eye(cells**2)
    for a, b, weight in links:
        attention[a, b] = weight
    return attention[None]


def test_a_click_is_extended_by_its_strongest_positions():
    fit, rgb = Fit(64, 64, 64), torch.zeros(1, 3, 64, 64)
    attention = chain(4, [(5, 6, 0.3), (5, 9, 0.2), (5, 0, 0.1), (15, 9, 0.25), (15, 14, 0.4)])
    click = reference_of(rgb, points=((24, 24, 1),))
    objects, background = query_cells(click, fit, 4, attention, 3)
    assert objects.nonzero().flatten().tolist() == [5, 6, 9]
    assert not background.any()
    assert query_cells(click, fit, 4, attention, 0)[0].nonzero().flatten().tolist() == [5]
    # Cell 9 is attended to by both; more by the background.
    both = reference_of(rgb, points=((24, 24, 1), (60, 60, 0)))
    objects, background = query_cells(both, fit, 4, attention, 3)
    assert objects.nonzero().flatten().tolist() == [5, 6]
    assert background.nonzero().flatten().tolist() == [9, 14, 15]


def test_a_box_marks_what_its_outside_does_not_attend_to():
    fit, rgb = Fit(64, 64, 64), torch.zeros(1, 3, 64, 64)
    box = reference_of(rgb, box=(16, 16, 48, 48))
    objects, background = query_cells(box, fit, 4, chain(4, [(4, 5, 0.3)]), 2)
    assert objects.nonzero().flatten().tolist() == [6, 9, 10]
    assert background.sum() == 12
    everything = chain(4, [(a, b, 0.3) for a, b in ((4, 5), (7, 6), (8, 9), (11, 10))])
    assert query_cells(box, fit, 4, everything, 2)[0].nonzero().flatten().tolist() == [5, 6, 9, 10]


SIZES = [
    (768, 768),
    (1080, 1920),
    (1921, 1081),
    (817, 1961),
    (480, 1148),
    (37, 1001),
    (1001, 301),
    (5, 3),
    (101, 103),
]


def truth(height, width):
    """Return the alpha of a centred disc, whose edge is two pixels of the smaller squares wide.

    Return an image of it, too.
    """
    y, x = np.mgrid[:height, :width] + 0.5
    radius = 0.4 * min(height, width)
    soft = 2 * max(1, max(height, width) / SIDE)
    alpha = np.clip((radius - np.hypot(y - height / 2, x - width / 2)) / soft + 0.5, 0, 1)
    rgb = alpha[None] * np.array([0.9, 0.3, 0.1])[:, None, None] + (1 - alpha[None]) * 0.4
    return torch.from_numpy(alpha[None, None].astype(np.float32)), torch.from_numpy(
        rgb[None].astype(np.float32)
    )


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_frames_come_back_from_their_squares(height, width):
    fit = Fit(height, width, SIDE)
    alpha, _ = truth(height, width)
    squares = fit.to_squares(alpha.expand(2, 3, -1, -1))
    assert squares.shape == (2 * fit.squares, 3, SIDE, SIDE)
    back = fit.assemble(squares[:, :1])
    assert back.shape == (2, 1, *coarse_size(fit))
    # The same scale along both sides: nothing is stretched, but for rounding to whole pixels.
    scale = [coarse_size(fit)[0] / height, coarse_size(fit)[1] / width]
    assert abs(scale[0] - scale[1]) * min(height, width) <= 1
    expected = F.interpolate(alpha, size=coarse_size(fit), mode="bilinear", antialias=True)
    assert (back[:1] - expected).abs().max() < (0.15 if fit.squares == 2 else 1e-5)
    assert (back[:1] - expected).abs().mean() < 0.01


def test_only_very_wide_and_tall_frames_get_two_squares():
    assert [
        Fit(*size, 768).squares for size in ((1080, 1920), (800, 1920), (1920, 800), (1000, 2000))
    ] == [1, 2, 2, 1]
    wide = Fit(800, 1920, 768)
    assert wide.starts == (0, 768)
    assert wide.shown == 1152
    assert coarse_size(wide) == (533, 1280)


@pytest.mark.parametrize(
    ("height", "width"), [(128, 128), (72, 128), (128, 100), (60, 200), (200, 60)]
)
def test_cells_that_show_nothing_take_no_part(height, width):
    fit = Fit(height, width, SIDE)
    valid = fit.valid_cells(FINE)
    shown = fit.to_squares(torch.ones(1, 1, height, width)) == 1  # bars are gray
    expected = F.avg_pool2d(shown.float()[:, 0], SIDE // FINE).flatten() >= 0.5
    assert torch.equal(torch.ones(FINE**2, dtype=torch.bool) if valid is None else valid, expected)


def test_the_picture_begins_at_a_cell():
    for height, width in SIZES:
        shown = Fit(height, width, 768).to_squares(torch.ones(1, 1, height, width))[0, 0] == 1
        rows, columns = shown.any(1).nonzero().min(), shown.any(0).nonzero().min()
        assert rows % 16 == columns % 16 == 0


def test_no_mark_counts_twice():
    fit = Fit(60, 200, SIDE)
    marks = torch.zeros(1, 1, 60, 200)
    marks[..., 20:40, 90:96] = 1
    left, right = fit.prompt_to_squares(marks)
    assert left.sum() > 0
    assert right.sum() == 0


def test_two_squares_fade_into_each_other():
    fit = Fit(60, 200, SIDE)
    squares = torch.stack([torch.zeros(1, SIDE, SIDE), torch.ones(1, SIDE, SIDE)])
    row = fit.assemble(squares)[0, 0, 10]
    assert row[0] == 0
    assert row[-1] == 1
    assert (row.diff() >= 0).all()
    assert row.diff().max() < 0.03


@pytest.mark.parametrize(
    ("height", "width"), [(270, 480), (333, 777), (701, 253), (61, 83), (128, 128)]
)
def test_full_size_edges_are_those_of_the_frame(height, width):
    """Correct squares give a correct frame at any size: better than an enlarged coarse alpha."""
    alpha, rgb = truth(height, width)
    alpha = alpha.clamp(0, 1)
    fit = Fit(height, width, SIDE)
    coarse = fit.assemble(fit.to_squares(alpha.expand(1, 3, -1, -1))[:, :1])
    found = TrainedDecoder(recipe_net(CHANNELS, CELLS)).finish(rgb, coarse)
    assert found.shape == alpha.shape
    enlarged = torch.from_numpy(
        cv2.resize(coarse[0, 0].numpy(), (width, height), interpolation=cv2.INTER_LINEAR)
    )
    assert (found - alpha).abs().mean() <= (enlarged - alpha).abs().mean() + 1e-6
    assert (found - alpha).abs().mean() < 0.004


def batch_of(rgb, first=0):
    frames = tuple(range(first, first + len(rgb)))
    return FrameBatch(rgb, frames, frames, (1,) * len(rgb))


@functools.cache
def shared_sd():
    """Nothing changes it."""
    return tiny_sd()


def model_of(options=None, sd=None):
    sd = sd or shared_sd()
    options = options or IconMattingOptions(ensemble=2)
    return build_iconmatting(
        sd, tiny_checkpoint(), name="tiny", device=CPU, precision=torch.float32, options=options
    )


def mask_of(rgb, frame=0):
    alpha = torch.zeros_like(rgb[:, :1])
    height, width = rgb.shape[-2:]
    alpha[..., height // 4 : 3 * height // 4, width // 3 : 2 * width // 3] = 1
    return Reference(rgb, alpha, torch.ones_like(alpha), frame)


@pytest.fixture(scope="module")
def model():
    return model_of()


@pytest.fixture(scope="module")
def clip():
    return pictures(4, 72, 128, seed=3)


@pytest.fixture(scope="module")
def predictor(model, clip):
    return model.with_reference([mask_of(clip[:1])])


def test_the_interface_is_kept(model, predictor, clip):
    typed: tuple[Model, Predictor] = (model, predictor)
    assert typed[0].name == "tiny"
    assert isinstance(predictor, SupportsGuidance)
    assert predictor.tracker() is None
    assert predictor.shrink(clip[:1]).shape == (1, 3, SIDE, SIDE)
    found = predictor(batch_of(clip))
    assert found.alpha.shape == (4, 1, 72, 128)
    assert 0 < found.alpha.min() < found.alpha.max() < 1
    assert all(0 <= value <= 1 for value in found.confidence)
    assert model.notes == ()


@pytest.mark.parametrize("size", [(72, 128), (131, 67), (61, 200), (200, 61), (9, 7)])
def test_frames_of_any_size_get_their_alpha(model, size):
    rgb = pictures(1, *size)
    found = model.with_reference([mask_of(pictures(1, 90, 77))])(batch_of(rgb))
    assert found.alpha.shape == (1, 1, *size)
    assert bool(torch.isfinite(found.alpha).all())


def test_a_batch_equals_its_frames(predictor, clip):
    together = predictor(batch_of(clip))
    for i in range(len(clip)):
        alone = predictor(batch_of(clip[i : i + 1]))
        torch.testing.assert_close(alone.alpha[0], together.alpha[i], atol=1e-5, rtol=0)
        assert alone.confidence[0] == pytest.approx(together.confidence[i], abs=1e-4)


def test_a_still_clip_does_not_flicker(predictor, clip):
    still = [predictor(batch_of(clip[1:2], first=k)).alpha for k in range(3)]
    assert torch.equal(still[0], still[1])
    assert torch.equal(still[0], still[2])
    # Within a batch, kernels may add up in another order for each place: rounding, less than one
    # 16-bit code.
    together = predictor(batch_of(clip[1:2].expand(3, -1, -1, -1).contiguous())).alpha
    assert together.diff(dim=0).abs().max() < 1e-5


def test_another_run_continues_with_the_same_bits(clip):
    """What was interrupted after two frames goes on as if it had not been."""
    whole = model_of().with_reference([mask_of(clip[:1])])
    wanted = [whole(batch_of(clip[i : i + 1], first=i)).alpha for i in range(4)]
    again = model_of(sd=tiny_sd()).with_reference([mask_of(clip[:1])])
    assert all(
        torch.equal(again(batch_of(clip[i : i + 1], first=i)).alpha, wanted[i]) for i in (2, 3)
    )


def test_several_references_are_one_query(model, clip):
    first, other = mask_of(clip[:1]), mask_of(pictures(1, 100, 60, seed=8), frame=None)
    one, two = model.with_reference([first]), model.with_reference([first, other])
    assert len(two.objects) == len(one.objects) + len(model.with_reference([other]).objects)
    assert not torch.equal(one(batch_of(clip)).alpha, two(batch_of(clip)).alpha)
    twice = model.with_reference([first, first])
    torch.testing.assert_close(
        twice(batch_of(clip)).alpha, one(batch_of(clip)).alpha, atol=1e-5, rtol=0
    )
    limited = model_of(IconMattingOptions(ensemble=2, references=1)).with_reference([first, other])
    torch.testing.assert_close(
        limited(batch_of(clip)).alpha, one(batch_of(clip)).alpha, atol=1e-6, rtol=0
    )
    with pytest.raises(ValueError, match="at least one"):
        model.with_reference([])


@pytest.mark.parametrize(
    "marks",
    [
        {"points": ((64, 36, 1),)},
        {"points": ((64, 36, 1), (5, 5, 0))},
        {"box": (30, 20, 90, 60)},
        {"box": (30, 20, 90, 60), "points": ((64, 36, 1),)},
    ],
)
def test_marks_make_a_query(model, clip, marks):
    predictor = model.with_reference([reference_of(clip[:1], frame=0, **marks)])
    assert 0 < len(predictor.objects) < FINE**2
    assert (len(predictor.background) > 0) == ("box" in marks or len(marks["points"]) > 1)
    found = predictor(batch_of(clip[:1]))
    assert found.alpha.shape == (1, 1, 72, 128)


def test_marks_in_either_square_of_a_wide_reference(model):
    rgb = pictures(1, 60, 200)
    left, right = (
        model.with_reference([reference_of(rgb, points=((x, 30, 1),))]) for x in (20, 180)
    )
    assert len(left.objects) > 0
    assert len(right.objects) > 0
    assert not torch.equal(left.objects, right.objects)


@pytest.mark.parametrize(
    "change",
    [
        {"inter": False},
        {"intra": False},
        {"multi_scale": False},
        {"time_step": 0},
        {"ensemble": 1},
        {"seed": 1},
    ],
)
def test_every_ablation_changes_the_matte(predictor, clip, change):
    options = IconMattingOptions(**{"ensemble": 2, **change})
    found = model_of(options).with_reference([mask_of(clip[:1])])(batch_of(clip[:1]))
    assert not torch.equal(found.alpha, predictor(batch_of(clip[:1])).alpha)
    assert bool(torch.isfinite(found.alpha).all())


@pytest.mark.parametrize(
    "change", [{"references": 0}, {"positions": -1}, {"at_once": 0}, {"ensemble": 0}]
)
def test_options_out_of_range_are_refused(change):
    with pytest.raises(OptionError, match="is not valid"):
        IconMattingOptions(**change)


def test_guidance_is_shown_over_the_whole_frame(model, predictor):
    for size in ((72, 128), (61, 200)):
        maps = predictor.guidance(batch_of(pictures(2, *size)))
        assert sorted(maps) == ["inter_similarity", "intra_similarity"]
        for map_ in maps.values():
            assert map_.shape == (2, 1, *coarse_size(Fit(*size, SIDE)))
            assert map_.amin((1, 2, 3)).tolist() == [0, 0]
            assert map_.amax((1, 2, 3)).tolist() == [1, 1]


def test_confidence_is_the_share_of_similarity_inside_the_matte(predictor):
    fit, side = Fit(SIDE, SIDE, SIDE), SIDE // FINE
    alpha = torch.zeros(3, 1, SIDE, SIDE)
    alpha[:2, :, : 2 * side] = 1  # a quarter of the frame
    similarity = torch.zeros(3, FINE**2)
    similarity[0, : 2 * FINE], similarity[1], similarity[2] = 1, 1, 1
    found = predictor._confidence(alpha, similarity, fit, FINE)
    # All inside; as much as chance; no matte.
    assert found.tolist() == pytest.approx([1, 0.05 * 0.25 / (0.75 + 0.05 * 0.25), 0])


def out_of_memory(sd, limit):
    """Let the U-Net fail for batches above a limit, as a full device does; return those tried."""
    tried = []

    def fail(_, args):
        tried.append(len(args[0]))
        if len(args[0]) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    sd._unet.register_forward_pre_hook(fail)
    return tried


def test_out_of_memory_halves_the_batch_and_says_so_once(clip, predictor):
    sd = tiny_sd()
    model = model_of(IconMattingOptions(ensemble=2), sd)
    small = model.with_reference([mask_of(clip[:1])])
    tried = out_of_memory(sd, 3)
    found = small(batch_of(clip))
    assert tried == [8, 4, 2, 2, 2, 2]
    torch.testing.assert_close(found.alpha, predictor(batch_of(clip)).alpha, atol=1e-5, rtol=0)
    small(batch_of(clip))
    assert tried[6:] == [2, 2, 2, 2]
    assert model.notes == (
        "memory ran out: 2 noisy images went through the network together instead of 8",
    )


class NotCompiled(StableDiffusion):
    """Answers `compiled` with itself, so that batch sizes can be watched."""

    def compiled(self):
        return self


def test_a_compiled_network_sees_as_few_batch_sizes_as_possible(clip, predictor):
    sd = NotCompiled.from_parts(*tiny_parts())
    model = model_of(IconMattingOptions(ensemble=2, compile=True), sd)
    compiled = model.with_reference([mask_of(clip[:1])])
    tried = out_of_memory(sd, 100)
    whole = compiled(batch_of(clip))
    last = compiled(batch_of(clip[:3]))
    # The last batch of a clip has the size of the others: no compilation for it.
    assert tried == [8, 8]
    assert last.alpha.shape[0] == len(last.confidence) == 3
    torch.testing.assert_close(last.alpha, whole.alpha[:3], atol=1e-5, rtol=0)
    assert compiled.guidance(batch_of(clip[:1]))["inter_similarity"].shape[0] == 1
    assert tried == [8, 8, 8]


def test_after_memory_ran_out_a_compiled_network_sees_one_size(clip):
    sd = NotCompiled.from_parts(*tiny_parts())
    model = model_of(IconMattingOptions(ensemble=1, compile=True), sd)
    compiled = model.with_reference([mask_of(clip[:1])])
    tried = out_of_memory(sd, 2)
    assert compiled(batch_of(torch.cat([clip, clip[:3]]))).alpha.shape[0] == 7
    # 7 and 3 fail, then there is one image at a time.
    assert tried == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    tried.clear()
    model._limit.most = 2
    assert compiled(batch_of(clip[:3])).alpha.shape[0] == 3
    assert tried == [2, 2]


def test_autocast_covers_the_head_and_not_stable_diffusion(clip):
    sd = StableDiffusion.from_parts(*tiny_parts(), dtype=torch.bfloat16)
    seen = {"unet": [], "head": []}
    sd._unet.register_forward_pre_hook(
        lambda *_: seen["unet"].append(torch.is_autocast_enabled("cpu"))
    )
    options = IconMattingOptions(ensemble=1)
    model = build_iconmatting(
        sd, tiny_checkpoint(), name="tiny", device=CPU, precision=torch.bfloat16, options=options
    )
    head = model.decoder.net
    head.register_forward_pre_hook(lambda *_: seen["head"].append(torch.is_autocast_enabled("cpu")))
    model.with_reference([mask_of(clip[:1])])(batch_of(clip[:1]))
    # A reference and a target through the U-Net, a target through the head.
    assert seen == {"unet": [False, False], "head": [True]}


def test_out_of_memory_halves_the_batch_down_to_one_noise_of_one_image(clip, predictor):
    sd = tiny_sd()
    model = model_of(IconMattingOptions(ensemble=2), sd)
    tried = out_of_memory(sd, 1)
    found = model.with_reference([mask_of(clip[:1])])(batch_of(clip[:2]))
    assert tried == [2, 1, 1, 1, 1, 1, 1]
    torch.testing.assert_close(found.alpha, predictor(batch_of(clip[:2])).alpha, atol=1e-5, rtol=0)


def test_too_little_memory_for_one_image_is_an_error(clip):
    sd = tiny_sd()
    out_of_memory(sd, 0)
    with pytest.raises(ModelError, match="too little free memory"):
        model_of(sd=sd).with_reference([mask_of(clip[:1])])


def test_other_errors_of_the_network_are_not_hidden(clip):
    sd = tiny_sd()

    def fail(*_):
        raise RuntimeError("something else")

    sd._unet.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="something else"):
        model_of(sd=sd).with_reference([mask_of(clip[:1])])


def test_numbers_out_of_range_are_an_error(clip, model):
    predictor = model.with_reference([mask_of(clip[:1])])
    broken = predictor.__class__(
        predictor.model, torch.full_like(predictor.objects, torch.inf), predictor.background, 1
    )
    with pytest.raises(ModelError, match="out of range in float32"):
        broken(batch_of(clip[:1]))


def test_half_precision_is_near(clip, predictor):
    sd = StableDiffusion.from_parts(*tiny_parts(), dtype=torch.bfloat16)
    options = IconMattingOptions(ensemble=2)
    half = build_iconmatting(
        sd, tiny_checkpoint(), name="half", device=CPU, precision=torch.bfloat16, options=options
    ).with_reference([mask_of(clip[:1])])
    found = half(batch_of(clip[:1])).alpha
    assert found.dtype == torch.float32
    assert (found - predictor(batch_of(clip[:1])).alpha).abs().mean() < 0.02


def test_parts_in_another_precision_are_a_bug_of_the_caller():
    with pytest.raises(ValueError, match="bfloat16"):
        build_iconmatting(
            shared_sd(), tiny_checkpoint(), name="x", device=CPU, precision=torch.bfloat16
        )


def free_model(finish, **options):
    return build_iconmatting_free(
        shared_sd(),
        finish,
        name="free",
        device=CPU,
        precision=torch.float32,
        options=IconMattingOptions(ensemble=2, **options),
    )


@pytest.mark.parametrize("size", [(72, 128), (61, 200)])
def test_the_free_variant_hands_on_a_trimap(clip, size):
    asked = []

    def finish(rgb, trimap):
        asked.append((rgb, trimap))
        return trimap * 0.5

    rgb = pictures(2, *size)
    model = free_model(finish)
    predictor = model.with_reference([mask_of(clip[:1])])
    assert isinstance(predictor, SupportsGuidance)
    found = predictor(batch_of(rgb))
    assert [tuple(image.shape) for image, _ in asked] == [(1, 3, *size)] * 2
    assert torch.equal(asked[1][0], rgb[1:])
    trimaps = torch.cat([trimap for _, trimap in asked])
    assert trimaps.shape == (2, 1, *size)
    assert set(trimaps.unique().tolist()) <= {0, 0.5, 1}
    assert torch.equal(found.alpha, trimaps * 0.5)


def test_free_guidance_is_full_on_what_is_asked_for():
    """Attention within two halves of the image: similarity of a few cells fills only their half."""
    half = torch.arange(FINE**2) % FINE < FINE // 2
    fine = torch.where(half[:, None] == half[None], 2.0 / FINE**2, 0.0)[None]
    half = torch.arange(COARSE**2) % COARSE < COARSE // 2
    coarse = torch.where(half[:, None] == half[None], 2.0 / COARSE**2, 0.0)[None]
    features = InContextFeatures(
        torch.zeros(1, 3, COARSE, COARSE), torch.zeros(1, 3, FINE, FINE), coarse, fine
    )
    similarity = torch.zeros(1, FINE**2)
    similarity[0, : FINE // 2] = FINE
    decoder = TrainingFreeDecoder(lambda rgb, trimap: trimap)
    guided = decoder(
        torch.zeros(1, 3, SIDE, SIDE), features, similarity, intra=True, multi_scale=False
    ).alpha
    cell = SIDE // FINE
    assert (guided[..., : SIDE // 2 - cell] == 1).all()
    assert (guided[..., SIDE // 2 + cell :] == 0).all()
    both = decoder(
        torch.zeros(1, 3, SIDE, SIDE), features, similarity, intra=True, multi_scale=True
    )
    assert both.intra_similarity.shape == (1, FINE, FINE)
    alone = decoder(
        torch.zeros(1, 3, SIDE, SIDE), features, similarity, intra=False, multi_scale=True
    ).intra_similarity
    assert torch.equal(alone.flatten(), similarity.flatten())


def test_a_clip_goes_through_the_whole_flow(tmp_path, monkeypatch, movie):
    """The pipeline takes this model like any other: clip and click in, mattes of all frames out."""
    import vidmatte

    monkeypatch.setattr("vidmatte.pipeline.models.load_model", lambda *args, **choices: model_of())
    target = tmp_path / "alpha.mkv"
    prompt = vidmatte.Prompt(frame=5, points=((80, 48, 1),))
    summary = vidmatte.matte(movie, prompt, alpha=target)
    assert summary.frames == 12
    with vidmatte.open_video(target) as video:
        assert video.count_frames() == 12
        assert video.info.frame_rate == Fraction(25)


# --- the research code --------------------------------------------------------------------------


RESEARCH = IconMattingOptions(ensemble=2, seed=7, fit="crop", noise="fresh", vae="sample")


def research_square(codes):
    """Return the middle of an 8-bit image (H, W, C), resized linearly as by the research code."""
    height, width = codes.shape[:2]
    if height > width:
        margin = (height - width) // 2
        codes = codes[margin : margin + width]
    elif width > height:
        margin = (width - height) // 2
        codes = codes[:, margin : margin + height]
    return cv2.resize(codes, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)


def research_features(square, draw):
    """Return features of a square by diffusers' own parts: new latents and noise per member."""
    unet, vae, scheduler, prompt = tiny_parts()
    seen, projected = watched(unet)
    image = torch.from_numpy(square).permute(2, 0, 1)[None].float() / 127.5 - 1
    repeated = image.repeat(RESEARCH.ensemble, 1, 1, 1)
    distribution = vae.encode(repeated).latent_dist
    latents = (
        distribution.mean + distribution.std * draw(distribution.mean.shape)
    ) * vae.config.scaling_factor
    noisy = DDIMScheduler(**scheduler).add_noise(
        latents, draw(latents.shape), torch.tensor(RESEARCH.time_step)
    )
    unet(noisy, RESEARCH.time_step, prompt.expand(len(noisy), -1, -1))
    coarse, fine = (seen[f"up_blocks.{i}"].mean(0, keepdim=True) for i in range(2))
    maps = [attention_by_hand(projected, cells**2, 1)[0].float() for cells in (COARSE, FINE)]
    return InContextFeatures(coarse, fine, *maps)


@pytest.mark.parametrize("size", [(SIDE, SIDE), (150, 260), (200, 131), (60, 97)])
@torch.inference_mode()
def test_settings_reproduce_the_research_code_on_any_shape(size):
    codes = [(pictures(1, *size, seed=seed)[0] * 255).round().byte() for seed in (1, 2)]
    reference_rgb, target_rgb = (image[None].float() / 255 for image in codes)
    alpha = mask_of(reference_rgb).alpha
    # What the research code does, with its order of random numbers.
    generator = torch.Generator().manual_seed(RESEARCH.seed)
    draw = lambda shape: torch.randn(shape, generator=generator)  # noqa: E731
    squares = [research_square(image.permute(1, 2, 0).numpy()) for image in codes]
    reference, target = (research_features(square, draw) for square in squares)
    net = load(tiny_checkpoint())
    guidance = torch.from_numpy(research_square(alpha[0, 0].numpy()))
    marked = -F.max_pool2d(-(guidance[None, None] > 0).float(), SIDE // FINE).flatten() > 0
    query = net.tokens(reference)[0][marked]
    logits = query @ net.tokens(target)[0].T / CHANNELS**0.5
    similarity = logits.softmax(-1).sum(0)[None]
    image = torch.from_numpy(squares[1]).permute(2, 0, 1)[None].float() / 255
    expected = net(image, target, similarity).alpha
    # The same by our settings.
    model = model_of(RESEARCH)
    predictor = model.with_reference([Reference(reference_rgb, alpha, torch.ones_like(alpha))])
    (coarse,) = predictor._coarse(target_rgb)
    assert (coarse.alpha - expected[0, 0]).abs().max() < 1e-4
    # At full size it covers the middle of the frame, and nothing else.
    full = predictor.finish(target_rgb, coarse)
    height, width = size
    side = min(size)
    top, left = (height - side) // 2, (width - side) // 2
    middle = full[..., top : top + side, left : left + side]
    wanted = F.interpolate(expected, size=(side, side), mode="bilinear", align_corners=False)
    assert (middle - wanted).abs().max() < 1e-4
    assert torch.count_nonzero(full) == torch.count_nonzero(middle)


def test_stretched_frames_come_back_to_their_shape():
    rgb = pictures(1, 60, 97)
    predictor = model_of(IconMattingOptions(ensemble=1, fit="stretch")).with_reference(
        [mask_of(rgb)]
    )
    assert predictor.shrink(rgb).shape == (1, 3, SIDE, SIDE)
    found = predictor(batch_of(rgb))
    assert found.alpha.shape == (1, 1, 60, 97)
    assert found.alpha.min() > 0


def test_fresh_noise_differs_by_frame_and_repeats_from_its_seed():
    rgb = pictures(1, 64, 64).expand(2, -1, -1, -1)
    model = model_of(IconMattingOptions(ensemble=1, noise="fresh"))
    first = model.with_reference([mask_of(rgb[:1])])(batch_of(rgb)).alpha
    assert not torch.equal(first[0], first[1])
    again = model.with_reference([mask_of(rgb[:1])])
    one_by_one = [again(batch_of(rgb[n : n + 1], n)).alpha[0] for n in range(2)]
    assert torch.equal(first, torch.stack(one_by_one))


def test_guidance_of_a_cut_frame_covers_the_whole_frame():
    rgb = pictures(1, 60, 120)
    predictor = model_of(IconMattingOptions(ensemble=1, fit="crop")).with_reference([mask_of(rgb)])
    shown = predictor.guidance(batch_of(rgb))["inter_similarity"]
    assert shown.shape[-1] == 2 * shown.shape[-2]


@pytest.mark.parametrize("text", ["fit=tiles", "noise=none", "vae=mean"])
def test_unknown_choices_of_the_research_code_are_refused(text):
    name, value = text.split("=")
    with pytest.raises(OptionError, match=f"{name} '{value}' is not valid: choose one of"):
        as_options(IconMattingOptions, parse_settings(text))
