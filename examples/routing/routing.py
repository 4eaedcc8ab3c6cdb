"""Threads that look routes up in tables of their own, and change them together."""

import functools
import sys
import threading
from dataclasses import dataclass, field

from pylinker.sync import InstanceGroupState, LinkerShared

WORKERS = 4


@dataclass(frozen=True)
class Route:
    """An operation: this prefix goes to this gateway from now on."""

    prefix: str
    gateway: str


@dataclass
class Worker:
    """A thread with a table of its own, which no other thread reads or writes."""

    table: dict[str, str] = field(default_factory=dict)
    # For each packet: the changes that had returned before it, and the gateway that it went by.
    sent: list[tuple[int, str]] = field(default_factory=list)
    group: InstanceGroupState[Route] | None = None

    def replay(self, _number: int, route: Route) -> None:
        """Carry out an operation of another thread; called at a safepoint of this one."""
        self.table[route.prefix] = route.gateway

    def run(self, returned: list[Route], is_over: threading.Event) -> None:
        """Send packets to 10.0/16 until all is over."""
        with self.group.running():
            while not is_over.is_set():
                before = len(returned)
                self.sent.append((before, self.table["10.0"]))
                self.group.safepoint()  # 50 ns if there is nothing to do


def main() -> None:
    # The lock guards the routes. Operations carry changes of them to the threads.
    shared: LinkerShared[dict[str, str], Route] = LinkerShared.new({"10.0": "gateway 0"})
    leader, workers = Worker(), [Worker() for _ in range(WORKERS)]
    with shared.write_linker_state_alone() as guard:
        leader.group = shared.subscribe(guard, leader.replay)
    for worker in workers:
        topology, guard = shared.write_linker_state_with_topology(leader.group)
        with topology, guard:
            worker.group = shared.subscribe(guard, worker.replay, topology)
            worker.table.update(guard.state)

    returned: list[Route] = []
    is_over = threading.Event()
    threads = [threading.Thread(target=worker.run, args=(returned, is_over)) for worker in workers]
    for thread in threads:
        thread.start()
    for number in range(1, 21):
        route = Route("10.0", f"gateway {number}")
        topology, guard = shared.write_linker_state_with_topology(leader.group)
        leader.replay(number, route)
        commit = functools.partial(guard.state.update, {route.prefix: route.gateway})
        shared.synchronize_link_operation(topology, route, guard, leader.group, commit=commit)
        returned.append(route)  # from here on no packet goes by an older route
    is_over.set()
    for thread in threads:
        thread.join()

    late = sum(
        int(gateway.split()[1]) < before for worker in workers for before, gateway in worker.sent
    )
    tables = {worker.table["10.0"] for worker in (leader, *workers)}
    sys.stdout.write(
        f"{WORKERS} threads, {shared.published} changes, {late} packets by an old route; "
        f"all have {', '.join(tables)}\n"
    )


if __name__ == "__main__":
    main()
