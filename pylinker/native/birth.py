"""Creation of the store of a new group, with all loaded libraries (``csrc/birth.h``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pylinker.native.core import ffi, lib
from pylinker.native.epoch import new_watch
from pylinker.native.instances import Instances
from pylinker.native.libraries import Library
from pylinker.native.member import Member
from pylinker.native.objects import Extern, Store
from pylinker.native.replay import Operation, Trouble
from pylinker.native.wasi import WasiProcess

__all__ = ["Birth", "give_birth"]


class Birth(NamedTuple):
    """The result of :func:`give_birth`."""

    store: Store
    watch: object
    """The watch of the store; keep it as long as the store."""
    instances: Instances
    trouble: Trouble | None
    """The error, or None."""


def give_birth(
    engine_address: int,
    member: Member,
    process: WasiProcess,
    *,
    memory_limit: int,
    table_limit: int,
    preempt: bool,
    memory: Extern,
    table_type: int,
    stack_pointer_type: int,
    stack_top: int,
    everything: Operation,
    blocks: Sequence[tuple[Library, int, int]],
) -> Birth:
    """Create a store for a new group, with all loaded libraries (``csrc/birth.h``).

    Types are addresses, 0 for objects that the main module defines. Blocks while guest code
    initialises thread-local data.
    """
    watch = new_watch(member, preempt=preempt)
    birth = ffi.new("pl_birth *")
    birth.engine = ffi.cast("pl_engine *", engine_address)
    birth.group = member.pointer
    birth.handle = member.handle
    birth.process = process.pointer
    birth.callback = lib.pl_python_host
    birth.check = lib.pl_python_check
    birth.watch = watch
    birth.memory_limit = memory_limit
    birth.table_limit = table_limit
    birth.memory = memory
    birth.table = ffi.cast("pl_type *", table_type)
    birth.stack_pointer = ffi.cast("pl_type *", stack_pointer_type)
    birth.stack_top = stack_top
    birth.everything = everything.pointer
    if blocks:
        packed = ffi.new(
            "pl_block[]", [(library.pointer, group, address) for library, group, address in blocks]
        )
        birth.blocks = packed
        birth.block_count = len(blocks)
    failed = lib.pl_birth_give(birth)
    store = Store(engine_address, memory=memory_limit, table=table_limit, made=birth.store)
    instances = Instances(member, store.context, process, made=birth.instances)
    return Birth(store, watch, instances, instances.take_trouble() if failed else None)
