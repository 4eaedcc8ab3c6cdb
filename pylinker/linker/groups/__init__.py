"""Instance groups and threads: who has the linker, who follows, and how threads begin and end."""
