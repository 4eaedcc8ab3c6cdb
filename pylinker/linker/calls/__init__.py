"""The functions that guests call: dlfcn.h, and those of WASIX that are not in the core."""

from pylinker.linker.calls import dlfcn, wasix_closures, wasix_libraries, wasix_threads

__all__ = ["dlfcn", "wasix_closures", "wasix_libraries", "wasix_threads"]
