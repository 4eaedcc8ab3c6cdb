"""The binding to wasmtime: engines, stores, compiled modules, WASI.

Other packages use at most a few public names of wasmtime-py (exceptions, ``wat2wasm``). Its private
names are used here alone; the layout of wasmtime's structures is in ``csrc`` (``call.h``,
``wrappers.h``).
"""
