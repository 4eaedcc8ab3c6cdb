"""The version of pylinker: stated here, and read from here by the packaging and by ``pylinker.__version__``."""

__version__ = "0.1.0"
