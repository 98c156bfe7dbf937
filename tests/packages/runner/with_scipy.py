import numpy as np
from scipy import fft, integrate, optimize


def minimise():
    return round(float(optimize.minimize(lambda x: (x[0] - 3) ** 2, [0.0]).x[0]), 3)


def workers():
    """A transform by several threads, and an integral by several processes."""
    signal = np.random.default_rng(1).random((64, 1024))
    same = np.allclose(fft.fft(signal, workers=2), np.fft.fft(signal))
    return bool(same) and round(float(integrate.quad(np.sin, 0, np.pi)[0]), 6)


def square(x):
    return (x[0] - 1) ** 2


def processes():
    found = optimize.differential_evolution(
        square, [(-5, 5)], workers=2, updating="deferred", seed=1, maxiter=5
    )
    return abs(float(found.x[0]) - 1) < 0.5
