"""The inner loops of training on a CPU, compiled by numba when they are first called.

Each module has one operation, with its plain PyTorch reference beside it. The reference is what runs wherever the
compiled loop does not apply: on a GPU, in other precisions, on other layouts, and inside :func:`jit.plain`. Tests hold
the two together to a relative error of 1e-5, gradients included; ``docs/performance.md`` has what each one gives.
"""
