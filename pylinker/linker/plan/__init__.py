"""Plans: the decisions of a load, and the operation that carries them out.

Nothing here touches a store.
"""
