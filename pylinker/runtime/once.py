"""Objects that a process creates once.

``functools.cache`` may create more: two threads that miss both make the object, and one of the two
is freed while its address is in use.
"""

from __future__ import annotations

import logging  # noqa: F401 - first: see _lock
import os
import threading
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

__all__ = ["made_once", "once"]

_Arguments = ParamSpec("_Arguments")
_Made = TypeVar("_Made")

# Serialises the creation of all such objects, of all functions. Recursive, as one may need another,
# and as a signal handler may run in between. No code of a guest runs under it. Lock order: after
# all locks of the linker, none of which is taken under it; before that of `logging`, which a fork
# takes, too, in the reverse order of registration.
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    # The lock is free in a child, whichever thread of its parent held it.
    os.register_at_fork(
        before=_lock.acquire,
        after_in_parent=_lock.release,
        after_in_child=_lock.release,
    )


def once(make: Callable[_Arguments, _Made]) -> Callable[_Arguments, _Made]:
    """Return a function that calls ``make`` once for each set of positional arguments.

    Later calls return the same object, on all threads. Blocks while another thread makes an object.
    An exception of ``make`` propagates, and the next call tries again. The objects live as long as
    the process.
    """
    made: dict[object, _Made] = {}

    def get(*arguments: _Arguments.args, **keywords: _Arguments.kwargs) -> _Made:
        assert not keywords
        try:
            return made[arguments]
        except KeyError:
            pass
        with _lock:
            # A signal handler that ran within `make` may have made it, and given it out.
            return (
                made[arguments]
                if arguments in made
                else made.setdefault(arguments, make(*arguments, **keywords))
            )

    return get


class made_once(Generic[_Made]):  # noqa: N801 - a decorator
    """``functools.cached_property`` without its lock, as in Python 3.12.

    Older versions use one lock for all objects of a class, on all threads; a forked child waits for
    ever if another thread held it. Two threads may make a value at the same time, so the values
    must be equal.
    """

    def __init__(self, make: Callable[[Any], _Made]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __get__(self, instance: object, owner: object) -> _Made:
        made = instance.__dict__[self._make.__name__] = self._make(instance)
        return made
