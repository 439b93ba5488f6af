"""WRITE: movies and image sequences with alpha, complete or not at all."""

from vidmatte.write.checks import check_folder
from vidmatte.write.formats import FORMATS, Format, formats_of
from vidmatte.write.outputs import Outputs, WrittenFile, create_outputs
from vidmatte.write.targets import Target, parse_target, split_choices

__all__ = [
    "FORMATS",
    "Format",
    "Outputs",
    "Target",
    "WrittenFile",
    "check_folder",
    "create_outputs",
    "formats_of",
    "parse_target",
    "split_choices",
]
