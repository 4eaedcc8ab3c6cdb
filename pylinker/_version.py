"""The version of pylinker, read by the packaging and as ``pylinker.__version__``."""

__version__ = "0.1.0"
