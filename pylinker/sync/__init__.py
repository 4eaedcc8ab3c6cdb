"""How the instance groups of one program keep the same modules, symbols and table while they run on threads of their own.

Locks, and their order (never the reverse):

1. the *instance group* lock: a group belongs to one thread at a time; the main group's is a lock of the program;
2. the *topology token* (:class:`TopologyCoordinator`): who changes which groups and modules exist; one at a time, may change threads;
3. the *LinkerState* lock (:class:`LinkerShared`): many readers or one writer.

Nobody waits for 2 or 3 blindly: the holder may be at a barrier, waiting for this very thread. So one tries, takes part in what is
pending, backs off (:class:`LinkerStateWriteBackoff`), and tries again. The one exception is the thread that holds the token on behalf of a
group that does not exist yet. ``csrc/rendezvous.h`` has the rendezvous; ``docs/model`` its proof.
"""

from pylinker.native.sync import LinkerStateWriteBackoff, ReadGuard, TopologyToken, WriteGuard
from pylinker.sync.constants import Cause, Ordering
from pylinker.sync.group_state import InstanceGroupState
from pylinker.sync.reentry import begin_operation, check_not_interrupting, end_operation, interrupting
from pylinker.sync.shared import Exclusive, LinkerShared, leave_both
from pylinker.sync.topology import TopologyCoordinator

__all__ = [
    "Cause",
    "Exclusive",
    "InstanceGroupState",
    "LinkerShared",
    "LinkerStateWriteBackoff",
    "Ordering",
    "ReadGuard",
    "TopologyCoordinator",
    "TopologyToken",
    "WriteGuard",
    "begin_operation",
    "check_not_interrupting",
    "end_operation",
    "interrupting",
    "leave_both",
]
