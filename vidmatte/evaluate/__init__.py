"""EVALUATE: measure a model, or mattes of any other system, on a data set.

Results are a table, CSV, JSON, a plot and a page of pictures.
"""

from vidmatte.evaluate.experiments import Experiment, experiment
from vidmatte.evaluate.formats import as_text
from vidmatte.evaluate.method import MethodUnderTest
from vidmatte.evaluate.protocol import Guidance, PromptKind, Protocol, Region
from vidmatte.evaluate.run import Evaluation, run
from vidmatte.evaluate.table import Table
from vidmatte.evaluate.write import write_evaluation

__all__ = [
    "Evaluation",
    "Experiment",
    "Guidance",
    "MethodUnderTest",
    "PromptKind",
    "Protocol",
    "Region",
    "Table",
    "as_text",
    "experiment",
    "run",
    "write_evaluation",
]
