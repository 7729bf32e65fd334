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
# # 3. Device variation: one chip is not the other
#
# A cell does not take the conductance it is asked for. How far off it may be before a network suffers depends on how weights
# are spread over cells.

# %%
import numpy as np
from matplotlib.figure import Figure

import imcsim
from imcsim import devices, plot, zoo
from imcsim.convert import named_layers

net = zoo.load("resnet8", n=150)
base = imcsim.Hardware.model_validate(
    {
        "weights": {"bits": 8, "cell_bits": 2, "scale": "per_channel"},
        "inputs": {"bits": 8},
        "adc": {"bits": 8, "range": "calibrated"},
    }
)

# %% [markdown]
# ## A measured cell
#
# Cards carry published measurements. NeuRRAM's cells (Wan et al., Nature 2022) a day after writing, and what ends up in one layer:

# %%
card = devices.load("neurram_wan2022")
plot.device_card(card)[0].figure

# %%
chip = base.replace({"device.card": "neurram_wan2022"})
sim = imcsim.convert(net.model, chip)
array = named_layers(sim)["conv2d_3"].array
plot.conductance_histogram(array.cells["conductance_S"], target=array.target_conductance()).figure

# %% [markdown]
# ## How much error is too much?
#
# Normal error on every cell, as a fraction of the conductance range; several chips each, because a chip is one draw.


# %%
def accuracies(chip, seeds=(0, 1, 2)):
    sim = imcsim.convert(net.model, chip)
    imcsim.calibrate(sim, net.calibration_batches())
    found = []
    for seed in seeds:
        imcsim.program(sim, seed=seed)
        found.append(imcsim.evaluate(sim, net.batches()).top1)
    return found


sigmas = (0.005, 0.01, 0.02, 0.04)
ax = Figure(figsize=(5.5, 3.6), layout="constrained").subplots()
for i, cell_bits in enumerate((1, 2, 4)):
    chips = [
        accuracies(
            base.replace(
                {"weights.cell_bits": cell_bits, "device.programming": {"kind": "range", "sigma": sigma}}
            )
        )
        for sigma in sigmas
    ]
    means = [100 * np.mean(found) for found in chips]
    ax.plot(sigmas, means, color=plot.PALETTE[i], marker=plot.MARKERS[i], label=f"{cell_bits} bit a cell")
    for sigma, found in zip(sigmas, chips, strict=True):
        ax.plot([sigma] * len(found), [100 * a for a in found], ".", color=plot.PALETTE[i], alpha=0.4)
    print(
        f"{cell_bits} bit a cell:",
        ", ".join(f"{s:.1%} {m:.1f} %" for s, m in zip(sigmas, means, strict=True)),
    )
ax.set(xlabel="programming error / (g_max - g_min)", ylabel="top-1 (%)", xscale="log")
ax.legend(frameon=False)
ax.figure

# %% [markdown]
# ## What to take away
#
# - The error of the *top slice's* cells is what counts: it is multiplied by that slice's digital weight. Fewer bits a cell mean that
#   the same relative error is a smaller part of a level, at the price of more cells.
# - Chips differ (the faint points). A single seed is an anecdote; studies give several.
# - These networks were not trained for it. Notebook 6 trains through the error and wins most of it back.
