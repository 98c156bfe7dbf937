"""An extension that does nothing. Zygotes load it, to have done once what each of their children does."""

from pyisolate import ExtensionBase


class RehearsedExtension(ExtensionBase):
    """Does nothing."""
