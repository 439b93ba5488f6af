"""In-context features: one pass of Stable Diffusion 2.1 over a noisy image.

IconMatting (Guo et al., CVPR 2024), section 3.3 with its released configuration: the image becomes
a latent, noise of one time step is added, and the U-Net runs once with the embedding of the empty
prompt. The features are the outputs of its first two up-blocks and the self-attention maps of all
layers at those two sizes, averaged over an ensemble of noises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from vidmatte.errors import OptionError
from vidmatte.model.iconmatting.attention import AttentionTape, TapedAttention, split_heads
from vidmatte.model.iconmatting.sd_layout import (
    latent_scale,
    read_folder,
    read_single_file,
    refuse_other_layouts,
)

Role = Literal["target", "reference"]
LatentKind = Literal["mode", "sample"]
"""Value of the latent's distribution: the most likely one, or a random one."""
TIME_STEPS = 1000
_LARGEST_ENSEMBLE = 64
_LARGEST_SEED = (1 << 31) - 1


@dataclass(frozen=True)
class FeatureSettings:
    """Settings of the features."""

    time_step: int = 200
    """0 (no noise) to 999. 200 is best in the paper (table 8), and the released configuration's."""
    ensemble: int = 4
    """Number of noises to average features over."""
    seed: int = 0
    """Seed of the noises, the same for all frames of all clips."""
    vae: LatentKind = "mode"
    """The research code draws a sample of the latent for each noise."""

    def __post_init__(self) -> None:
        if not 0 <= self.time_step < TIME_STEPS:
            raise OptionError(
                f"time step {self.time_step} is not valid: it must be 0 to {TIME_STEPS - 1}"
            )
        if not 1 <= self.ensemble <= _LARGEST_ENSEMBLE:
            raise OptionError(
                f"ensemble of {self.ensemble} is not valid: it must be 1 to {_LARGEST_ENSEMBLE}"
            )
        if not 0 <= self.seed <= _LARGEST_SEED:
            raise OptionError(f"seed {self.seed} is not valid: it must be 0 to {_LARGEST_SEED}")

    def noise(self, role: Role, shape: tuple[int, int, int]) -> Tensor:
        """Return (ensemble, *shape) standard normal float32, the same bits each time.

        A smaller ensemble is the start of a larger one. References have another noise than targets,
        as in training: with the same noise, equal positions would match because of it.
        """
        return self._drawn(role, shape)[: self.ensemble]

    def samples(self, role: Role, shape: tuple[int, int, int]) -> Tensor:
        """Return the numbers to sample latents with: those after `noise` in the same stream."""
        return self._drawn(role, shape)[self.ensemble :]

    def _drawn(self, role: Role, shape: tuple[int, int, int]) -> Tensor:
        # The generator uses 32 bits of the seed, enough for two streams for each.
        stream = torch.Generator().manual_seed(2 * self.seed + (role == "reference"))
        # One sequence, so the noises are the same with and without sampled latents.
        count = self.ensemble * (2 if self.vae == "sample" else 1)
        return torch.stack([torch.randn(shape, generator=stream) for _ in range(count)])


@dataclass(frozen=True)
class InContextFeatures:
    """Features of N images. A cell is 1/24 (coarse) or 1/48 (fine) of the side of 768 pixels."""

    coarse: Tensor
    """(N, 1280, 24, 24) float32, output of up-block 0."""
    fine: Tensor
    """(N, 1280, 48, 48) float32, output of up-block 1, for matching images."""
    coarse_attention: Tensor | None = None
    """(N, 576, 576) float32: how much each cell (second axis) attends to each (third), or None."""
    fine_attention: Tensor | None = None
    """(N, 2304, 2304) float32, likewise."""

    @property
    def cells(self) -> int:
        """Fine cells along the side of the image."""
        return self.fine.shape[-1]

    @classmethod
    def cat(cls, parts: Sequence[InContextFeatures]) -> InContextFeatures:
        """Join the features of several batches."""
        maps = [(p.coarse_attention, p.fine_attention) for p in parts]
        coarse = torch.cat([p.coarse for p in parts])
        fine = torch.cat([p.fine for p in parts])
        coarse_attention, fine_attention = (
            [x for x in column if x is not None] for column in zip(*maps, strict=True)
        )
        if not coarse_attention:
            return cls(coarse, fine)
        return cls(coarse, fine, torch.cat(coarse_attention), torch.cat(fine_attention))


class LatentEncoder(nn.Module):
    """The encoder of the autoencoder; returns the distribution of the latent."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.encoder = vae.encoder
        self.quant_conv = vae.quant_conv
        self.scale = latent_scale(vae.config)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images (N, 3, S, S) in -1..1.

        Returns:
            Mode and standard deviation of the latent, (N, 4, S/8, S/8), of about unit variance.
        """
        mean, log_variance = self.quant_conv(self.encoder(image)).chunk(2, 1)
        # The limits are those of diffusers' own distribution.
        deviation = torch.exp(0.5 * log_variance.clamp(-30, 20))
        return mean * self.scale, deviation * self.scale


class TruncatedUnet(nn.Module):
    """The U-Net up to the last required block, without the rest.

    Features need up-blocks 0 and 1. Maps also need the attention of up-block 2, with a wanted
    number of cells, up to the queries and keys of its last layer. Up-block 3, at four times as many
    cells, is 29 % of the arithmetic of a full run.
    """

    def __init__(self, unet: Any) -> None:
        super().__init__()
        unet.set_attn_processor(TapedAttention())
        self.time_proj = unet.time_proj
        self.time_embedding = unet.time_embedding
        self.conv_in = unet.conv_in
        self.down_blocks = unet.down_blocks
        self.mid_block = unet.mid_block
        # The last up-block is not needed; of the third one only the attention layers are.
        self.up_blocks = unet.up_blocks[:2]
        self.last_resnets = unet.up_blocks[2].resnets
        self.last_attentions = unet.up_blocks[2].attentions

    def forward(
        self, latent: Tensor, time_step: Tensor, prompt: Tensor, tape: AttentionTape | None
    ) -> tuple[Tensor, Tensor]:
        """Run once.

        Args:
            latent: (B, 4, h, w), noisy.
            time_step: (1,) integer.
            prompt: (1, L, D) embedding of the prompt.
            tape: takes the self-attention maps; None leaves the U-Net after up-block 1.

        Returns:
            Outputs of up-blocks 0 and 1, (B, C, h/4, w/4) and (B, C, h/2, w/2).
        """
        time = self.time_embedding(self.time_proj(time_step).to(latent.dtype)).expand(
            len(latent), -1
        )
        context = {
            "encoder_hidden_states": prompt.expand(len(latent), -1, -1),
            "cross_attention_kwargs": {"tape": tape},
        }
        x = self.conv_in(latent)
        skips = [x]
        for block in self.down_blocks:
            x, outputs = block(x, time, **_if_it_attends(block, context))
            skips.extend(outputs)
        x = self.mid_block(x, time, **context)
        outputs = []
        for block in self.up_blocks:
            # Each resnet of an up-block takes one skip connection, from the end of the list.
            taken = len(block.resnets)
            skips, skipped = skips[:-taken], tuple(skips[-taken:])
            x = block(x, skipped, time, **_if_it_attends(block, context))
            outputs.append(x)
        if tape is not None:
            self._record_last(x, skips, time, context, tape)
        return outputs[0], outputs[1]

    def _record_last(
        self,
        x: Tensor,
        skips: list[Tensor],
        time: Tensor,
        context: Mapping[str, Any],
        tape: AttentionTape,
    ) -> None:
        """Run up-block 2 as far as the queries and keys of its last self-attention."""
        last = len(self.last_resnets) - 1
        for i, (resnet, transformer) in enumerate(
            zip(self.last_resnets, self.last_attentions, strict=True)
        ):
            x = resnet(torch.cat([x, skips[-1 - i]], 1), time)
            if i < last:
                x = transformer(x, **context, return_dict=False)[0]
        tokens = transformer.proj_in(transformer.norm(x).flatten(2).mT)
        block = transformer.transformer_blocks[0]
        tokens = block.norm1(tokens)
        tape.record(
            *(
                split_heads(project(tokens), block.attn1.heads)
                for project in (block.attn1.to_q, block.attn1.to_k)
            )
        )


class StableDiffusion:
    """The frozen part of IconMatting: images in, in-context features out."""

    def __init__(
        self,
        encoder: nn.Module,
        unet: nn.Module,
        signal: Tensor,
        prompt: Tensor,
        latent_shape: tuple[int, int, int],
        channels: int,
    ) -> None:
        self._encoder = encoder
        self._unet = unet
        self._signal = signal
        self._prompt = prompt
        self._latent_shape = latent_shape
        self._noises: dict[tuple[str, FeatureSettings, Role], Tensor] = {}
        self.device = prompt.device
        self.dtype = prompt.dtype
        self.side = 8 * latent_shape[-1]
        """Side of its square images in pixels: 768."""
        self.coarse_cells = latent_shape[-1] // 4
        self.fine_cells = latent_shape[-1] // 2
        self.channels = channels
        """Of the features."""

    @classmethod
    def from_parts(
        cls,
        unet: Any,
        vae: Any,
        scheduler_config: Mapping[str, Any],
        empty_prompt: Tensor,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> StableDiffusion:
        """Build from diffusers' models; these must not be used again.

        Args:
            unet: a UNet2DConditionModel.
            vae: an AutoencoderKL.
            scheduler_config: of any of diffusers' schedulers.
            empty_prompt: (1, L, D) output of the text encoder for "".
            device, dtype: to compute on and in.

        Raises:
            ModelError: not a v-predicting Stable Diffusion 2, or weights with NaN.
        """
        signal = refuse_other_layouts(unet, vae, scheduler_config, empty_prompt)
        encoder = LatentEncoder(vae)
        truncated = TruncatedUnet(unet)
        for part in (encoder, truncated):
            part.requires_grad_(False).eval().to(device, dtype)
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # missing in torch's annotations
        shape = (unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
        channels = unet.config.block_out_channels[-2]
        return cls(encoder, truncated, signal, empty_prompt.to(device, dtype), shape, channels)

    @classmethod
    def from_folder(
        cls,
        path: Path,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        empty_prompt: Tensor | None = None,
    ) -> StableDiffusion:
        """Load a folder of diffusers' layout: `unet`, `vae`, `scheduler`, weights as safetensors.

        `empty_prompt` (1, 77, 1024) is the embedding of the empty prompt, see `embed_empty_prompt`;
        None computes it from the folder's `text_encoder`. Raises ModelError if parts are missing or
        do not fit.
        """
        parts = read_folder(Path(path), dtype, empty_prompt)
        return cls.from_parts(*parts, device=device, dtype=dtype)

    @classmethod
    def from_single_file(
        cls,
        path: Path,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        empty_prompt: Tensor | None = None,
    ) -> StableDiffusion:
        """Load a safetensors file of the original layout, such as v2-1_768-ema-pruned.safetensors.

        Such a file has no configuration. A trial run tells whether it predicts v, or noise as the
        512 base model. `empty_prompt` as in `from_folder`; None computes it from the text encoder
        in the file.
        """
        parts = read_single_file(Path(path), dtype, empty_prompt)
        return cls.from_parts(*parts, device=device, dtype=dtype)

    def compiled(self) -> StableDiffusion:
        """Return the same with `torch.compile`: slow at first and for each new batch size."""
        encoder, unet = (
            cast(nn.Module, torch.compile(part)) for part in (self._encoder, self._unet)
        )
        return StableDiffusion(
            encoder, unet, self._signal, self._prompt, self._latent_shape, self.channels
        )

    @torch.inference_mode()
    def __call__(
        self,
        rgb: Tensor,
        settings: FeatureSettings | None = None,
        *,
        role: Role = "target",
        maps: bool = True,
        at_once: int | None = None,
        stream: torch.Generator | None = None,
    ) -> InContextFeatures:
        """Return the features of images.

        Args:
            rgb: (N, 3, side, side) 0-1, on any device.
            settings: None for the released configuration.
            role: selects one of the two noises.
            maps: whether to return self-attention maps; without them the U-Net stops earlier.
            at_once: largest number of noisy latents in one pass; None for all. Fewer need
                less memory.
            stream: draws new noise for these images, in the order of the research code: samples of
                the latents (if they are sampled), then the noise. None takes that of the settings.
        """
        settings = settings or FeatureSettings()
        frames = len(rgb)
        ensemble = settings.ensemble
        if at_once is not None and frames > at_once:
            parts = [rgb[first : first + at_once] for first in range(0, frames, at_once)]
            seen = [
                self(part, settings, role=role, maps=maps, at_once=at_once, stream=stream)
                for part in parts
            ]
            return InContextFeatures.cat(seen)
        noisy = self._add_noise(*self._encoded(rgb), settings, role, stream)
        tape = AttentionTape(frames, (self.coarse_cells**2, self.fine_cells**2)) if maps else None
        time_step = torch.full((1,), settings.time_step, device=self.device)
        members = (
            ensemble if at_once is None else _largest_divisor(ensemble, max(1, at_once // frames))
        )
        sums: list[Tensor] = []
        for first in range(0, ensemble, members):
            part = (
                noisy[:, first : first + members]
                .flatten(0, 1)
                .contiguous(memory_format=torch.channels_last)
            )
            outputs = self._unet(part, time_step, self._prompt, tape)
            found = [
                output.unflatten(0, (frames, members)).sum(1, dtype=torch.float32)
                for output in outputs
            ]
            sums = [a.add_(b) for a, b in zip(sums, found, strict=True)] if sums else found
        coarse, fine = (total.div_(ensemble) for total in sums)
        if tape is None:
            return InContextFeatures(coarse, fine)
        return InContextFeatures(
            coarse, fine, tape.map(self.coarse_cells**2), tape.map(self.fine_cells**2)
        )

    @torch.inference_mode()
    def encode(self, rgb: Tensor) -> Tensor:
        """Return latent modes, (N, 4, side / 8, side / 8), of images (N, 3, side, side) in 0-1."""
        return self._encoded(rgb)[0]

    def _encoded(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Return mode and standard deviation of the latents."""
        if rgb.ndim != 4 or tuple(rgb.shape[1:]) != (3, self.side, self.side):
            raise ValueError(
                f"images must be (N, 3, {self.side}, {self.side}), got {tuple(rgb.shape)}"
            )
        image = (rgb.to(self.device) * 2 - 1).to(self.dtype)
        encoded: tuple[Tensor, Tensor] = self._encoder(
            image.contiguous(memory_format=torch.channels_last)
        )
        return encoded

    def _add_noise(
        self,
        mode: Tensor,
        deviation: Tensor,
        settings: FeatureSettings,
        role: Role,
        stream: torch.Generator | None,
    ) -> Tensor:
        """Return (N, ensemble, 4, h, w): sqrt(a) x + sqrt(1 - a) noise.

        a is the share of signal at the time step.
        """
        share = float(self._signal[settings.time_step])
        latent = mode[:, None]
        if settings.vae == "sample":
            samples = self._numbers("samples", latent, settings, role, stream)
            latent = latent + deviation[:, None] * samples
        noise = self._numbers("noise", mode[:, None], settings, role, stream)
        noisy: Tensor = share**0.5 * latent + (1 - share) ** 0.5 * noise
        return noisy

    def _numbers(
        self,
        kind: Literal["noise", "samples"],
        like: Tensor,
        settings: FeatureSettings,
        role: Role,
        stream: torch.Generator | None,
    ) -> Tensor:
        """Return (N or 1, ensemble, 4, h, w) standard normal numbers."""
        if stream is not None:
            shape = (len(like), settings.ensemble, *self._latent_shape)
            return torch.randn(shape, generator=stream).to(like.device, like.dtype)
        numbers = self._noises.get((kind, settings, role))
        if numbers is None:
            draw = settings.noise if kind == "noise" else settings.samples
            numbers = draw(role, self._latent_shape).to(like.device, like.dtype)[None]
            self._noises[kind, settings, role] = numbers
        return numbers


def _if_it_attends(block: Any, context: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the further arguments of a block: blocks without attention take no prompt."""
    return context if getattr(block, "has_cross_attention", False) else {}


def _largest_divisor(number: int, limit: int) -> int:
    """Return the largest divisor up to a limit: passes of equal size have equal weight."""
    return max(d for d in range(1, number + 1) if number % d == 0 and d <= limit)
