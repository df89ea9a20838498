"""The places of objects in memory. A component starts with the memory of its build, and
copies each page of it that it changes; the kernel maps the 64 KiB around each page that
is read. So the objects that a program uses shall lie side by side, apart from the rest.

The heap is dlmalloc's, which puts an object into the smallest free piece that has room
for it, and behind everything else only if there is no such piece.
"""

import gc

# Objects that take the place of free pieces.
_filling = []


def fill(largest):
    """Fills all free memory among objects, by pieces of this size in bytes at most."""
    gc.collect()
    end = max(max(map(id, gc.get_referents(holder)), default=0) for holder in gc.get_objects())
    size = largest
    # Fewer bytes are one object for all.
    while size >= 2:
        while id(piece := bytes(size)) < end:
            _filling.append(piece)
        size -= max(8, size >> 4 & ~7)
    while id(piece := object()) < end:
        _filling.append(piece)
