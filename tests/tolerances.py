"""Every tolerance of the tests of the core, in one table: what, how much, why."""

EXACT = 0.0
"""Integer levels: `torch.equal` on codes, before any scale."""

SCALED_FLOAT64 = 1e-12
"""Relative to the largest output: an exact integer product times two float64 scales plus a bias."""

SCALED_FLOAT32 = 1e-6
"""The same, with inputs scaled and the result stored in float32 (2^-24 each)."""

ORACLE_FLOAT64 = 1e-10
"""Relative to the largest output: sums of a few thousand codes times an LSB that is no whole number of
levels."""

ORACLE_FLOAT32 = 2e-6
"""The same in a float32 model."""

GOLDEN = 1e-6
"""CrossSim's results, relative to the largest, in float64 and in float32."""

BATCH_CUT = 1e-5
"""API.md section 1: relative, where levels are real numbers."""

CODES_ONE_STEP_OFF = 1e-3
"""API.md section 1: the fraction of codes that a batch cut may move by one step where levels are real
numbers."""

GRADIENT_FLOAT64 = 1e-10
"""Relative to the largest gradient: another order of the same float64 sums."""

FOLD_FLOAT64 = 1e-12
"""Relative: BatchNorm folded into float64 weights."""

BFLOAT16 = 2.0**-8
"""Relative: one rounding to bfloat16."""

HALF_LSB = 0.5 + 1e-9
"""A converter's error inside its range, in LSB."""

TOP1_POINTS = 0.3
"""Issue 2: lossless converters at 8-bit weights and inputs, points of top-1 on 2,000 images."""

TOP1_POINTS_8_BIT_ADC = 1.0
SQNR_DB_8_BIT_ADC = 25.0
"""Issue 2: 8-bit calibrated differential converters: points of top-1, and at least so many dB on the
logits."""

Z = 4.0
"""Standard errors allowed in statistical tests: 1 in 16,000 with a fresh seed, never with the fixed ones."""
