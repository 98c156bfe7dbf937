"""Two classes, of which either may be the extension."""

from pyisolate import ExtensionBase


class One(ExtensionBase):
    pass


class Two(ExtensionBase):
    pass
