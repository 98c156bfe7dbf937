"""Inspects objects and exceptions of its host."""

import traceback

import host_side

from pyisolate import ExtensionBase


class OwnError(Exception):
    pass


class Curious(ExtensionBase):
    def fail(self):
        raise OwnError("to the host everything is told")

    async def call(self, name, *args):
        """Return an attribute of the host's object, or all that can be seen of the exception."""
        try:
            return await getattr(host_side.Told(), name)(*args)
        except BaseException as error:
            return self.look(error)

    def look(self, error):
        seen = {
            "name": getattr(type(error), "type_name", type(error).__name__),
            "text": str(error),
            "printed": "".join(traceback.format_exception(type(error), error, error.__traceback__)),
            "everything": repr([error.args, vars(error), error.__cause__, error.__context__]),
            "code": getattr(error, "code", None),
            "errno": getattr(error, "errno", None),
            "filename": getattr(error, "filename", None),
        }
        if hasattr(error, "exceptions"):
            seen["exceptions"] = [self.look(inner) for inner in error.exceptions]
        return seen
