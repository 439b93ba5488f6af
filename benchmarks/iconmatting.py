"""Compare IconMatting as its research code computes it with this package's implementation.

    python benchmarks/iconmatting.py [--device cuda]

Both ways run in this process, on the same random weights at the real size of Stable Diffusion 2.1
and with the same noise, so that their alphas can be compared. Written anew after the description of
the research code's way:

research: for every frame the reference is encoded again; the autoencoder runs once per noise of the
    ensemble; the whole U-Net runs; the attention maps of all heads and noises are held before they
    are averaged, for the reference too.
ours: the reference is encoded once for the clip, and not counted; the autoencoder runs once per
    frame; the U-Net is left after its last layer that anything needs; maps are averaged as they
    come.

Times are those of frames of 768 x 768 in memory to alphas in memory, one frame at a time unless
--batch says more for ours. A second row of ours has an ensemble of one, which is what a clip can be
previewed with: its alpha is another one, and its ratio compares it with the research code at its
own ensemble.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vidmatte.frames import FrameBatch
from vidmatte.model.iconmatting import (
    IconMattingNet,
    IconMattingOptions,
    InContextFeatures,
    StableDiffusion,
    build_iconmatting,
)
from vidmatte.model.iconmatting.attention import AttentionTape
from vidmatte.model.iconmatting.prompts import whole_cells
from vidmatte.model.iconmatting.sd_layout import (
    SD_2_1_SCHEDULER,
    SD_2_1_UNET,
    SD_2_1_VAE,
    signal_shares,
)
from vidmatte.model.iconmatting.similarity import match
from vidmatte.model.iconmatting.stable_diffusion import LatentEncoder, TruncatedUnet
from vidmatte.prompts.prompt import Reference

SIDE, COARSE, FINE = 768, 24, 48
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class HeldAttention:
    """Attention that holds the maps of all heads and noises of the wanted sizes, then averages."""

    def __init__(self) -> None:
        self.maps: dict[int, list[Tensor]] = {COARSE**2: [], FINE**2: []}

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        **_: object,
    ) -> Tensor:
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            attn.head_to_batch_dim(project(x)).contiguous()
            for project, x in ((attn.to_q, hidden_states), (attn.to_k, source), (attn.to_v, source))
        )
        if query.shape[1] in self.maps:
            maps = (torch.einsum("bid,bjd->bij", query, key) * attn.scale).softmax(-1)
            if encoder_hidden_states is None:
                self.maps[query.shape[1]].append(maps.mean(0, keepdim=True))
            del maps
        # One more axis, without which PyTorch takes its slow way; the research code has xformers'
        # fast one here.
        mixed = F.scaled_dot_product_attention(
            query[None], key[None], value[None], scale=attn.scale
        )[0]
        mixed = attn.batch_to_head_dim(mixed)
        projected: Tensor = attn.to_out[0](mixed)
        return projected


class ResearchWay:
    """One frame after the other, each with its reference."""

    def __init__(
        self, unet: Any, vae: Any, prompt: Tensor, net: IconMattingNet, options: IconMattingOptions
    ) -> None:
        self.unet, self.vae, self.prompt, self.net, self.options = unet, vae, prompt, net, options

    @contextmanager
    def _prepared(self) -> Iterator[None]:
        """The shared weights as this way has them; afterwards as ours does."""
        parts = (self.unet, self.vae)
        processors = self.unet.attn_processors
        for part in parts:
            part.to(memory_format=torch.contiguous_format)
        yield
        self.unet.set_attn_processor(processors)
        for part in parts:
            part.to(memory_format=torch.channels_last)

    def features(self, rgb: Tensor, role: str) -> InContextFeatures:
        settings, ensemble = self.options.features, self.options.ensemble
        images = (rgb * 2 - 1).to(self.prompt).repeat(ensemble, 1, 1, 1)
        latents = self.vae.encode(images).latent_dist.mode() * self.vae.config.scaling_factor
        share = float(signal_shares(SD_2_1_SCHEDULER)[settings.time_step])
        noise = settings.noise(role, tuple(latents.shape[1:])).to(latents)
        held, outputs = HeldAttention(), {}
        self.unet.set_attn_processor(held)
        hooks = [
            self.unet.up_blocks[i].register_forward_hook(
                lambda _, args, out, i=i: outputs.__setitem__(i, out)
            )
            for i in range(2)
        ]
        self.unet(
            share**0.5 * latents + (1 - share) ** 0.5 * noise,
            settings.time_step,
            self.prompt.expand(ensemble, -1, -1),
        )
        for hook in hooks:
            hook.remove()
        coarse, fine = (outputs[i].float().mean(0, keepdim=True) for i in range(2))
        maps = (torch.stack(held.maps[cells]).float().mean(0) for cells in (COARSE**2, FINE**2))
        return InContextFeatures(coarse, fine, *maps)

    @torch.inference_mode()
    def frame(self, reference: Reference, rgb: Tensor) -> Tensor:
        known = self.features(reference.rgb.to(self.prompt.device), "reference")
        seen = self.features(rgb.to(self.prompt.device), "target")
        with torch.autocast(
            rgb.device.type, self.prompt.dtype, enabled=self.prompt.dtype != torch.float32
        ):
            query = self.net.tokens(known)[0][
                whole_cells(reference.roi[0], FINE).to(known.fine.device)
            ]
            with torch.autocast(rgb.device.type, enabled=False):
                similarity = match(query, query[:0], self.net.tokens(seen), None, 1)
            return self.net(rgb.to(self.prompt.device), seen, similarity).alpha.cpu()

    def run(self, reference: Reference, frames: Tensor) -> Tensor:
        with self._prepared():
            return torch.cat([self.frame(reference, frames[i : i + 1]) for i in range(len(frames))])


def peak_memory(device: torch.device, *, reset: bool) -> float:
    """Return the peak memory in GB.

    On a GPU it is that of the device's allocator, otherwise the process's resident size if Linux
    allows the peak to be reset.
    """
    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device) / 1e9
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e9


@dataclass(frozen=True)
class Place:
    """Choose device and clock: wall time, or processor time of one thread on a busy machine."""

    device: torch.device
    dtype: torch.dtype
    clock: Callable[[], float]

    def timed(self, run: Callable[[], Any]) -> tuple[Any, float, float]:
        """Result, seconds and peak memory in GB."""
        peak_memory(self.device, reset=True)
        began = self._now()
        result = run()
        return result, self._now() - began, peak_memory(self.device, reset=False)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return self.clock()


def matmul_ceiling(place: Place) -> float:
    """TFLOP/s of a large square matrix product, the best of some."""
    size = 8192 if place.device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=place.device).to(place.dtype) for _ in range(2))
    seconds = min(place.timed(lambda: a @ b)[1] for _ in range(8))
    return 2 * size**3 / seconds / 1e12


def arithmetic(ensemble: int) -> tuple[float, float]:
    """Count the TFLOP of convolutions and matrix products per frame, of the research code and ours.

    Nothing is computed: the counts come from shapes alone.
    """
    with torch.device("meta"):
        unet, vae = (
            UNet2DConditionModel.from_config(dict(SD_2_1_UNET)),
            AutoencoderKL.from_config(dict(SD_2_1_VAE)),
        )
        latent, prompt = torch.empty(1, 4, SIDE // 8, SIDE // 8), torch.empty(1, 77, 1024)
        with FlopCounterMode(display=False) as whole:
            vae.encode(torch.empty(1, 3, SIDE, SIDE))
            unet.set_attn_processor(HeldAttention())
            unet(latent, torch.tensor(200), prompt)
        encoder, truncated = LatentEncoder(vae), TruncatedUnet(unet)
        with FlopCounterMode(display=False) as encoding:
            encoder(torch.empty(1, 3, SIDE, SIDE))
        with FlopCounterMode(display=False) as looking:
            truncated(latent, torch.tensor([200]), prompt, AttentionTape(1, (COARSE**2, FINE**2)))
        net = IconMattingNet()
        features = InContextFeatures(
            *(torch.empty(1, 1280, cells, cells) for cells in (COARSE, FINE)),
            *(torch.empty(1, cells**2, cells**2) for cells in (COARSE, FINE)),
        )
        with FlopCounterMode(display=False) as decoding:
            net(torch.empty(1, 3, SIDE, SIDE), features, torch.empty(1, FINE**2))
    counts = [counter.get_total_flops() / 1e12 for counter in (whole, encoding, looking, decoding)]
    return 2 * ensemble * counts[0] + counts[3], counts[1] + ensemble * counts[2] + counts[3]


def make_parts(device: torch.device, dtype: torch.dtype) -> tuple[Any, Any, Tensor]:
    """Return full-size U-Net, autoencoder without decoder and empty prompt with random weights."""
    torch.manual_seed(0)
    with torch.device(device):
        unet, vae = (
            UNet2DConditionModel.from_config(dict(SD_2_1_UNET)),
            AutoencoderKL.from_config(dict(SD_2_1_VAE)),
        )
        del vae.decoder
        for part in (unet, vae):
            torch.nn.Module.to(part, dtype).eval().requires_grad_(False)
        return unet, vae, torch.randn(1, 77, 1024).to(dtype)


def make_net() -> IconMattingNet:
    """Return the trained part with random weights that keep the signal's scale.

    Otherwise alpha would be almost flat.
    """
    torch.manual_seed(2)
    net = IconMattingNet().eval().requires_grad_(False)
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return net


def make_clip(frames: int) -> tuple[Reference, Tensor]:
    """Smooth random pictures, moving, and the first with a mask as the reference."""
    torch.manual_seed(1)
    picture = F.interpolate(torch.rand(1, 3, 40, 40), size=(SIDE, SIDE), mode="bicubic").clamp(0, 1)
    moving = torch.cat([picture.roll(8 * (i + 1), -1) for i in range(frames)])
    alpha = torch.zeros(1, 1, SIDE, SIDE)
    alpha[..., 200:520, 240:500] = 1
    return Reference(picture, alpha, torch.ones_like(alpha), None), moving


@click.command()
@click.option("--device", default="cpu", help="cpu or cuda.")
@click.option("--precision", type=click.Choice(list(DTYPES)), default="bfloat16")
@click.option(
    "--ensemble",
    type=click.IntRange(1),
    default=4,
    help="Of the research code, and of ours that equals it.",
)
@click.option(
    "--frames",
    type=click.IntRange(1),
    default=1,
    help="Frames that are timed, after one that is not on cuda.",
)
@click.option("--batch", type=click.IntRange(1), default=1, help="Frames at once, ours.")
@click.option("--compile", "compiled", is_flag=True, help="Ours through torch.compile.")
@click.option(
    "--clock",
    type=click.Choice(["wall", "processor"]),
    default="wall",
    help="processor: one thread, cpu only.",
)
def main(
    device: str, precision: str, ensemble: int, frames: int, batch: int, compiled: bool, clock: str
) -> None:
    """Print frames per second of both ways, their ratio, and whether they give the same."""
    if clock == "processor":
        torch.set_num_threads(1)
    place = Place(
        torch.device(device),
        DTYPES[precision],
        time.perf_counter if clock == "wall" else time.process_time,
    )
    unet, vae, prompt = make_parts(place.device, place.dtype)
    sd = StableDiffusion.from_parts(
        unet, vae, SD_2_1_SCHEDULER, prompt, device=place.device, dtype=place.dtype
    )
    net, (reference, clip) = make_net(), make_clip(max(frames, batch))
    ceiling = matmul_ceiling(place)
    name = (
        torch.cuda.get_device_name(place.device)
        if device != "cpu"
        else f"cpu, {torch.get_num_threads()} threads"
    )
    click.echo(
        f"{name}, {precision}, {clock} time, matmul ceiling {ceiling:.3f} TFLOP/s, {len(clip)} "
        "frames"
    )
    rows = []
    for members in dict.fromkeys((ensemble, 1)):
        options = IconMattingOptions(ensemble=members, compile=compiled)
        rows.append(time_ours(place, sd, net, options, reference, clip, batch))
    research = ResearchWay(
        unet, vae, prompt, net.to(place.device), IconMattingOptions(ensemble=ensemble)
    )
    if device != "cpu":
        research.run(reference, clip[:1])
    alpha, seconds, memory = place.timed(lambda: research.run(reference, clip))
    first = Row(f"research, ensemble {ensemble}", alpha, seconds, memory, arithmetic(ensemble)[0])
    show([first, *rows], ceiling)


@dataclass(frozen=True)
class Row:
    """One way's figures for the whole clip."""

    name: str
    alpha: Tensor
    seconds: float
    memory: float
    tflop: float
    """For one frame."""


def time_ours(
    place: Place,
    sd: StableDiffusion,
    net: IconMattingNet,
    options: IconMattingOptions,
    reference: Reference,
    clip: Tensor,
    batch: int,
) -> Row:
    model = build_iconmatting(
        sd,
        net.state_dict(),
        name="iconmatting",
        device=place.device,
        precision=place.dtype,
        options=options,
    )
    predictor, seconds, _ = place.timed(lambda: model.with_reference([reference]))
    click.echo(f"ours, ensemble {options.ensemble}: reference, once for the clip: {seconds:.2f} s")
    batches = [batch_of(clip[i : i + batch]) for i in range(0, len(clip), batch)]
    if place.device.type != "cpu" or options.compile:
        predictor(batches[0])
    alpha, seconds, memory = place.timed(
        lambda: torch.cat([predictor(frames).alpha for frames in batches])
    )
    click.echo(f"ours, ensemble {options.ensemble}: {seconds / len(clip):.2f} s a frame")
    name = f"ours, ensemble {options.ensemble}, batch {batch}"
    return Row(name, alpha, seconds, memory, arithmetic(options.ensemble)[1])


def batch_of(rgb: Tensor) -> FrameBatch:
    numbers = tuple(range(len(rgb)))
    return FrameBatch(rgb, numbers, numbers, (1,) * len(rgb))


def show(rows: list[Row], ceiling: float) -> None:
    head = (
        "way",
        "s/frame",
        "frames/s",
        "ratio",
        "TFLOP",
        "ceiling",
        "peak GB",
        "largest difference of alpha",
    )
    click.echo("{:<26s} {:>8s} {:>9s} {:>6s} {:>6s} {:>8s} {:>8s}  {}".format(*head))
    truth, slowest = rows[0].alpha, rows[0].seconds
    for row in rows:
        rate = len(truth) / row.seconds
        figures = f"{1 / rate:8.2f} {rate:9.4f} {slowest / row.seconds:6.2f} {row.tflop:6.2f}"
        figures += f" {row.tflop * rate / ceiling:8.2f} {row.memory:8.2f}"
        difference = (row.alpha - truth).abs().max().item()
        spread = f"(alpha {truth.min().item():.3f} to {truth.max().item():.3f})"
        click.echo(f"{row.name:<26s} {figures}  {difference:.2e} {spread}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    click.echo(f"peak resident size of the process: {peak:.1f} GB")


if __name__ == "__main__":
    main()
