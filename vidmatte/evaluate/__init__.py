"""EVALUATE: a model, or mattes of any other system, on a data set: table, CSV, JSON, plot and a page of pictures."""

from vidmatte.evaluate.experiments import Experiment, experiment
from vidmatte.evaluate.protocol import Guidance, PromptKind, Protocol, Region
from vidmatte.evaluate.run import Evaluation, MethodUnderTest, run
from vidmatte.evaluate.table import Table, as_text
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
