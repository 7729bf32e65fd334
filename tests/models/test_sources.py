"""Networks from files and import paths give what the network they came from gives."""

from __future__ import annotations

import sys
import types
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import imcsim
from imcsim import zoo
from imcsim.errors import DataError, FileMissingError, InputError, MissingPackageError
from imcsim.models import load_benchmark, load_data, load_model

N = 32
CHIP = imcsim.Hardware.model_validate(
    {
        "adc": {"bits": 8, "range": "calibrated"},
        "device": {"programming": {"kind": "range", "sigma": 0.02}},
    }
)
BATCH = ({0: torch.export.Dim.AUTO},)


class Mixed(nn.Module):
    """Layers of several kinds, one used twice, and a matrix that is a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.depth = nn.Conv2d(4, 4, (3, 1), stride=2, padding=(1, 0), groups=4, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.up = nn.ConvTranspose2d(4, 2, 3, stride=2, output_padding=1)
        self.twice = nn.Linear(8, 8)
        self.matrix = nn.Parameter(torch.linspace(-1, 1, 16).view(2, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(torch.relu(self.norm(self.depth(self.stem(x)))))
        x = nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)
        x = self.twice(torch.relu(self.twice(x)))
        return nn.functional.linear(x, self.matrix)


def mixed() -> Mixed:
    torch.manual_seed(0)
    net = Mixed()
    net.norm.running_mean.uniform_(-1, 1)
    net.norm.running_var.uniform_(0.5, 2)
    return net.eval()


@pytest.fixture(scope="module")
def benchmark():
    return zoo.load("resnet20", n=N)


def export(model, x, path):
    torch.export.save(torch.export.export(model, (x,), dynamic_shapes=BATCH), path)


def to_onnx(model, x, path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of itself
        torch.onnx.export(model, (x,), path, **options)


def on_chip(model, benchmark, *, fold=False, hardware=CHIP):
    sim = imcsim.convert(model, hardware, fold_batchnorm=fold)
    imcsim.calibrate(sim, [benchmark.calibration[:32]])
    imcsim.program(sim, seed=1)
    return imcsim.evaluate(sim, benchmark.batches(size=N), reference=benchmark.model)


@pytest.mark.slow
def test_export_onnx_and_state_dict_of_a_resnet20_are_as_accurate_as_it(benchmark, tmp_path):
    """The same logits on the chip bit for bit, draws included; ONNX exporters fold BatchNorms."""
    plain, folded = on_chip(benchmark.model, benchmark), on_chip(benchmark.model, benchmark, fold=True)
    x = benchmark.images[:2]
    export(benchmark.model, x, tmp_path / "net.pt2")
    torch.save(benchmark.model.state_dict(), tmp_path / "net.pt")
    to_onnx(benchmark.model, x, tmp_path / "net.onnx", dynamo=True, dynamic_shapes=BATCH, verbose=False)
    for source, weights in (
        (str(tmp_path / "net.pt2"), None),
        ("imcsim.zoo:resnet20", tmp_path / "net.pt"),
    ):
        one = load_benchmark(source, weights=weights, data="cifar10", n=N)
        assert torch.equal(one.images, benchmark.images)
        assert set(one.model.state_dict()) == set(benchmark.model.state_dict())
        with torch.no_grad():
            assert torch.equal(one.model(one.images), benchmark.model(benchmark.images))
        assert on_chip(one.model, benchmark) == plain
    onnx = load_model(str(tmp_path / "net.onnx"))
    with torch.no_grad():
        near = imcsim.evaluate(onnx, benchmark.batches(size=N), reference=benchmark.model)
    assert near.sqnr_db > 100
    found = on_chip(onnx, benchmark)
    assert found.top1 == folded.top1
    assert found.sqnr_db == pytest.approx(folded.sqnr_db, abs=0.5)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch about itself
@pytest.mark.parametrize("decomposed", [False, True])
def test_exported_layers_of_every_kind_become_modules(tmp_path, decomposed):
    net, x = mixed(), torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    program = torch.export.export(net, (x,), dynamic_shapes=BATCH)
    if decomposed:
        program = program.run_decompositions({})
    torch.export.save(program, tmp_path / "net.pt2")
    made = load_model(str(tmp_path / "net.pt2"))
    with torch.no_grad():
        torch.testing.assert_close(made(x), net(x))
    kinds = {name: type(module).__name__ for name, module in made.named_modules()}
    assert kinds["stem"] == kinds["depth"] == "Conv2d"
    assert (kinds["up"], kinds["norm"], kinds["twice"]) == ("ConvTranspose2d", "BatchNorm2d", "Linear")
    assert kinds["matrix_layer"] == "Linear"
    assert not any(node.op == "call_function" and "linear" in str(node.target) for node in made.graph.nodes)
    sim = imcsim.convert(made, CHIP)
    assert {row.name for row in imcsim.summary(sim).rows} >= {"stem", "depth", "up", "twice", "matrix_layer"}


@pytest.mark.slow
@pytest.mark.parametrize("opset", [13, 17])
def test_onnx_of_the_older_exporter(tmp_path, opset):
    net, x = mixed(), torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    to_onnx(
        net,
        x,
        tmp_path / "net.onnx",
        dynamo=False,
        opset_version=opset,
        dynamic_axes={"x": {0: "n"}},
        input_names=["x"],
    )
    made = load_model(str(tmp_path / "net.onnx"))
    y = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(made(y), net(y), rtol=1e-4, atol=1e-5)
    assert sum(isinstance(module, nn.Linear) for module in made.modules()) >= 2


def test_a_stored_matrix_in_onnx_is_a_linear_layer(tmp_path):
    onnx = pytest.importorskip("onnx")
    weight = np.arange(12, dtype=np.float32).reshape(4, 3)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 4])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    file = tmp_path / "m.onnx"
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10), file
    )
    made = load_model(str(file))
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    assert any(isinstance(module, nn.Linear) for module in made.modules())
    torch.testing.assert_close(made(x), x @ torch.from_numpy(weight))


def test_import_paths_find_modules_classes_and_functions(tmp_path, monkeypatch):
    (tmp_path / "my_net_of_a_user.py").write_text(
        "from torch import nn\nNET = nn.Linear(4, 2)\ndef make(): return nn.Linear(4, 3)\nNUMBER = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert load_model("my_net_of_a_user:NET").out_features == 2
    assert load_model("my_net_of_a_user:make").out_features == 3
    with pytest.raises(InputError, match=r"is int; it must be a torch.nn.Module"):
        load_model("my_net_of_a_user:NUMBER")


def test_data_from_files_and_functions(tmp_path, monkeypatch):
    images, labels = np.zeros((300, 1, 2, 2), np.uint8), np.zeros(300, np.int32)
    np.savez(tmp_path / "d.npz", images=images, labels=labels)
    found = load_data(str(tmp_path / "d.npz"), n=5)
    assert (found.images.shape, found.labels.dtype) == ((5, 1, 2, 2), torch.int64)
    assert found.calibration.shape == (256, 1, 2, 2)
    module = types.ModuleType("my_data_of_a_user")
    module.load = lambda: (torch.ones(3, 2), torch.zeros(3), torch.ones(7, 2))
    monkeypatch.setitem(sys.modules, "my_data_of_a_user", module)
    assert load_data("my_data_of_a_user:load").calibration.shape == (7, 2)
    for name in ("cifar10", "cifar10_raw", "mnist"):
        assert len(load_data(name, n=3).labels) == 3


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda t: load_model("resnet21"), FileMissingError, "Did you mean 'resnet32'?"),
        (lambda t: load_model("none.pt2"), FileMissingError, "'none.pt2' does not exist"),
        (lambda t: load_model("net.safetensors"), InputError, "is a checkpoint: weights without a network"),
        (lambda t: load_model("torch.nn:Linaer"), InputError, "cannot be imported (AttributeError"),
        (lambda t: load_model("no_such_module:x"), InputError, "cannot be imported (ModuleNotFoundError"),
        (lambda t: load_model(":x"), InputError, "is not an import path"),
        (lambda t: load_model(str(t / "text.pt2")), DataError, "torch.export.save"),
        (lambda t: load_model(str(t / "text.onnx")), DataError, "is not a valid ONNX file"),
        (lambda t: load_model(str(t / "fixed.pt2")), InputError, "was exported for batches of 2 alone"),
        (lambda t: load_model(str(t / "training.pt2")), InputError, "was exported in training mode"),
        (lambda t: load_benchmark("torch.nn:Identity"), InputError, "says nothing of its data"),
        (lambda t: load_data("cifar11"), FileMissingError, "Did you mean 'cifar10'?"),
        (lambda t: load_data("none.npz"), FileMissingError, "'none.npz' does not exist"),
        (lambda t: load_data(str(t / "text.npz")), DataError, "cannot be read"),
        (lambda t: load_data(str(t / "bare.npz")), DataError, "has no array labels"),
        (lambda t: load_data(str(t / "short.npz")), DataError, "one class index an image"),
        (
            lambda t: load_data(str(t / "words.npz")),
            DataError,
            "words.npz' holds what is no array of numbers",
        ),
        (lambda t: load_data("mnist", n=0), DataError, "n = 0"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, call, error, says):
    for name in ("text.pt2", "text.onnx", "text.npz"):
        (tmp_path / name).write_text("text")
    np.savez(tmp_path / "bare.npz", images=np.zeros((2, 3)))
    np.savez(tmp_path / "words.npz", images=np.array(["a", "b"]), labels=np.zeros(2))
    np.savez(tmp_path / "short.npz", images=np.zeros((2, 3)), labels=np.zeros(3))
    if "pt2" in says or "batches" in says:
        torch.export.save(torch.export.export(mixed(), (torch.ones(2, 3, 8, 8),)), tmp_path / "fixed.pt2")
    if "training" in says:
        export(mixed().train(), torch.ones(2, 3, 8, 8), tmp_path / "training.pt2")
    with pytest.raises(error) as caught:
        call(tmp_path)
    assert says in str(caught.value)


def test_without_the_converter_the_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx2torch", None)
    (tmp_path / "net.onnx").write_bytes(b"")
    with pytest.raises(MissingPackageError, match=r"pip install 'imcsim\[onnx\]'"):
        load_model(str(tmp_path / "net.onnx"))
