"""Arithmetic that numba compiles: the same numbers on every processor, in any batch, on any number of threads.

`compiled` holds the kernels; `functions` and `arrays` call them with tensors. Import these only where `available()`.
"""

import warnings
from functools import cache


@cache
def available() -> bool:
    """Whether kernels can be compiled here; warns once where they cannot, and says why."""
    try:
        import worldmodel.kernels.compiled  # noqa: F401
    except Exception as error:  # numba is missing, is an unknown version, or finds no folder for compiled code
        folder = "; set NUMBA_CACHE_DIR to a folder that can be written" if _without_folder(error) else ""
        message = f"kernels cannot be compiled here ({error}): dreams run in plain PyTorch, which is slower{folder}"
        warnings.warn(message, stacklevel=2)
        return False
    return True


def _without_folder(error: Exception) -> bool:
    """Whether numba found no folder for compiled code."""
    return isinstance(error, OSError) or "no locator available" in str(error)
