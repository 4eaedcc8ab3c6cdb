"""What an application developer touches: programs, libraries, functions."""

import logging

logging.getLogger("pylinker").addHandler(logging.NullHandler())
