"""Instance groups and threads: locks, replay, and the creation and exit of threads."""
