"""Objects by import path, `package.module:name`."""

from __future__ import annotations

import importlib
import sys
from functools import reduce
from pathlib import Path
from typing import Any

from imcsim.errors import InputError


def import_object(path: str, what: str) -> Any:
    """The object at an import path; modules in the working folder are found too.

    Args:
        path: ``package.module:name``; the name may be dotted.
        what: the path's role, for the error.

    Returns:
        The object.

    Raises:
        InputError: the path has another form, or its module or name cannot be imported.
    """
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise InputError(
            f"{what} {path!r} is not an import path; write package.module:name, such as imcsim.zoo:resnet20"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        return reduce(getattr, name.split("."), importlib.import_module(module))
    except Exception as error:  # importing runs the module, which may raise anything
        raise InputError(
            f"{what} {path!r} cannot be imported ({type(error).__name__}: {error}); write "
            "package.module:name of a module that is installed or lies in the working folder"
        ) from error
