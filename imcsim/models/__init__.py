"""Networks and data from wherever they come: the zoo, an import path, torch.export and ONNX files.

Files of networks and code at import paths are code: load only what you trust. Checkpoints are tensors only.
"""

from imcsim.models.data import DATA_SETS, load_data
from imcsim.models.source import load_benchmark, load_model

__all__ = ["DATA_SETS", "load_benchmark", "load_data", "load_model"]
