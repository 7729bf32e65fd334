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
# # 4. Drift, and what can be done about it
#
# Phase-change cells lose conductance with time: `g(t) = g0 (t / t0)^-nu`, with another `nu` in every cell.

# %%
from matplotlib.figure import Figure

import imcsim
from imcsim import devices, plot, zoo

net = zoo.load("resnet20", n=150)
card = devices.load("pcm_gst")
plot.device_card(card)[1].figure

# %% [markdown]
# The mean of `nu` is a common factor: every current shrinks alike, and a digital gain can undo that. The spread of `nu` is not:
# cells of one column drift apart. `age(..., compensation=)` models both remedies: one factor a layer, or one a column, from reads
# of reference inputs when the arrays were written and now.

# %%
chip = imcsim.Hardware.model_validate(
    {
        "device": {"card": "pcm_gst"},
        "weights": {"bits": 8, "cell_bits": 4},
        "inputs": {"bits": 8},
    }
)
sim = imcsim.convert(net.model, chip)
imcsim.calibrate(sim, net.calibration_batches())
imcsim.program(sim, seed=0)

times = {"as written": 0.0, "a minute": 60.0, "an hour": 3600.0, "a day": 86_400.0, "a month": 2.6e6}
found = {}
for compensation in (None, "global", "column"):
    imcsim.seed_reads(sim, 0)
    line = []
    for seconds in times.values():
        imcsim.age(sim, seconds, compensation=compensation)
        line.append(imcsim.evaluate(sim, net.batches(), reference=net.model))
    found[compensation or "none"] = line
    print(f"{compensation or 'none':7}", ", ".join(f"{100 * e.top1:.1f} % {e.sqnr_db:.1f} dB" for e in line))

# %%
ax = Figure(figsize=(6, 3.6), layout="constrained").subplots()
for i, (name, line) in enumerate(found.items()):
    ax.plot(
        list(times), [100 * e.top1 for e in line], color=plot.PALETTE[i], marker=plot.MARKERS[i], label=name
    )
ax.set(ylabel="top-1 (%)")
ax.legend(title="compensation", frameon=False)
ax.grid(alpha=0.3)
ax.figure

# %% [markdown]
# ## What to take away
#
# - Without compensation the network collapses: the BatchNorms after the layers expect currents of the size they were trained with.
# - One factor a layer brings most of it back; a factor a column little more, for `nu` depends on the cell, not on the column.
# - What is left at time zero is not drift at all: programming error and read noise of this card on 4-bit cells.
# - One chip, 150 images: differences of a few points are not resolved here. `scripts/studies/drift.py` has five chips.
