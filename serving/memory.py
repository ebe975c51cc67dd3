"""glibc's memory: it keeps freed blocks for later, which for pictures of 100 MB is more than the server itself takes."""

import contextlib
import ctypes

M_MMAP_THRESHOLD, MAPPED_BYTES = -3, 1 << 18  # of mallopt; asyncio reads pieces of this size


def map_large_blocks() -> None:
    """Have each large block returned as soon as it is freed: glibc would keep blocks of up to 32 MB. Others have no mallopt."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)


def return_freed_memory() -> None:
    """Return what is free among smaller blocks, which takes milliseconds."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
