"""Threads that keep the same state: one of them changes it, and all others replay the change before that returns.

It is how the instance groups of one program keep the same modules, symbols and table while they run
on threads of their own, and it is usable by itself: docs/sync.md. A :class:`LinkerShared` guards a
state of any type and carries operations of any type; a group (:class:`InstanceGroupState`) is one
thread's part in it.

Locks, and their order (never the reverse):

1. the *instance group*: it belongs to one thread at a time; a program's main group has a lock of
   its own;
2. the *topology token* (:class:`TopologyCoordinator`): who changes which groups and modules exist;
   one at a time, may change threads;
3. the *LinkerState* lock (:class:`LinkerShared`): many readers or one writer.

No thread waits for 2 or 3 blindly: the holder may be at a barrier, waiting for this very thread. So
a thread tries, takes part in what is pending, backs off (:class:`LinkerStateWriteBackoff`), and
tries again, all of it in C. The one exception is the thread that holds the token on behalf of a
group that does not exist yet. ``csrc/rendezvous.h`` has the rendezvous; ``docs/model`` its proof.
"""

from pylinker.native.enums import Cause
from pylinker.native.sync import LinkerStateWriteBackoff, ReadGuard, TopologyToken, WriteGuard
from pylinker.sync.constants import Ordering
from pylinker.sync.group_state import InstanceGroupState
from pylinker.sync.shared import LinkerShared, Waits
from pylinker.sync.topology import TopologyCoordinator

__all__ = [
    "Cause",
    "InstanceGroupState",
    "LinkerShared",
    "LinkerStateWriteBackoff",
    "Ordering",
    "ReadGuard",
    "TopologyCoordinator",
    "TopologyToken",
    "Waits",
    "WriteGuard",
]
