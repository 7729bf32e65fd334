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
# # 8. Your own device: from CSV to accuracy
#
# Measured points become a device card, and the card goes into a chip like any published one. Nobody's measurements are in this notebook:
# the "laboratory" below is a made-up device, so that we can see whether the fit finds what was put in.

# %%
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import imcsim
from imcsim import devices, zoo

FOLDER = Path(tempfile.mkdtemp())
draw = np.random.Generator(np.random.Philox(7))
G_MAX, G_MIN = 50e-6, 5e-6
TRUTH = {"sigma_norm": 0.005, "nu_mean": 0.01, "nu_std": 0.003}

targets = np.repeat(np.linspace(G_MIN, G_MAX, 8), 200)
levels = pd.DataFrame({"level": np.tile(np.arange(8), 50)})
levels["g_S"] = G_MIN + (G_MAX - G_MIN) * levels["level"] / 7
levels.to_csv(FOLDER / "levels.csv", index=False)
written = targets + TRUTH["sigma_norm"] * (G_MAX - G_MIN) * draw.standard_normal(targets.size)
pd.DataFrame({"target_S": targets, "g_S": written}).to_csv(FOLDER / "writing.csv", index=False)

times = np.geomspace(1.0, 1e5, 8)
nu = TRUTH["nu_mean"] + TRUTH["nu_std"] * draw.standard_normal(100)
g = 30e-6 * times[None] ** -nu[:, None]
cells = np.repeat(np.arange(100), 8)
pd.DataFrame({"cell": cells, "time_s": np.tile(times, 100), "g_S": g.ravel()}).to_csv(
    FOLDER / "retention.csv", index=False
)
pd.read_csv(FOLDER / "retention.csv").head(3)

# %% [markdown]
# ## Fit
#
# One equation at a time; each `save` adds to the card. Parameters come with 95 % intervals.

# %%
card = FOLDER / "my_device.toml"
for csv, equation in (
    ("levels.csv", "levels"),
    ("writing.csv", "programming.range"),
    ("retention.csv", "drift.power_law"),
):
    found = devices.fit(FOLDER / csv, equation=equation)
    found.save(card)
    print(found)
print("put in:", TRUTH)

# %%
found.plot().figure

# %% [markdown]
# ## On a network

# %%
net = zoo.load("resnet8", n=200)
chip = imcsim.Hardware.model_validate(
    {
        "device": {"card": str(card)},
        "weights": {"bits": 8, "cell_bits": 2, "scale": "per_channel"},
        "adc": {"bits": 8, "range": "calibrated"},
    }
)
sim = imcsim.convert(net.model, chip)
imcsim.calibrate(sim, net.calibration_batches())
for compensation in (None, "column"):
    for seconds in (0.0, 3600.0, 1e6):
        imcsim.program(sim, seed=0)
        imcsim.age(sim, seconds, compensation=compensation)
        print(f"{compensation or 'no'} compensation, {seconds:9.0f} s:", imcsim.evaluate(sim, net.batches()))

# %%
print(imcsim.diagnose(sim, net.images[:16]))

# %% [markdown]
# ## What to take away
#
# - The intervals hold what was put in. They are about these cells as a sample of the device, not about whether the equation is right: look
#   at the residuals.
# - `imcsim devices fit` does the same from a shell, and [the page](../docs/your_own_device.md) lists all equations, pulse curves included.
# - A card states what was not measured. What is missing from it is missing from the accuracy.
