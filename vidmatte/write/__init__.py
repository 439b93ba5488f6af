"""Write movies and image sequences with alpha, complete or not at all."""

from vidmatte.write.backdrop import image_of
from vidmatte.write.folders import check_folder
from vidmatte.write.formats import FORMATS, Format, formats_of
from vidmatte.write.outputs import Outputs, WrittenFile, create_outputs
from vidmatte.write.part import EncodedPart
from vidmatte.write.publish import PlacementError
from vidmatte.write.specs import OutputSpec, parse_output, split_format_options

__all__ = [
    "FORMATS",
    "EncodedPart",
    "Format",
    "OutputSpec",
    "Outputs",
    "PlacementError",
    "WrittenFile",
    "check_folder",
    "create_outputs",
    "formats_of",
    "image_of",
    "parse_output",
    "split_format_options",
]
