"""The benchmarks: one file for each path that is measured, with its baseline in the same group.

``pylinker bench`` runs them; installed, this package is ``pylinker.benchmarks``. ``roles`` is what
a benchmark needs.
"""
