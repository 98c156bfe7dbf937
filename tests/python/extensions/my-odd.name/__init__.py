"""A folder whose name is no identifier, with a module beside this file."""

from . import helper

assert helper.ANSWER == 42
