"""Everything that knows wasmtime: engines, stores, compiled modules, WASI, and what the C core needs to reach them.

Nothing above this package imports wasmtime, and only this package knows its private layout.
"""
