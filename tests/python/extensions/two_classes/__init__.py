"""It is not clear which one is meant."""

from pyisolate import ExtensionBase


class One(ExtensionBase):
    pass


class Two(ExtensionBase):
    pass
