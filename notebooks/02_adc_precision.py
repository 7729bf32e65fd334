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
# # 2. How many ADC bits?
#
# The converter is the costliest part of most chips, and its bits decide how much of a column's current survives. How many are
# needed depends on the encoding of the weights far more than on the network. Here is why.

# %%
import torch
from matplotlib.figure import Figure

import imcsim
from imcsim import plot, zoo
from imcsim.functional.dac import PulseTrain, digits
from imcsim.functional.encode import cell_levels, slicing
from imcsim.functional.quantize import quantize_input, quantize_weight

net = zoo.load("resnet20", n=200)

# %% [markdown]
# ## What a converter sees
#
# One layer by hand, with the pure functions that the simulator itself is made of: 8-bit weights as slices of two bits, 8-bit
# inputs as eight pulses. A column of an array adds up to 128 cells.

# %%
layer = net.model.layer3[0].conv2
seen = []
handle = layer.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
with torch.no_grad():
    net.model(net.images[:8])
handle.remove()

patches = (
    torch.nn.functional.unfold(seen[0], 3, padding=1).transpose(1, 2).reshape(1, -1, 64 * 9)[:, ::4, :128]
)
codes, _ = quantize_input(patches, float(seen[0].max()), 8, signed=False)
pulses = digits(codes.double(), PulseTrain(8, 1))  # (cycles, 1, vectors, 128 rows) of 0 and 1
matrix = layer.weight.detach().reshape(1, 64, 576)[:, :, :128]
w_int, _ = quantize_weight(matrix, 8, per_channel=False)

figure = Figure(figsize=(10, 3.4), layout="constrained")
for ax, encoding in zip(figure.subplots(1, 2), ("differential", "offset"), strict=True):
    cells = cell_levels(
        w_int, slicing(encoding, 8, 2), encoding
    ).double()  # (1, planes, slices, rows, outputs)
    column = cells[:, 0] - cells[:, 1] if encoding == "differential" else cells[:, 0]
    for s in (0, 3):
        currents = pulses @ column[:, s]
        ax.hist(
            currents.flatten().numpy(), bins=80, histtype="step", label=f"slice {s}", color=plot.PALETTE[s]
        )
        print(f"{encoding}, slice {s}: mean {currents.mean():6.1f}, deviation {currents.std():5.1f} levels")
    ax.set(title=encoding, xlabel="column current (levels)", ylabel="conversions", yscale="log")
    ax.legend(frameon=False)
figure

# %% [markdown]
# The top slice counts 64 times in the digital sum. With differential cells it is nearly always zero, for most weights are small.
# With offset cells a small weight is stored as 128, which is *two levels in the top slice*: its columns carry a common current
# (18 levels on average here, and it goes up and down with the inputs), and it is the little on top of it that matters.
#
# ## What that does to a network

# %%
base = imcsim.Hardware.model_validate(
    {"weights": {"bits": 8, "cell_bits": 2}, "inputs": {"bits": 8}, "adc": {"bits": 8, "range": "calibrated"}}
)
rows = []
for encoding, choices in {"differential": (4, 5, 6, 8), "offset": (5, 6, 7, 8)}.items():
    for bits in choices:
        sim = imcsim.convert(net.model, base.replace({"weights.encoding": encoding, "adc.bits": bits}))
        imcsim.calibrate(sim, net.calibration_batches())
        found = imcsim.evaluate(sim, net.batches(), reference=net.model)
        rows.append(found.row(encoding=encoding, adc_bits=bits))
plot.adc_sweep(rows, baseline=imcsim.evaluate(net.model, net.batches()).top1)

# %% [markdown]
# ## What to take away
#
# - Differential cells keep their accuracy down to about four bits here, offset cells need seven. The intervals are wide (200
#   images), but the gap in SQNR at equal bits is more than 20 dB, and SQNR says so with few images.
# - SQNR falls before accuracy does: it is the better alarm.
# - Ranges were *calibrated*: each slice has the range of least mean square error on training images. With `range = "full"` an
#   8-bit converter on 128 rows already rounds; try it.
# - `scripts/adc_sweep.py` is this sweep with 1,000 images, meant to be copied.
