"""Despill: takes the light of a green or blue screen out of the foreground's colour.

The screen's channel is limited to the mean of the other two. The light taken away is
added as gray to keep luma (for green; blue likewise):

    spill = strength max(0, G - (R + B) / 2)
    G' = G - spill + w spill,   R' = R + w spill,   B' = B + w spill

with w the BT.709 luma weight of the channel (0.7152 green, 0.0722 blue). Limiting by the average
is the despill of Wright, "Digital Compositing for Film and Video", chapter "Despill". Colours
no greener than the mean of red and blue are unchanged. Colour is display-referred and
straight, as keyers take it.
"""

from __future__ import annotations

from torch import Tensor

from vidmatte.options import Despill

_CHANNEL = {"green": 1, "blue": 2}
_LUMA = {"green": 0.7152, "blue": 0.0722}


def despill(color: Tensor, despill: Despill) -> Tensor:
    """Return colour without the light of the screen.

    Args:
        color: (N, 3, H, W) straight display-referred RGB in 0..1.
        despill: The screen and the strength.

    Returns:
        (N, 3, H, W) in 0..1. Luma is kept unless a channel would exceed 1.
    """
    channel, weight = _CHANNEL[despill.screen], _LUMA[despill.screen]
    others = [color[:, c] for c in range(3) if c != channel]
    spill = (color[:, channel] - (others[0] + others[1]) / 2).clamp_(min=0).mul_(despill.strength)
    result = color + weight * spill[:, None]
    result[:, channel] -= spill
    return result.clamp_(0, 1)
