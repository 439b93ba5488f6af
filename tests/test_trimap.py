"""Trimaps worked out by hand."""

import pytest
import torch

from vidmatte.errors import OptionError
from vidmatte.model.trimap import make_trimap


def plane(rows):
    return torch.tensor(rows, dtype=torch.float32)[None, None]


def test_thresholds_alone_make_a_trimap():
    alpha = plane([[0.0, 0.1, 0.11], [0.5, 0.89, 0.9], [0.91, 1.0, float("nan")]])
    expected = plane([[0, 0, 0.5], [0.5, 0.5, 1], [1, 1, 0.5]])
    assert torch.equal(make_trimap(alpha, inside=0, outside=0), expected)
    strict = make_trimap(alpha, low=0, high=1, inside=0, outside=0)
    assert torch.equal(strict, plane([[0, 0.5, 0.5], [0.5, 0.5, 0.5], [0.5, 1, 0.5]]))


def test_bands_are_shares_of_the_longer_side():
    # Ten columns: object on the left five. One tenth is one pixel on either side of the edge.
    alpha = plane([[1.0] * 5 + [0.0] * 5] * 4)
    assert make_trimap(alpha, inside=0.1, outside=0.1)[0, 0, 2].tolist() == [
        1,
        1,
        1,
        1,
        0.5,
        0.5,
        0,
        0,
        0,
        0,
    ]
    assert make_trimap(alpha, inside=0.2, outside=0.1)[0, 0, 2].tolist() == [
        1,
        1,
        1,
        0.5,
        0.5,
        0.5,
        0,
        0,
        0,
        0,
    ]
    assert make_trimap(alpha, inside=0, outside=0.3)[0, 0, 2].tolist() == [
        1,
        1,
        1,
        1,
        1,
        0.5,
        0.5,
        0.5,
        0,
        0,
    ]
    # The same picture at twice the size has the same band, twice as wide in pixels.
    twice = make_trimap(
        alpha.repeat_interleave(2, -1).repeat_interleave(2, -2), inside=0.1, outside=0.1
    )
    assert twice[0, 0, 4].tolist() == [1] * 8 + [0.5] * 4 + [0] * 8


def test_distances_are_euclidean():
    # One background pixel in an object of 9 x 9. Within 2.3 pixels of it lie all offsets up to (1,
    # 2), not (2, 2).
    alpha = torch.ones(1, 1, 9, 9)
    alpha[..., 4, 4] = 0
    near = (make_trimap(alpha, inside=2.3 / 9, outside=0)[0, 0] != 1).nonzero() - 4
    assert {tuple(offset) for offset in near.tolist()} == {
        (y, x) for y in range(-2, 3) for x in range(-2, 3) if (abs(y), abs(x)) != (2, 2)
    }


def test_the_edge_of_the_image_is_no_edge_of_the_object():
    assert make_trimap(torch.ones(1, 1, 6, 8), inside=0.25, outside=0.25).eq(1).all()
    assert make_trimap(torch.zeros(1, 1, 6, 8), inside=0.25, outside=0.25).eq(0).all()


def test_thin_pieces_keep_a_core():
    alpha = torch.zeros(1, 1, 40, 40)
    alpha[..., 3:23, 3:23] = 1  # ten deep in the middle, so that four may go
    alpha[..., 30:33, 2:38] = 1  # a wire three pixels thick
    alpha[..., 25, 25] = 1  # a single pixel
    trimap = make_trimap(alpha, inside=0.1, outside=0.05)[0, 0]
    # The square loses four pixels all around.
    assert trimap[3:23, 12].tolist() == [0.5] * 4 + [1] * 12 + [0.5] * 4
    # The wire is two deep in the middle, and eroded by one.
    assert trimap[29:34, 20].tolist() == [0.5, 0.5, 1, 0.5, 0.5]
    assert trimap[25, 25] == 1


def test_every_frame_gets_its_own_trimap():
    alpha = torch.rand(3, 1, 20, 30, generator=torch.Generator().manual_seed(0))
    together = make_trimap(alpha, inside=0.05)
    assert together.shape == alpha.shape
    assert together.dtype == torch.float32
    for n in range(3):
        assert torch.equal(together[n : n + 1], make_trimap(alpha[n : n + 1], inside=0.05))


@pytest.mark.parametrize(
    "choice",
    [{"low": 0.9, "high": 0.1}, {"high": 1.1}, {"low": -0.1}, {"inside": -0.01}, {"outside": 0.6}],
)
def test_wrong_choices_are_refused(choice):
    with pytest.raises(OptionError):
        make_trimap(torch.zeros(1, 1, 4, 4), **choice)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="must be"):
        make_trimap(torch.zeros(4, 4))
