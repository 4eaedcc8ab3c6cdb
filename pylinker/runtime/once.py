"""Objects that a process makes once.

``functools.cache`` is not "once": two threads that miss both make the object, and one of the two is
freed while its address is in use.
"""

from __future__ import annotations

import logging  # noqa: F401 - first: see making
import os
import threading
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

__all__ = ["made_once", "making", "once"]

_Arguments = ParamSpec("_Arguments")
_Made = TypeVar("_Made")

making = threading.RLock()
"""Protects the making of every such object, of all functions, and the import of the package.

Reentrant, as one object may need another, and as a signal handler may come in between. No code of a
guest runs under it. Lock order: before all other locks of pylinker and that of ``logging``, which
a fork takes, too: handlers of a fork run in reverse order of their registration.
"""

if hasattr(os, "register_at_fork"):
    # A child has the lock free, whichever thread of its parent was making something.
    os.register_at_fork(
        before=making.acquire, after_in_parent=making.release, after_in_child=making.release
    )


def once(make: Callable[_Arguments, _Made]) -> Callable[_Arguments, _Made]:
    """Call ``make`` once for each set of positional arguments, and return the same object ever after, on all threads.

    Blocks while another thread makes an object. What ``make`` raises is raised, and the next call
    tries again. The objects live as long as the process.
    """
    made: dict[object, _Made] = {}

    def get(*arguments: _Arguments.args, **keywords: _Arguments.kwargs) -> _Made:
        assert not keywords
        try:
            return made[arguments]
        except KeyError:
            pass
        with making:
            # A signal handler that ran within `make` may have made it, and given it out.
            return (
                made[arguments]
                if arguments in made
                else made.setdefault(arguments, make(*arguments, **keywords))
            )

    return get


class made_once(Generic[_Made]):  # noqa: N801 - a decorator
    """``functools.cached_property`` without its lock, as Python 3.12 has it.

    Before, one lock serves all objects of a class, on all threads; and a child of a process in
    which another thread had it waits for ever. Two threads may make a value at the same time: it is
    for values that are equal then.
    """

    def __init__(self, make: Callable[[Any], _Made]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __get__(self, instance: object, owner: object) -> _Made:
        made = instance.__dict__[self._make.__name__] = self._make(instance)
        return made
