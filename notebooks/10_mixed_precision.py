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
# # 10. How many bits for which layer?
#
# Arrays cost area and energy, and a layer's bits decide how many it takes. Some layers need theirs, others do not. Two ways to
# find out: by each layer's sensitivity, and by searching.

# %%
import imcsim
from imcsim import plot, zoo
from imcsim.train import mixed, search, sensitivity

net = zoo.load("resnet8", n=200)
calibration = list(net.calibration_batches())
test = list(net.batches())
chip = imcsim.Hardware.model_validate(
    {"weights": {"bits": 8, "cell_bits": 1, "scale": "per_channel"}, "inputs": {"bits": 8}}
)


def score(chips):
    sim = imcsim.convert(net.model, chips)
    imcsim.calibrate(sim, calibration)
    arrays = sum(mixed.array_count(sim).values())
    return imcsim.evaluate(sim, test, reference=net.model), arrays


for bits in (8, 6, 4, 3):
    found, arrays = score(chip.replace({"weights.bits": bits}))
    print(f"{bits} bits everywhere: {arrays:3.0f} arrays, {found}")

# %% [markdown]
# ## Sensitivity
#
# The SQNR of each layer's output at four bits, on the inputs that the float network gives it:

# %%
four = sensitivity.layer_sqnr(net.model, chip.replace({"weights.bits": 4}), calibration)
plot.layer_sqnr(four).figure

# %% [markdown]
# Given what each choice of bits loses in each layer and how many arrays it takes, the best choice within a budget is an integer
# program, solved exactly:

# %%
options = {"weights.bits": (3, 4, 6, 8)}
for budget in (40, 60):
    chosen = mixed.by_sensitivity(net.model, chip, options, calibration, budget=budget)
    found, arrays = score(chosen)
    print(f"{arrays:3.0f} arrays: {found}")
    print("  ", {name: own.weights.bits for name, own in chosen.items() if own is not None})

# %% [markdown]
# ## Search
#
# Sensitivity looks at layers one by one. A search looks at the accuracy of the whole, and takes many trials; Optuna proposes them.
# Give it a `storage` and it goes on where it stopped, with several workers at once. A few trials as a taste:

# %%
found = search.search(
    net.model, chip, options, test, calibration=calibration, trials=16, name="notebook", seed=1
)
rows = [{"arrays": c.cost, "top1": c.score, "trial": c.number} for c in found.candidates]
plot.pareto(rows, "arrays", label="trial").figure

# %% [markdown]
# ## What to take away
#
# - At equal numbers of arrays, bits chosen by sensitivity keep more accuracy than the same bits everywhere.
# - Sixteen trials of a search over nine layers with four choices each are far too few to beat it; hundreds on a storage are usual.
# - The search's score was measured on the same 200 images that it chose by, so its front is optimistic. Report a choice on images that
#   the search has not seen.
# - `by_sensitivity(cost=...)` takes any cost by layer: energy from `imcsim.estimate`, say.
