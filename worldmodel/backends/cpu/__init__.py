"""The CPU back end: kernels that numba compiles, and the programs that they run."""
