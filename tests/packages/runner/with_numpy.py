import numpy as np


def solve():
    a = np.random.default_rng(1).random((300, 300))
    return float(abs(a @ np.linalg.inv(a) - np.eye(300)).max()) < 1e-6
