# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5. Wires and array size
#
# Word and bit lines have resistance. A cell far from its driver and from the converter gives less current than it should, and
# how much less depends on all the others.

# %%
import torch
from matplotlib.figure import Figure

import imcsim
from imcsim import circuits, plot, zoo

# %% [markdown]
# ## One array
#
# With linear cells the array with its wires is still a matrix: `effective_conductance` is exact. Random cells of 1 to 100 uS, one
# ohm a segment:

# %%
cells = torch.rand(128, 128, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 99e-6 + 1e-6
plot.ir_drop_map(cells, word_line_ohm=1.0, bit_line_ohm=1.0).figure

# %%
for size in (32, 64, 128, 256):
    g = torch.rand(size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 99e-6 + 1e-6
    seen = circuits.effective_conductance(g, word_line_ohm=1.0, bit_line_ohm=1.0)
    print(f"{size:3} x {size:<3}: {100 * float(seen.sum() / g.sum()):.1f} % of the current is left")

# %% [markdown]
# While it is small the loss grows nearly with the *square* of the array's size, for wires get longer and carry more current. So
# small arrays suffer less, and need more converters.
#
# ## A network

# %%
net = zoo.load("resnet8", n=100)
base = imcsim.Hardware.model_validate(
    {
        "device": {"g_max_S": 20e-6, "on_off_ratio": 20.0},
        "weights": {"bits": 8, "cell_bits": 2, "scale": "per_channel"},
        "inputs": {"bits": 8},
        "adc": {"bits": 8, "range": "calibrated"},
    }
)
found = {}
for rows in (32, 128):
    for ohm in (0.0, 0.5, 2.0):
        chip = base.replace(
            {"array.rows": rows, "array.cols": rows, "array.word_line_ohm": ohm, "array.bit_line_ohm": ohm}
        )
        sim = imcsim.convert(net.model, chip)
        imcsim.program(sim, seed=0)
        imcsim.calibrate(sim, net.calibration_batches())  # on the arrays as they are, wires included
        found[rows, ohm] = imcsim.evaluate(sim, net.batches(), reference=net.model)
        print(f"{rows:3} rows, {ohm} ohm: {found[rows, ohm]}")

# %%
ax = Figure(figsize=(5, 3.4), layout="constrained").subplots()
for i, rows in enumerate((32, 128)):
    points = [(ohm, e.sqnr_db) for (r, ohm), e in found.items() if r == rows]
    ax.plot(*zip(*points, strict=True), color=plot.PALETTE[i], marker=plot.MARKERS[i], label=f"{rows} rows")
ax.set(xlabel="ohm a segment", ylabel="SQNR of the logits (dB)")
ax.legend(frameon=False)
ax.grid(alpha=0.3)
ax.figure

# %% [markdown]
# ## What to take away
#
# - Differential pairs help: both cells of a pair sit side by side and lose alike, and most cells are near `g_min`, which keeps
#   currents small. The random array above is a worst case.
# - The converters' ranges were calibrated on the arrays with their wires. Calibrated on ideal arrays they would be too wide.
# - Array size, cell conductance and wire resistance trade against each other; halving `g_max` does for IR drop what halving the
#   resistance does.
