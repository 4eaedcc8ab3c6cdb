"""Imports of guests: the table of functions, the ABI, and the supported part of WASIX."""
