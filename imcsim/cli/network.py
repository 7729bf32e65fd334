"""Options that name a network and its data, for every command that takes one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imcsim import zoo
from imcsim.models import DATA_SETS

ModelName = Annotated[
    str,
    typer.Option(
        help=f"A network: {', '.join(zoo.available())}; package.module:name of one; a .pt2 file of "
        "torch.export; or an .onnx file."
    ),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(help="Its weights: safetensors, or a PyTorch state_dict (read as tensors only)."),
]
Folder = Annotated[
    Path | None, typer.Option(help="Folder of the official data files, for the whole test set.")
]
DataName = Annotated[
    str | None,
    typer.Option(
        help=f"Data of a network that is not the zoo's: {', '.join(DATA_SETS)}; an .npz file with images and "
        "labels; or package.module:name."
    ),
]
