"""SAM (Kirillov et al., ICCV 2023): a mask from points or a box, by `SamModel` of transformers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidmatte.model.baselines.images import inference, normalised, resized
from vidmatte.model.baselines.prompts import PointPrompt


@dataclass(frozen=True)
class Sam:
    """A loaded SAM, called with an image and a prompt."""

    net: nn.Module
    device: torch.device
    precision: torch.dtype

    def __call__(self, rgb: Tensor, prompt: PointPrompt) -> tuple[Tensor, float]:
        """Return the mask with the best score among the three of the network.

        Args:
            rgb: (1, 3, H, W) 0-1.

        Returns:
            The probability of the object (h, w) float32 over the whole image, at a smaller size,
            and the overlap with the true mask expected by the network, 0..1.
        """
        side: int = self.net.config.vision_config.image_size  # type: ignore[union-attr,assignment]
        scale = side / max(rgb.shape[-2:])
        # As SAM's own preprocessing rounds.
        height, width = (max(1, int(length * scale + 0.5)) for length in rgb.shape[-2:])
        size = torch.tensor([width, height], dtype=torch.float32)
        # Shares of the image become pixels of the resized one.
        points = torch.from_numpy(prompt.points) * size
        given: dict[str, Tensor] = {}
        if len(points):
            given["input_points"] = points[None, None].to(self.device)
            given["input_labels"] = torch.from_numpy(prompt.labels)[None, None].to(self.device)
        if prompt.box is not None:
            corners = torch.tensor(prompt.box) * size.repeat(2)
            given["input_boxes"] = corners[None, None].to(self.device)
        with inference(self.device, self.precision, f"SAM on {width}x{height} pixels"):
            image = normalised(resized(rgb.to(self.device), (height, width)))
            # Padded with zeros after normalisation, as in training.
            seen = self.net(pixel_values=F.pad(image, (0, side - width, 0, side - height)), **given)
            scores, logits = seen.iou_scores[0, 0].float(), seen.pred_masks[0, 0].float()
            # SAM proposes three masks, of part, object and whole.
            best = int(scores.argmax())
            # The padding was on the right and below.
            cells = logits.shape[-1]
            shown = logits[best, : -(-height * cells // side), : -(-width * cells // side)]
        return shown.sigmoid().cpu().clone(), float(scores[best].clamp(0, 1))
