"""Optimal clipping, codebooks and mixed rows against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import imcsim
from imcsim import quant
from imcsim.errors import ConversionError, MappingError
from imcsim.quant.codebook import CodebookWeight, kmeans, most_frequent, nearest
from imcsim.quant.methods.sakr import OptimalInput, OptimalWeight, magnitude_aware, optimal_clip
from imcsim.quant.rows import IntraLayerWeight, MixAndMatchWeight, sp2_codes
from tests.quant.statements import close, gradient, input_value, weight_value, weights

W = weights(0, (1, 8, 200))


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_optimal_clip_is_a_fixed_point_near_the_least_error(bits: int) -> None:
    top = 2 ** (bits - 1) - 1
    x = np.abs(W.numpy().flatten())
    s = float(optimal_clip(W, top, (0, 1, 2)))
    again = x[x > s].sum() / ((x <= s).sum() / (12 * top**2) + (x > s).sum())
    assert abs(again - s) < 1e-3 * s
    error = lambda c: ((np.clip(np.rint(x / c * top), -top, top) * c / top - x) ** 2).mean()  # noqa: E731
    assert error(s) <= 1.1 * min(error(c) for c in np.linspace(0.05, x.max(), 300))
    assert error(s) < error(x.max()) or bits == 8
    assert float(optimal_clip(torch.zeros(1, 1, 4), top, (0, 1, 2))) == 1


@pytest.mark.parametrize("per_channel", [False, True])
def test_magnitude_aware_weights(per_channel: bool) -> None:
    quantizer = OptimalWeight(4, per_channel=per_channel)
    s = optimal_clip(W, 7, (2,) if per_channel else (0, 1, 2)).numpy()
    close(quantizer.encode(W).value(), np.clip(np.rint(W.numpy() / s * 7), -7, 7) * s / 7)
    want = np.where(np.abs(W.numpy()) <= s, 1, s / np.abs(W.numpy()))
    assert (want < 1).any()
    close(gradient(lambda t: weight_value(quantizer, t), W), want)


def test_optimal_activations() -> None:
    quantizer = OptimalInput(4, signed="auto")
    x = weights(1, (40, 20), 1.0).relu()
    quantizer.update(x)
    s = float(optimal_clip(x.flatten(), 15, (0,)))
    close(quantizer.clip, s)
    assert quantizer.signed is False
    quantizer.update(2 * x)
    close(quantizer.clip, 0.9 * s + 0.1 * float(optimal_clip(2 * x.flatten(), 15, (0,))))
    s = float(quantizer.clip)
    y = weights(2, (40, 20), 1.0)
    close(input_value(quantizer, y), np.rint(np.clip(y.numpy(), 0, s) / (s / 15)) * (s / 15))
    slopes = np.where(y.numpy() < 0, 0, np.where(y.numpy() <= s, 1, s / np.abs(y.numpy())))
    close(gradient(lambda t: input_value(quantizer, t), y), slopes)
    assert magnitude_aware(torch.tensor([-4.0]), 2.0, -2.0).item() == 0.5


def test_kmeans_of_eq_5_over_the_nearest() -> None:
    x = torch.cat([weights(s, (50,), 0.05) + s for s in range(4)])
    centroids = kmeans(x, 4).numpy()
    close(centroids, [float(x[50 * s : 50 * s + 50].mean()) for s in range(4)])
    values = weights(3, (500,))
    found = kmeans(values, 6)
    v = values.numpy()
    cost = lambda c: (np.abs(v[:, None] - c).min(1) ** 2).sum()  # noqa: E731
    assigned = np.abs(v[:, None] - found.numpy()).argmin(1)
    close(found, [v[assigned == j].mean() for j in range(6)], 1e-3)  # each the mean of what is nearest
    assert cost(found.numpy()) < cost(np.linspace(v.min(), v.max(), 6))


def test_nearest_of_eq_6() -> None:
    book, x = np.array([-1.0, -0.2, 0.5, 2.0]), np.linspace(-3, 3, 100)
    want = book[np.abs(x[:, None] - book).argmin(1)]
    close(nearest(torch.from_numpy(x), torch.from_numpy(book)), want)


def test_most_frequent_values() -> None:
    codes = torch.tensor([3.0, 3, 3, -1, -1, 1, 1, 0, 0, 0, 0, 7])
    assert most_frequent(codes, 3).tolist() == [-1, 0, 3]
    assert most_frequent(codes, 9).tolist() == [-1, 0, 1, 3, 7]


@pytest.mark.parametrize("kind", ["kmeans", "frequent"])
def test_codebook_weights(kind) -> None:
    quantizer = CodebookWeight(8, 6, kind=kind, refit=3)
    quantizer.start(W)
    s = float(W.abs().max()) / 31
    book = quantizer.codebook.numpy()
    close(book, np.rint(book))
    if kind == "kmeans":
        close(book, np.rint(kmeans(W.flatten() / s, 8).numpy()))
    else:
        codes, counts = np.unique(np.rint(W.numpy() / s), return_counts=True)
        assert counts[np.isin(codes, book)].min() >= counts[~np.isin(codes, book)].max()
    u = W.numpy() / s
    close(quantizer.encode(W).value(), s * book[np.abs(u[..., None] - book).argmin(-1)])
    close(gradient(lambda t: weight_value(quantizer, t), W), 1.0)
    for _ in range(2):
        quantizer.update(2 * W + 1)
        close(quantizer.codebook, book)
    quantizer.update(2 * W + 1)
    close(quantizer.scale, float((2 * W + 1).abs().max()) / 31)


def test_sums_of_two_powers_of_two() -> None:
    assert sp2_codes(4) == ([0, 1, 2, 4, 5, 6, 8], 8)  # 1/8 + 1/2 = 5/8 and so on
    magnitudes, one = sp2_codes(5)
    powers = [0, 1 / 2, 1 / 4, 1 / 8]
    assert [m / one for m in magnitudes] == sorted({a + b for a in powers for b in powers})


def test_mix_and_match_rows() -> None:
    w = W * torch.linspace(0.2, 1.6, 8, dtype=torch.float64)[:, None]
    value = MixAndMatchWeight(4, share=0.5, bits=8).encode(w).value().numpy()[0]
    levels = np.array([0, 1, 2, 4, 5, 6, 8]) / 8
    order = np.argsort(w.numpy()[0].var(1))
    for place, row in enumerate(order):
        real = w.numpy()[0, row]
        top = np.abs(real).max()
        if place < 4:
            want = levels[np.abs(np.abs(real / top)[:, None] - levels).argmin(1)] * np.sign(real) * top
        else:
            want = np.rint(real / top * 7) / 7 * top
        close(value[row], want)
    quantizer = MixAndMatchWeight(4, share=0.5, bits=8)
    close(gradient(lambda t: weight_value(quantizer, t), W), 1.0)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_rows_of_largest_error_get_8_bits(share: float) -> None:
    value = IntraLayerWeight(share=share, bits=8).encode(W).value().numpy()[0]
    w = W.numpy()[0]
    peak = np.abs(w).max(1, keepdims=True)
    four, eight = np.rint(w / peak * 7) * peak / 7, np.rint(w / peak * 127) * peak / 127
    order = np.argsort(-((four - w) ** 2).mean(1))
    wide = np.isin(np.arange(8), order[: round(8 * share)])
    close(value, np.where(wide[:, None], eight, four))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: quant.Codebook(1), ConversionError, "size = 1 must be at least 2"),
        (lambda: quant.Codebook(kind="median"), ConversionError, "kind = 'median' 'kmeans' or 'frequent'"),
        (lambda: quant.MixAndMatch(bits=8), ConversionError, "bits = 8 must be 3 to 6"),
        (lambda: quant.IntraLayer(share=2), ConversionError, "share = 2 is not between 0 and 1"),
        (
            lambda: imcsim.convert(
                nn.Linear(2, 2), imcsim.Hardware(weights={"bits": 4}), qat=quant.IntraLayer()
            ),
            MappingError,
            "IntraLayer: weights.bits = 4 is too narrow: it takes 8 or more",
        ),
    ],
)
def test_wrong_options(make, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()
