"""A folder whose name is not an identifier, with a module beside this file."""

from . import helper

assert helper.ANSWER == 42
