"""In-context matting networks behind one interface."""

from vidmatte.model.build import list_models, load_model
from vidmatte.model.interface import CoarseMatte, Model, Predictor, Tracker

__all__ = ["CoarseMatte", "Model", "Predictor", "Tracker", "list_models", "load_model"]
