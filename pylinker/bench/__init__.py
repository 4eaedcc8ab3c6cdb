"""Runs the benchmarks and shows what they found: ``pylinker bench``.

What it needs beyond the library is the extra ``bench``. ===========
========================================================================================== module
what it is ===========
========================================================================================== runner
pytest in a process of its own, its progress, its results plugin       the end of that process: what
is selected, and a line per benchmark that ended facts        the machine and the versions results
what was measured, its ratios and targets, the JSON, the comparison with an earlier run table
the results as cells of text charts       the results as charts report       the page location
where the benchmarks and their guests are leaks        ``pylinker bench leaks``: whether memory
grows soak         ``pylinker bench soak``: everything at once, with faults invariants   what must
be true of a program when nobody changes it ===========
==========================================================================================

The benchmarks themselves are ``pylinker.benchmarks``, in the sources ``benchmarks/``.
"""
