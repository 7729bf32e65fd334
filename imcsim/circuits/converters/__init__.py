"""Converters as circuits: what their parts' errors do to their decision levels, and how that is measured."""

from imcsim.circuits.converters.build import Draw, converter_bank

__all__ = ["Draw", "converter_bank"]
