"""WRITE: movies and image sequences with alpha, complete or not at all."""

from vidmatte.write.formats import FORMATS, Format, Target, parse_target
from vidmatte.write.outputs import Outputs, WrittenFile, create_outputs

__all__ = ["FORMATS", "Format", "Outputs", "Target", "WrittenFile", "create_outputs", "parse_target"]
