"""Compiled steps: operations prepared once, run by OpenMP threads without the GIL.

Each module cuts its operations into tiles and hands them to the kernels of ``csrc``. Nothing else in nnpar sees a
pointer.
"""
