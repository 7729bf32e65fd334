"""Errors.

Everything a user can get wrong raises one of these, with what was given, what is allowed and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ImcsimError(Exception):
    """Base of every error that imcsim raises on purpose."""


class HardwareError(ImcsimError, ValueError):
    """A hardware description is wrong: unknown key, value out of range, fields that contradict each other."""


class MappingError(ImcsimError, ValueError):
    """A layer or its weights cannot be mapped onto the arrays that were described."""


class ConversionError(ImcsimError, ValueError):
    """A model cannot be converted as asked."""


class CalibrationError(ImcsimError, ValueError):
    """A range is needed that no calibration has set, or the calibration data are unusable."""


class InputError(ImcsimError, ValueError):
    """A tensor given to a layer or to a whole-model function has the wrong shape, type or values."""


class EngineError(ImcsimError, ValueError):
    """The engine asked for cannot compute this layer."""


class DeviceError(ImcsimError, ValueError):
    """A device card or a device parameter is wrong."""


class CircuitError(ImcsimError, ValueError):
    """A circuit function got values it cannot solve."""


class StudyError(ImcsimError, ValueError):
    """A study is described wrongly, or a worker of it was lost."""


class DataError(ImcsimError, ValueError):
    """A data file or a data set is not what it should be."""


class MissingPackageError(ImcsimError, ImportError):
    """An optional package that a function needs is not installed."""


class FileMissingError(ImcsimError, FileNotFoundError):
    """A file or a named preset, card or network does not exist."""


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """A sentence that names the closest allowed spelling, or an empty string.

    Args:
        name: what was given.
        allowed: what could have been meant.

    Returns:
        ``" Did you mean 'x'?"`` with a leading space, or ``""``.
    """
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
