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
# # 1. Quickstart: ResNet-20 on ISAAC
#
# A pretrained network, real CIFAR-10 images, a published chip. Then the same network on a chip of our own.

# %%
import imcsim
from imcsim import plot, zoo

net = zoo.load("resnet20", n=200)  # the first 200 test images; weights and images are in the package
isaac = imcsim.load_hardware("isaac")
print(isaac.weights, isaac.inputs, isaac.adc, sep="\n")

# %% [markdown]
# `convert` gives a copy whose layers run on crossbars. `calibrate` looks at a few training images to find what
# input range each layer's DACs and, where a converter's range is to be calibrated, its ADCs should span.

# %%
sim = imcsim.convert(net.model, isaac)
imcsim.calibrate(sim, net.calibration_batches())
print(imcsim.evaluate(net.model, net.batches()))
print(imcsim.evaluate(sim, net.batches(), reference=net.model))

# %% [markdown]
# The chip loses nothing but the rounding of weights and inputs to 16 bits: ISAAC's flipped columns let an 8-bit converter tell
# every sum of 128 two-bit cells apart. `summary` says so for each layer, and where each layer lies.

# %%
summary = imcsim.summary(sim)
print(summary.frame()[["name", "matrix", "arrays", "utilisation", "engine", "reason"]].head(6).to_string())
plot.tile_map(summary).figure

# %% [markdown]
# What it costs, by the paper's own component figures:

# %%
costs = imcsim.estimate(sim, net.images[:1])
print(costs.dominant())
plot.breakdown(costs).figure

# %% [markdown]
# ## A chip of our own
#
# A description is a few tables; every field that is left out has a default. `replace` takes dotted names.

# %%
mine = imcsim.Hardware.model_validate(
    {
        "name": "mine",
        "device": {"programming": {"kind": "range", "sigma": 0.01}},  # 1 % of g_max - g_min on every cell
        "weights": {"bits": 8, "cell_bits": 2},
        "inputs": {"bits": 8},
        "adc": {"bits": 8, "range": "calibrated"},
    }
)
for chip in (
    mine,
    mine.replace({"adc.bits": 5}),
    mine.replace({"weights.encoding": "offset", "adc.bits": 6}),
):
    sim = imcsim.convert(net.model, chip)
    imcsim.calibrate(sim, net.calibration_batches())
    imcsim.program(sim, seed=1)
    print(
        f"{chip.weights.encoding}, {chip.adc.bits} bits:",
        imcsim.evaluate(sim, net.batches(), reference=net.model),
    )

# %% [markdown]
# Two hundred images give an interval of several points, so read the first two lines as *no visible loss*, no more. The third is
# a collapse, whatever the interval: offset cells put a large common current through the converter. Notebook 2 shows why.
