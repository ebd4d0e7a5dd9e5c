"""Numba kernels over plain arrays: leaves that import nothing of ours and check nothing.

Callers validate and allocate; a kernel writes into what it is given. Each has a plain-Python twin in
`tests/reference`.
"""
