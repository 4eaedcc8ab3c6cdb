"""The seam between Python and the C core: one module for each group of headers of ``csrc``, used by its full name.

Everything that crosses is checked here for kind and range; wasmtime's objects travel as plain
addresses (``int``). A function raises :class:`pylinker.native.failures.Failure` when wasmtime hands
back a trap or an error; who owns wasmtime's Python side turns it into the exception a user knows
(:mod:`pylinker.runtime.failures`).

Threads: a call takes as long as the guest runs and releases the GIL; the store behind ``context``
belongs to the calling thread for the duration.

The modules, each after those it uses: ``core`` (which imports ``pylinker._core``), ``enums``,
``scopes``, ``failures``, ``api``, ``waits``, ``stack``, ``objects``, ``hostfuncs``, ``callbacks``;
``trace``, ``sync``, ``shared``, ``member``, ``epoch``, ``recursive``; ``wasi``, ``search``; ``sources``,
``symbols``, ``libraries``, ``replay``, ``instances``, ``clone``, ``threads``, ``prepared``.
"""
