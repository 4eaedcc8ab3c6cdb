"""Diagnostics: the debug output, and traces."""
