"""Runs the benchmarks and presents their results: ``pylinker bench``.

Its dependencies beyond those of the library are the extra ``bench``. The modules:

- ``runner``: pytest in a process of its own, its progress, its results;
- ``plugin``: the other end in that process: the selection, and a line for each finished benchmark;
- ``facts``: the machine and the versions;
- ``results``: measurements, ratios and targets, the JSON, the comparison with an earlier run;
- ``table``: the results as cells of text;
- ``charts``: the results as charts;
- ``report``: the page;
- ``location``: the paths of the benchmarks and their guests;
- ``leaks``: ``pylinker bench leaks``: tests for memory growth;
- ``soak``: ``pylinker bench soak``: all operations at the same time, with faults;
- ``invariants``: invariants of an idle program.

The benchmarks themselves are ``pylinker.benchmarks``, in the sources ``benchmarks/``.
"""
