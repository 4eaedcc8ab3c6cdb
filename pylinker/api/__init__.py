"""What an application developer touches: programs, libraries, functions."""
