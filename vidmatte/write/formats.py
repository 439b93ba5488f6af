"""The table of output formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Format:
    """The encoding of one kind of output."""

    extension: str
    container: str
    """FFmpeg's name of the container, "images" for one file per frame, or "avif"."""
    name: str = ""
    """The word for this format among those of its extension, as in shot.mov:qtrle."""
    description: str = ""
    codec: str = ""
    pixel_format: str = ""
    bit_depth: int = 0
    """Bits of alpha after reading the file back; 0 if the format has no alpha."""
    alpha_only: bool = False
    over_black: bool = False
    """Colour is multiplied with alpha, and alpha itself is not stored.

    Such a format is never the default of its extension: it is chosen by its name.
    """
    options: Mapping[str, str] = field(default_factory=dict)
    """Options of the encoder."""
    presets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Format options by name, as in shot.webm:fast, with their encoder options."""
    parameters: Mapping[str, range] = field(default_factory=dict)
    """Numeric encoder options, as in shot.webm:crf=18."""
    full_range: bool = False
    """Whether 0..1 spans all code values (of luma, for Y'CbCr) instead of the limited range."""
    zero_rgb_where_transparent: bool = False
    """Clear the colour of pixels with alpha 0: lossless files become half as large."""
    odd_pixel_format: str | None = None
    """Pixel format in place of `pixel_format` for odd sides, if the codec refuses 4:2:0 for
    them."""
    square_pixels: bool = False
    """The container has no pixel aspect: frames are scaled to square pixels."""
    smallest: tuple[int, int] = (1, 1)
    """Smallest width and height that the codec takes."""
    constant_rate: bool = False
    """The container has frames of equal length only, at television rates."""
    compressor_name: str = ""
    """Name of the codec in the header of a .mov, as QuickTime players show it."""
    stored_depth: str = ""
    """Pixel depth in the header of a .mov if the encoder sets none; 32 means with alpha."""
    keeps_fields: bool = False
    """The file stores the field order of interlaced frames."""
    fields_flag: str = ""
    """Encoder flag to compress the two fields of an interlaced frame apart."""
    copied_audio: tuple[str, ...] | None = ()
    """Audio codecs to copy, by name or prefix ending in "_".

    None copies every codec that fits into the container.
    """
    audio_codec: str = ""
    """Encoder for the other audio codecs; empty if the container holds no sound."""

    @property
    def is_movie(self) -> bool:
        """Whether one file holds all frames."""
        return self.container != "images"

    @property
    def concatenable(self) -> bool:
        """Whether encoded parts can be joined as they are; not so with WebP and AVIF."""
        return self.container not in ("webp", "avif")


# A fixed quantizer of 1 makes prores_ks write the same bytes as its slow default search.
_PRORES_BEST = {"flags": "+qscale+bitexact", "global_quality": "118", "vendor": "apl0"}
_PRORES_4444 = {**_PRORES_BEST, "alpha_bits": "16"}
# "bitexact" leaves out dates and version numbers: two runs write the same bytes.
_DNXHR = {"profile": "dnxhr_444", "flags": "+bitexact"}
_BITEXACT = {"flags": "+bitexact"}
# Higher levels of zlib take many times as long and save a few percent.
_PNG = {"compression_level": "1", **_BITEXACT}
# The number of slices is fixed, or it would follow the number of cores, and the bytes with it.
_FFV1 = {"level": "3", "g": "1", "slices": "4", "slicecrc": "1", **_BITEXACT}
# Hidden alternate frames (auto-alt-ref) are not allowed in WebM with alpha.
_VP9 = {"deadline": "good", "cpu-used": "4", "row-mt": "1", "auto-alt-ref": "0", **_BITEXACT}
_VP9_WORDS = {"fast": {"deadline": "realtime", "cpu-used": "6"}}
_EXR = {"pixels": "half", "compression": "zip"}
_EXR_COMPRESSIONS = ("none", "rle", "zips", "zip", "piz", "pxr24", "b44", "b44a", "dwaa", "dwab")
_EXR_WORDS = {
    **{name: {"pixels": name} for name in ("half", "float")},
    **{name: {"compression": name} for name in _EXR_COMPRESSIONS},
}

_MOV = Format(
    ".mov",
    "mov",
    keeps_fields=True,
    copied_audio=("aac", "mp3", "ac3", "eac3", "alac", "pcm_"),
    audio_codec="pcm_s24le",
)
_PRORES = replace(_MOV, codec="prores_ks", bit_depth=10, fields_flag="+ildct")
_PNG_IN_MOV = replace(
    _MOV,
    name="png",
    # 8 and 16 bits are chosen per run (`bit_depth`), so the pixel format is the writer's.
    codec="png",
    compressor_name="PNG",
    bit_depth=16,
    full_range=True,
    options=_PNG,
)
_DNXHR_IN_MOV = replace(
    _MOV,
    codec="dnxhd",
    pixel_format="yuv444p10le",
    bit_depth=10,
    compressor_name="DNxHR 444",
    options=_DNXHR,
    # Below this size FFmpeg's encoder refuses DNxHR.
    smallest=(256, 120),
    keeps_fields=False,
)
_MXF = replace(
    _DNXHR_IN_MOV, extension=".mxf", container="mxf", constant_rate=True, copied_audio=()
)
_MKV = Format(
    ".mkv",
    "matroska",
    "ffv1",
    codec="ffv1",
    bit_depth=16,
    options=_FFV1,
    full_range=True,
    keeps_fields=True,
    copied_audio=None,
    audio_codec="pcm_s24le",
)
_WEBM = Format(
    ".webm",
    "webm",
    "vp9",
    codec="libvpx-vp9",
    bit_depth=8,
    presets=_VP9_WORDS,
    square_pixels=True,
    copied_audio=("opus", "vorbis"),
    audio_codec="libopus",
)
_MP4 = Format(
    ".mp4",
    "mp4",
    codec="libx264",
    pixel_format="yuv420p",
    copied_audio=("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"),
    audio_codec="aac",
)
_PNG_IMAGES = Format(".png", "images", "png", codec="png", bit_depth=16, full_range=True)
_EXR_IMAGES = Format(
    # Half floats have 11 significant bits.
    ".exr",
    "images",
    "exr",
    codec="exr",
    bit_depth=11,
    options=_EXR,
    presets=_EXR_WORDS,
)

FORMATS: tuple[Format, ...] = (
    replace(
        _PRORES,
        name="prores-4444",
        compressor_name="Apple ProRes 4444",
        description="ProRes 4444, 10-bit colour, alpha stored in 16 bits",
        pixel_format="yuva444p10le",
        options={**_PRORES_4444, "profile": "4444"},
    ),
    replace(
        _PRORES,
        name="prores-4444-xq",
        compressor_name="Apple ProRes 4444 XQ",
        description="ProRes 4444 XQ, 10-bit colour, alpha stored in 16 bits",
        pixel_format="yuva444p10le",
        options={**_PRORES_4444, "profile": "4444xq"},
    ),
    replace(
        _PNG_IN_MOV,
        description="PNG, 16 bits, exact",
        pixel_format="rgba64be",
        stored_depth="32",
        zero_rgb_where_transparent=True,
    ),
    replace(
        _MOV,
        name="qtrle",
        description="QuickTime Animation, 8 bits, exact in them",
        codec="qtrle",
        compressor_name="Animation",
        pixel_format="argb",
        bit_depth=8,
        options=_BITEXACT,
        full_range=True,
        zero_rgb_where_transparent=True,
    ),
    replace(
        _PRORES,
        name="on-black",
        compressor_name="Apple ProRes 422 HQ",
        description="ProRes 422 HQ, colour on black without alpha",
        pixel_format="yuv422p10le",
        bit_depth=0,
        over_black=True,
        options={**_PRORES_BEST, "profile": "hq"},
    ),
    replace(_MKV, description="FFV1, 16 bits, exact", pixel_format="gbrap16le"),
    replace(
        _WEBM,
        description="VP9 with alpha, for browsers",
        pixel_format="yuva420p",
        options={**_VP9, "crf": "12"},
        presets={**_VP9_WORDS, "lossless": {"lossless": "1", "crf": "0"}},
        parameters={"crf": range(64)},
    ),
    Format(
        ".webp",
        "webp",
        "webp",
        "animated WebP, alpha lossless in 8 bits, for browsers",
        codec="libwebp_anim",
        pixel_format="bgra",
        bit_depth=8,
        options={"quality": "90", "compression_level": "4", **_BITEXACT},
        presets={"lossless": {"lossless": "1", "quality": "50"}},
        parameters={"quality": range(101)},
        full_range=True,
        square_pixels=True,
    ),
    Format(
        ".avif",
        "avif",
        "avif",
        "animated AVIF, 8 bits, for browsers; all frames are held in memory",
        codec="avif",
        pixel_format="rgba",
        bit_depth=8,
        options={"quality": "90", "speed": "6"},
        parameters={"quality": range(101)},
        full_range=True,
        square_pixels=True,
    ),
    replace(
        # B-frames (bf) would put the first time below zero, and players would cut it off.
        _MP4,
        name="on-black",
        description="H.264, colour on black without alpha",
        over_black=True,
        options={"crf": "14", "bf": "0", **_BITEXACT},
        parameters={"crf": range(52)},
        odd_pixel_format="yuv444p",
    ),
    replace(
        _MXF,
        name="on-black",
        description="DNxHR 444, 10 bits, colour on black without alpha",
        bit_depth=0,
        over_black=True,
    ),
    replace(
        _PNG_IMAGES,
        description="PNG with alpha, one per frame",
        pixel_format="rgba64be",
        zero_rgb_where_transparent=True,
    ),
    replace(
        _EXR_IMAGES,
        description="OpenEXR, scene-linear, premultiplied, half float, one per frame",
        pixel_format="gbrapf16le",
        options={**_EXR, "colour": "premultiplied"},
        presets={
            **_EXR_WORDS,
            **{name: {"colour": name} for name in ("premultiplied", "straight")},
        },
    ),
    replace(
        _MKV, alpha_only=True, description="FFV1, 16-bit gray, lossless", pixel_format="gray16le"
    ),
    replace(
        _PRORES,
        alpha_only=True,
        name="prores-422-hq",
        compressor_name="Apple ProRes 422 HQ",
        description="ProRes 422 HQ, gray",
        pixel_format="yuv422p10le",
        options={**_PRORES_BEST, "profile": "hq"},
    ),
    replace(_DNXHR_IN_MOV, alpha_only=True, name="dnxhr-444", description="DNxHR 444, 10-bit gray"),
    replace(
        _PNG_IN_MOV,
        alpha_only=True,
        description="PNG, 16-bit gray, lossless",
        pixel_format="gray16be",
    ),
    replace(
        _MP4,
        alpha_only=True,
        name="h264",
        description="H.264, gray, full range, close to lossless",
        bit_depth=8,
        # qp 0 would be a profile (High 4:4:4 Predictive) that few players take.
        options={"qp": "1", "bf": "0", **_BITEXACT},
        full_range=True,
        odd_pixel_format="gray",
    ),
    replace(
        _WEBM,
        alpha_only=True,
        description="VP9, gray, full range, lossless in 8 bits",
        pixel_format="yuv420p",
        options={**_VP9, "lossless": "1"},
        full_range=True,
    ),
    replace(_MXF, alpha_only=True, name="dnxhr-444", description="DNxHR 444, 10-bit gray"),
    replace(
        _PNG_IMAGES, alpha_only=True, description="gray PNG, one per frame", pixel_format="gray16be"
    ),
    replace(
        _EXR_IMAGES,
        alpha_only=True,
        description="OpenEXR, one channel Y, half float, one per frame",
        pixel_format="grayf16le",
    ),
)
"""All formats; the default of an extension is the first one that keeps alpha."""


def formats_of(extension: str, *, alpha_only: bool) -> tuple[Format, ...]:
    """Return the formats of a file extension (with its dot, in any case), the default first."""
    wanted = (extension.lower(), alpha_only)
    return tuple(form for form in FORMATS if (form.extension, form.alpha_only) == wanted)
