"""Converters as circuits: what their parts' errors do to their decision levels, and how that is measured."""

from imcsim.circuits.converters.build import Draw, Values, converter_bank
from imcsim.circuits.converters.characterise import CodeDensity, SineTest, code_density, sine_test

__all__ = ["CodeDensity", "Draw", "SineTest", "Values", "code_density", "converter_bank", "sine_test"]
