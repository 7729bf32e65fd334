"""The table engine against plain torch: one thread, interleaved, medians and minima.

python -m benchmarks.bench_table [--rounds 15] [--isa avx2]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch

from imcsim.functional.adc import Converter
from imcsim.functional.dac import PulseTrain
from imcsim.functional.mvm import Columns
from imcsim.kernels import simd, table

EIGHT_BIT = Converter(127, 384, 127, 254)
CLIP = Converter(1, 1, 127, 254)


def reads_of(rows: int, array: int) -> tuple[tuple[int, int], ...]:
    return tuple((i, min(rows, i + array)) for i in range(0, rows, array))


def differential(
    rows: int, outputs: int, bits: int = 8, cell_bits: int = 2, noise: float = 0.0
) -> torch.Tensor:
    """Signed digits of random weights: (1, slices, rows, outputs)."""
    weight = torch.randn(outputs, rows)
    w_int = torch.round(weight / weight.abs().max() * ((1 << (bits - 1)) - 1)).to(torch.int64)
    digits = range(0, bits - 1, cell_bits)
    mask = (1 << cell_bits) - 1
    cells = torch.stack([((w_int.abs() >> d) & mask) * w_int.sign() for d in digits]).transpose(1, 2)[None]
    return cells.double() + noise * torch.randn(cells.shape).double() if noise else cells


def conv_case(
    cells: torch.Tensor,
    converter: Converter,
    train: PulseTrain,
    isa: simd.InstructionSet,
    array: int = 128,
    complementary: bool = False,
) -> Callable[[], object]:
    streams = cells.shape[1]
    columns = Columns(cells, reads_of(cells.shape[2], array), (1,) * streams, (0.0,) * streams)
    tables = table.build(columns, train, (converter,) * streams, isa)
    low = -((1 << train.magnitude_bits) - 1) if train.polarity or complementary else 0
    image = torch.randint(low, 1 << train.magnitude_bits, (16, 64, 16, 16))
    image = image.sign() if complementary else image
    image = image.to(torch.uint8) if low == 0 and train.magnitude_bits <= 8 else image.to(torch.int32)
    finish = table.Finish(
        scale=torch.tensor(0.1).double(), bias=torch.zeros(1, 64).double(), dtype=torch.float32
    )
    geometry = table.Geometry((3, 3), padding=(1, 1))
    return lambda: table.conv_stream_sums(image, geometry, tables, finish, complementary)


def cases(isa: simd.InstructionSet) -> dict[str, Callable[[], object]]:
    bits8 = PulseTrain(8, 1)
    ideal = differential(576, 64)
    return {
        "8b x 4 slices, any scale": conv_case(ideal, EIGHT_BIT, bits8, isa),
        "8b x 4 slices, clip only": conv_case(ideal, CLIP, bits8, isa),
        "8b x 4 slices, real cells": conv_case(differential(576, 64, noise=0.05), EIGHT_BIT, bits8, isa),
        "8b x 4 slices, signed pulses": conv_case(ideal, EIGHT_BIT, PulseTrain(7, 1, polarity=True), isa),
        "8b x 4 slices, real, signed": conv_case(
            differential(576, 64, noise=0.05), EIGHT_BIT, PulseTrain(7, 1, polarity=True), isa
        ),
        "8b x 4 slices, digital subtraction": conv_case(
            torch.cat([ideal.clamp(min=0), -ideal.clamp(max=0)], dim=1),
            Converter(255, 384, 0, 255),
            bits8,
            isa,
        ),
        "8b x 4 slices, 2-bit pulses": conv_case(
            ideal, Converter(127, 1152, 127, 254), PulseTrain(8, 2), isa
        ),
        "8b x 4 slices, 4-bit pulses": conv_case(
            ideal, Converter(127, 5760, 127, 254), PulseTrain(8, 4), isa
        ),
        "16b x 8 slices (isaac)": conv_case(
            torch.randint(0, 4, (1, 8, 576, 64)), Converter(1, 1, 0, 255), PulseTrain(16, 1), isa
        ),
        "xnor, 3-bit sense amplifier": conv_case(
            torch.randint(0, 2, (1, 1, 1152, 64)),
            Converter(7, 64, 0.5, 7, ties_up=True),
            PulseTrain(1, 1),
            isa,
            complementary=True,
        ),
        "8b x 4 slices, 64 rows": conv_case(ideal, EIGHT_BIT, bits8, isa, array=64),
        "8b x 4 slices, 256 rows": conv_case(ideal, EIGHT_BIT, bits8, isa, array=256),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--isa", choices=[s.name for s in simd.available()])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    isa = next(s for s in simd.available() if arguments.isa in (None, s.name))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    conv, x = torch.nn.Conv2d(64, 64, 3, padding=1), torch.randn(16, 64, 16, 16)
    work: dict[str, Callable[[], object]] = {"torch conv": lambda: conv(x), **cases(isa)}
    times: dict[str, list[float]] = {name: [] for name in work}
    with torch.no_grad():
        for run in work.values():
            run()
        for _ in range(arguments.rounds):
            for name, run in work.items():
                start = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - start)
    base = times["torch conv"]
    rows = {
        name: {
            "median_ms": statistics.median(t) * 1e3,
            "ratio": statistics.median(t) / statistics.median(base),
            "ratio_of_minima": min(t) / min(base),
        }
        for name, t in times.items()
    }
    if arguments.json:
        print(
            json.dumps(
                {"isa": isa.name, "machine": platform.processor(), "torch": torch.__version__, "rows": rows}
            )
        )
        return
    for name, row in rows.items():
        ratios = f"{row['ratio']:7.2f}x  (minima {row['ratio_of_minima']:.2f}x)"
        print(f"{name:36s} {row['median_ms']:8.2f} ms {ratios}")


if __name__ == "__main__":
    main()
