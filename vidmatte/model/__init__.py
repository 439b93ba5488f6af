"""MODEL: in-context matting networks behind one interface."""

from vidmatte.model.build import list_models, load_model
from vidmatte.model.interface import CoarseMatte, Follower, Matter, Model

__all__ = ["CoarseMatte", "Follower", "Matter", "Model", "list_models", "load_model"]
