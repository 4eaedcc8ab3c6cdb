"""Change of one number in a module: the minimum size of the memory it defines."""

from __future__ import annotations

from pylinker.errors import LimitError
from pylinker.wasm import writer
from pylinker.wasm.reader import sections
from pylinker.wasm.typesection import read_memory_type

__all__ = ["with_memory_minimum"]

_MEMORY_SECTION = 5


def with_memory_minimum(data: bytes, pages: int, *, name: str) -> bytes:
    """Return the module with the minimum of its own first memory raised to at least ``pages``.

    All bytes but those of the memory's type and of the size of its section are unchanged. The
    result is ``data`` itself if the module defines no memory or its memory is already large enough.

    Args:
        data: The bytes of the module.
        pages: The minimum in pages.
        name: Name of the module, for messages.

    Raises:
        LimitError: The maximum of the memory is smaller.
        ParseError: The module is malformed.
    """
    for section in sections(data, name):
        if section.id != _MEMORY_SECTION:
            continue
        reader = section.reader(data, name)
        if reader.count(2) == 0:
            return data
        start = reader.position
        memory = read_memory_type(reader)
        bounds = memory.limits
        if bounds.minimum >= pages:
            return data
        bits = 64 if bounds.is64 else 32
        maximum = min(
            1 << (bits - memory.page_size_log2), (1 << bits) - 1
        )  # the number must fit in that many bits, too
        if bounds.maximum is not None:
            maximum = min(maximum, bounds.maximum)
        if maximum < pages:
            raise LimitError(
                f"{name}: its memory may have at most {maximum} pages, but {pages} are needed",
                module=name,
            )
        raised = writer.memory_type(memory._replace(limits=bounds._replace(minimum=pages)))
        contents = reader.data[:start] + raised + reader.data[reader.position :]
        return (
            data[: section.header] + writer.section(_MEMORY_SECTION, contents) + data[section.end :]
        )
    return data
