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
# # 7. ISAAC, PUMA and XNOR-RRAM compared
#
# Three published chips, the same questions: what do they keep of a network's accuracy, and what do they take for it? Each runs the
# kind of network it was made for.

# %%
import pandas as pd
import torch

import imcsim
from imcsim import plot, quant, train, zoo
from imcsim.zoo import batches, mnist_subset

NAMES = ("isaac", "puma", "xnor_rram")
chips = {name: imcsim.load_hardware(name) for name in NAMES}
pd.DataFrame(
    {
        name: {
            "weights": f"{c.weights.bits} bit, {c.weights.encoding}",
            "cells": f"{c.weights.cell_bits} bit",
            "inputs": f"{c.inputs.bits} bit, {c.inputs.bits_per_cycle} a cycle",
            "converter": f"{c.adc.bits} bit {c.adc.kind}",
            "array": f"{c.array.rows} x {c.array.cols}",
        }
        for name, c in chips.items()
    }
)

# %% [markdown]
# ## On paper
#
# `peak` counts what each paper counts. A figure that was fitted to its own target says `calibrated`, and proves nothing.

# %%
for name, chip in chips.items():
    peak = chip.peak()
    note = " (calibrated)" if peak.calibrated else ""
    print(f"{name:10} {peak.gops_per_watt:10.1f} GOPS/W {peak.gops_per_mm2:10.1f} GOPS/mm2{note}")

# %% [markdown]
# ## ResNet-20 on ISAAC and PUMA
#
# Both are 16-bit machines with 2-bit cells. What they lose with ideal cells is nothing that 150 images could show; the interesting part is
# what cells with errors do, for both store weights in eight slices.

# %%
net = zoo.load("resnet20", n=150)
rows = []
for name in ("isaac", "puma"):
    for sigma in (0.0, 0.02):
        chip = chips[name].replace({"device.programming": {"kind": "range", "sigma": sigma}})
        sim = imcsim.convert(net.model, chip)
        imcsim.calibrate(sim, net.calibration_batches())
        imcsim.program(sim, seed=0)
        found = imcsim.evaluate(sim, net.batches(), reference=net.model)
        rows.append({"chip": name, "cell error": sigma, "top1": found.top1, "sqnr_db": found.sqnr_db})
    costs = imcsim.estimate(sim, net.images[:1])
    print(
        f"{name}: {1e6 * costs.energy_J:.0f} uJ and {1e6 * costs.latency_s:.0f} us an image; {costs.dominant()}"
    )
pd.DataFrame(rows)

# %%
plot.breakdown(imcsim.estimate(imcsim.convert(net.model, chips["puma"]), net.images[:1])).figure

# %% [markdown]
# ## A binary network on XNOR-RRAM
#
# An XNOR array multiplies +1 and -1, and a 3-bit sense amplifier reads 64 products at once. A network must be trained for that: here a
# small perceptron on 2,000 MNIST images, its hidden layer binary, its first and last layer digital.

# %%
TRAINING, TEST = mnist_subset(train=True), list(batches(*mnist_subset(), 250))
torch.manual_seed(0)
mlp = torch.nn.Sequential(
    torch.nn.Flatten(),
    torch.nn.Linear(784, 256),
    torch.nn.BatchNorm1d(256),
    torch.nn.Linear(256, 256, bias=False),
    torch.nn.BatchNorm1d(256),
    torch.nn.ReLU(),
    torch.nn.Linear(256, 10),
)


def shuffled(epoch):
    order = torch.randperm(2000, generator=torch.Generator().manual_seed(epoch))
    return batches(TRAINING[0][order], TRAINING[1][order], 50)


xnor = chips["xnor_rram"].replace({"inputs.range": 1.0})
binary = {"1": None, "3": xnor, "6": None}
sim = imcsim.convert(mlp, binary, qat={"3": quant.BinaryConnect()})
imcsim.calibrate(sim, [TRAINING[0][:256]])
train.fit(sim, shuffled, epochs=6, lr=0.02, strength=0.0)
print("3-bit sense amplifiers:", imcsim.evaluate(sim, TEST))
print(imcsim.estimate(sim, TEST[0][0][:1]).dominant())

# %% [markdown]
# ## What to take away
#
# - ISAAC and PUMA agree to the bit on ideal cells: both are lossless 16-bit machines. They differ in what surrounds the arrays.
# - With cell errors their top slices decide; sixteen bits of weight do not help a cell that holds two of them badly.
# - An XNOR macro's hundreds of TOPS/W count one-bit operations and leave out what a whole chip needs. Compare along a row of
#   [the table of chips](../docs/chips/index.md), not across networks of different kinds.
