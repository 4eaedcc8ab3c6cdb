"""The compiled C core, as far as its types can be told; ``pylinker.native`` is the only user."""

from typing import Any

ffi: Any
lib: Any
