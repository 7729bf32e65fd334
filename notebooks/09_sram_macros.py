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
# # 9. SRAM macros
#
# SRAM cells do not drift and are written in nanoseconds; what they lose is in the readout. Four ways to add up a column: charge, a
# divider, a current, and a digital adder tree.

# %%
import pandas as pd
import torch
from matplotlib.figure import Figure

import imcsim
from imcsim import devices, plot

generator = torch.Generator().manual_seed(0)
x = torch.rand(256, 128, generator=generator)
layer = torch.nn.Linear(128, 32, bias=False)
with torch.no_grad():
    layer.weight.copy_(torch.randn(32, 128, generator=generator))


@torch.no_grad()
def sqnr(changes, seeds=(0, 1, 2)):
    """Against the layer with its weights and inputs in the same codes."""
    chip = imcsim.Hardware.model_validate({"inputs": {"range": 1.0, "signed": False}}).replace(changes)
    ideal = chip.replace({"adc": None, "device": {"card": "ideal"}, "array.readout": "current"})
    want = imcsim.convert(layer, ideal)(x)
    sim = imcsim.convert(layer, chip)
    imcsim.calibrate(sim, [x])
    found = []
    for seed in seeds:
        imcsim.program(sim, seed)
        error = (sim(x) - want).double()
        found.append(float(10 * torch.log10(want.double().square().sum() / error.square().sum())))
    return sum(found) / len(found)


# %% [markdown]
# ## Mismatch of a charge-domain array
#
# Each cell has a capacitor, and capacitors differ. The card states by how much; here its effect for one-bit slices against converters of
# several widths:

# %%
print(devices.load("sram_10t_charge").title)
ax = Figure(figsize=(5, 3.4), layout="constrained").subplots()
bits = range(4, 10)
for i, card in enumerate(("ideal", "sram_10t_charge")):
    chip = {
        "device.card": card,
        "array.readout": "current" if card == "ideal" else "charge",
        "weights.cell_bits": 1,
        "weights.bits": 8,
        "weights.encoding": "twos_complement",
    }
    line = [sqnr({**chip, "adc.bits": b, "adc.range": "calibrated"}) for b in bits]
    alone = sqnr(chip)
    ax.plot(bits, line, color=plot.PALETTE[i], marker=plot.MARKERS[i], label=card)
    print(f"{card}: {[round(v, 1) for v in line]}; without converters {alone:.1f} dB")
ax.set(xlabel="ADC bits", ylabel="SQNR (dB)")
ax.legend(frameon=False)
ax.grid(alpha=0.3)
ax.figure

# %% [markdown]
# From six bits up the two are *equal*: there a step of the converter is one level, and errors of a column that stay within half a level are
# rounded away. Without converters the mismatch would be seen in full.
#
# ## A digital macro loses nothing
#
# An adder tree under the array is exact, whatever the size. Its price is area and energy, not accuracy.

# %%
digital = {"device.card": "sram_digital", "array.readout": "digital", "weights.cell_bits": 1}
print(f"digital adder tree: {sqnr(digital)} dB")

# %% [markdown]
# ## Two published macros
#
# What their presets say of themselves, and of a network that does not fit into their few kilobytes: weights are then loaded in passes, and
# the traffic to DRAM counts.

# %%
net = torch.nn.Sequential(
    torch.nn.Flatten(), torch.nn.Linear(784, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10)
)
rows = {}
for name in ("conv_sram", "xnor_sram"):
    chip = imcsim.load_hardware(name)
    peak = chip.peak()
    costs = imcsim.estimate(net, torch.rand(1, 1, 28, 28), chip)
    rows[name] = {
        "GOPS/W at peak": peak.gops_per_watt,
        "mode": costs.mode,
        "passes": costs.passes,
        "energy (uJ)": 1e6 * costs.energy_J,
        "latency (us)": 1e6 * costs.latency_s,
        "TOPS/W of the network": costs.tops_per_watt,
    }
    print(f"{name}: {costs.dominant()}")
pd.DataFrame(rows)

# %% [markdown]
# ## What to take away
#
# - A macro's headline is for weights that are already there. With reloads the network's efficiency is another number altogether.
# - A converter that tells all levels apart makes an analog column as exact as a digital one, as long as mismatch stays below half a level;
#   with more rows at a time, or fewer bits, it does not.
# - The digital tree is exact: infinite SQNR here means equal to the last bit.
