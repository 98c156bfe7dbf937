"""Has workers of all kinds run functions of its own module."""

import concurrent.futures
import multiprocessing

from pyisolate import ExtensionBase


def square(number):
    return number * number


class Workers(ExtensionBase):
    def squares(self, method):
        context = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(2, context) as workers:
            return list(workers.map(square, range(4)))
