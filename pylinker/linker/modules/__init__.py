"""Libraries: their files, and their contents."""
