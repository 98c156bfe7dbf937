"""An extension that does nothing. Zygotes load it, to have done once what each of their children does."""

from pyisolate.shared import ExtensionBase


class RehearsedExtension(ExtensionBase):
    """Does nothing."""
