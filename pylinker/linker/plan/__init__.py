"""What a load decides: places, imports, and the operation that carries it out.

Nothing here touches a store.
"""
