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
# # 6. Training for the chip
#
# Two things can be trained away: the few levels that weights and inputs have, and the errors of the cells they are written to.
# A small network and 2,000 MNIST images, so that everything here takes a minute; `scripts/studies/recovery.py` is the serious
# version with ResNet-20.

# %%
import torch
from matplotlib.figure import Figure
from torch import nn

import imcsim
from imcsim import plot, quant, train, zoo
from imcsim.zoo import batches, mnist_subset

TRAINING = mnist_subset(train=True)
TEST = list(batches(*mnist_subset(), 250))


def shuffled(epoch):
    """The training set in another order every epoch."""
    order = torch.randperm(len(TRAINING[0]), generator=torch.Generator().manual_seed(epoch))
    return batches(TRAINING[0][order], TRAINING[1][order], 50)


torch.manual_seed(0)
net = zoo.lenet5(norm=True)
optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9, nesterov=True)
for epoch in range(4):
    for images, labels in shuffled(epoch):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
net.eval()
print("float:", imcsim.evaluate(net, TEST))

# %% [markdown]
# ## Noisy cells
#
# An error of 15 % of the conductance range on every cell is a bad device. Five chips:

# %%
bad = imcsim.Hardware.model_validate(
    {
        "device": {"programming": {"kind": "range", "sigma": 0.15}},
        "weights": {"bits": 6, "cell_bits": 5, "scale": "per_channel"},
        "inputs": {"bits": 6},
        "adc": {"bits": 8, "range": "calibrated"},
    }
)


def on_chips(sim, seeds=range(5)):
    found = train.evaluate_on_chips(sim, TEST, seeds)
    return [100 * one.top1 for one in found]


plain = imcsim.convert(net, bad)
imcsim.calibrate(plain, [TRAINING[0][:256]])
results = {"as trained": on_chips(plain)}

# %% [markdown]
# `train.fit` shows the network another chip at every step. Its *statistical* forward pass is one matrix product plus noise of the
# variance that the device and the converters have; `fidelity="exact"` runs every step as evaluation does.

# %%
tough = imcsim.convert(net, bad)
imcsim.calibrate(tough, [TRAINING[0][:256]])
fit = train.fit(tough, shuffled, epochs=4, lr=0.02, clip_sigmas=2.5)
print(fit)
results["trained against chips"] = on_chips(tough)

control = imcsim.convert(net, bad)
imcsim.calibrate(control, [TRAINING[0][:256]])
train.fit(control, shuffled, epochs=4, lr=0.02, strength=0.0)
results["trained on, without noise"] = on_chips(control)
for name, values in results.items():
    print(f"{name:26} mean {sum(values) / len(values):.1f} %, chips {', '.join(f'{v:.1f}' for v in values)}")

# %%
ax = Figure(figsize=(6.5, 3), layout="constrained").subplots()
for i, (name, values) in enumerate(results.items()):
    ax.plot(values, [name] * len(values), plot.MARKERS[i], color=plot.PALETTE[i])
ax.set_xlabel("top-1 of five chips (%)")
ax.grid(alpha=0.3, axis="x")
ax.figure

# %% [markdown]
# ## Few bits
#
# A training *method* gives each layer its quantizers, with their gradients; on ideal parts the chip equals the trained quantized
# network bit for bit. Two bits for weights and inputs, with DoReFa and with learned step sizes (LSQ), against simply rounding:

# %%
two_bits = imcsim.Hardware.model_validate(
    {"weights": {"bits": 2, "cell_bits": 2, "encoding": "offset"}, "inputs": {"bits": 2}}
)
eight_bits = two_bits.replace({"weights.bits": 8, "weights.cell_bits": 2, "inputs.bits": 8})
chips = {"*": two_bits, "conv1": eight_bits, "fc3": eight_bits}  # first and last layer at 8 bits, as is usual
for name, method in {"rounded": None, "DoReFa": quant.DoReFa(), "LSQ": quant.LSQ()}.items():
    methods = None if method is None else {"*": method, "conv1": None, "fc3": None}
    sim = imcsim.convert(net, chips, qat=methods)
    imcsim.calibrate(sim, [TRAINING[0][:256]])
    if method is not None:
        train.fit(sim, shuffled, epochs=3, lr=0.02, strength=0.0)
    print(f"{name:8}", imcsim.evaluate(sim, TEST))

# %% [markdown]
# ## What to take away
#
# - Training on without noise is the control: it wins back little of what the cells cost. Seeing chips wins back all.
# - Clipping weights (`clip_sigmas`) is half of it: fewer outliers mean that the others use more of the conductance range.
# - One thousand test images and five chips resolve about two points. Read the figure, not the third digit.
