"""Diagnostics: debug output and traces."""
