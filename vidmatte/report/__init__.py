"""Report on a run: contact sheet, confidence curve, further frames worth marking."""

from vidmatte.report.invocation import Invocation
from vidmatte.report.report import PAGE, Report, create_report
from vidmatte.report.thumbnails import Thumbnail, Thumbnails, spread_frames

__all__ = [
    "PAGE",
    "Invocation",
    "Report",
    "Thumbnail",
    "Thumbnails",
    "create_report",
    "spread_frames",
]
