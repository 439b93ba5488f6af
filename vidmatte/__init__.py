"""Video object matting by in-context matting."""

__version__ = "0.1.0"
