"""The seam between Python and the C core: one module for each group of headers of ``csrc``.

Modules are used by their full names. The seam checks kind and range of every argument; wasmtime's
objects are passed as addresses (``int``). A function raises :class:`.failures.Failure` for a trap
or an error of wasmtime; :mod:`pylinker.runtime.failures` turns it into the public exception.

Threads: a call takes as long as the guest runs and releases the GIL; the store behind ``context``
belongs to the calling thread for the duration.

The modules, each after those it uses: ``core`` (which imports ``pylinker._core``), ``enums``,
``scopes``, ``failures``, ``api``, ``waits``, ``stack``, ``objects``, ``hostfuncs``, ``callbacks``;
``trace``, ``sync``, ``shared``, ``member``, ``epoch``, ``recursive``; ``wasi``, ``search``;
``sources``, ``symbols``, ``libraries``, ``replay``, ``instances``, ``clone``, ``threads``,
``prepared``.
"""
