"""WRITE: movies and image sequences with alpha, complete or not at all."""

from vidmatte.write.checks import check_folder
from vidmatte.write.formats import FORMATS, Format, Target, parse_target
from vidmatte.write.outputs import Outputs, WrittenFile, create_outputs, partial_path
from vidmatte.write.part import Part

__all__ = [
    "FORMATS",
    "Format",
    "Outputs",
    "Part",
    "Target",
    "WrittenFile",
    "check_folder",
    "create_outputs",
    "parse_target",
    "partial_path",
]
