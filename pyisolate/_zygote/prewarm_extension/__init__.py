"""An extension that does nothing. Zygotes load it to do once what each of their children would do."""

from pyisolate.shared import ExtensionBase


class PrewarmExtension(ExtensionBase):
    """Does nothing."""
