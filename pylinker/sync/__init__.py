"""Threads with replicas of one state: one thread changes it, all others replay the change.

The instance groups of a program keep the same modules, symbols and table this way, each on a thread
of its own. The package is usable by itself: docs/sync.md. A :class:`LinkerShared` guards a state of
any type and carries operations of any type; a group (:class:`InstanceGroupState`) is the part of
one thread in it.

Locks, and their order (never the reverse):

1. the *instance group*: it belongs to one thread at a time; the main group of a program has a lock;
2. the *topology token* (:class:`TopologyCoordinator`): mutex over changes of the set of groups and
   modules; a token may be passed to another thread;
3. the *LinkerState* lock (:class:`LinkerShared`): many readers or one writer.

No thread waits for 2 or 3 without taking part in operations: the holder may be at a barrier,
waiting for this very thread. A thread tries, takes part in pending operations, backs off
(:class:`LinkerStateWriteBackoff`), and tries again, all in C. The one exception is a thread that
holds the token on behalf of a group that does not exist yet. ``csrc/rendezvous.h`` describes the
rendezvous; ``docs/model`` has its proof.
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
