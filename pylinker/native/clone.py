"""Creation of the store of a new group, with all loaded libraries (``csrc/clone.h``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pylinker.native.core import ffi, lib
from pylinker.native.epoch import new_watch
from pylinker.native.instances import Instances
from pylinker.native.libraries import Library
from pylinker.native.member import Member
from pylinker.native.objects import Extern, Store
from pylinker.native.replay import ErrorRecord, Operation
from pylinker.native.wasi import WasiProcess

__all__ = ["GroupClone", "clone_group"]


class GroupClone(NamedTuple):
    """The result of :func:`clone_group`."""

    store: Store
    watch: object
    """The watch of the store; keep it as long as the store."""
    instances: Instances
    record: ErrorRecord | None
    """The error, or None."""


def clone_group(
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
    snapshot: Operation,
    blocks: Sequence[tuple[Library, int, int]],
) -> GroupClone:
    """Create a store for a new group, with all loaded libraries (``csrc/clone.h``).

    Types are addresses, 0 for objects that the main module defines. Blocks while guest code
    initialises thread-local data.
    """
    watch = new_watch(member, preempt=preempt)
    clone = ffi.new("pl_clone *")
    clone.engine = ffi.cast("pl_engine *", engine_address)
    clone.group = member.pointer
    clone.handle = member.handle
    clone.process = process.pointer
    clone.callback = lib.pl_python_host
    clone.check = lib.pl_python_check
    clone.watch = watch
    clone.memory_limit = memory_limit
    clone.table_limit = table_limit
    clone.memory = memory
    clone.table = ffi.cast("pl_type *", table_type)
    clone.stack_pointer = ffi.cast("pl_type *", stack_pointer_type)
    clone.stack_top = stack_top
    clone.snapshot = snapshot.pointer
    if blocks:
        packed = ffi.new(
            "pl_block[]", [(library.pointer, group, address) for library, group, address in blocks]
        )
        clone.blocks = packed
        clone.block_count = len(blocks)
    failed = lib.pl_clone_group(clone)
    store = Store(engine_address, memory=memory_limit, table=table_limit, made=clone.store)
    instances = Instances(member, store.context, process, made=clone.instances)
    return GroupClone(store, watch, instances, instances.take_error() if failed else None)
