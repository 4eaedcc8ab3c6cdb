"""Everything that knows wasmtime: engines, stores, compiled modules, WASI, and what the C core needs to reach them.

Packages that use this one use a few public names of wasmtime-py (exceptions, ``wat2wasm``), the
others none. Its private names are used here alone; the layout of wasmtime's structures is in
``csrc`` (``call.h``, ``wrappers.h``).
"""
