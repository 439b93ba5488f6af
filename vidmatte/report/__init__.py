"""REPORT: what to look at after a run: contact sheet, confidence curve, frames worth marking too."""

from vidmatte.report.invocation import Invocation
from vidmatte.report.report import PAGE, Report, create_report

__all__ = ["PAGE", "Invocation", "Report", "create_report"]
