"""The networks load the weights they are meant for, and classify as well as those weights should."""

import hashlib

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import fx, nn

from imcsim import zoo
from imcsim.errors import DataError, FileMissingError, ImcsimError
from imcsim.zoo.weights import DATA_FOLDER


def correct(benchmark: zoo.Benchmark, n: int) -> int:
    with torch.inference_mode():
        hits = [(benchmark.model(x).argmax(1) == y).sum() for x, y in benchmark.batches(100, n)]
    return int(torch.stack(hits).sum())


# Measured with PyTorch 2.13.0 on the CPU; the closest call is 3e-3 of a logit, so rounding moves none.
@pytest.mark.parametrize(("name", "of_300", "of_2000"), [("resnet20", 274, 1834), ("resnet8", 269, 1759)])
def test_float_accuracy_on_the_images_in_the_package(name: str, of_300: int, of_2000: int) -> None:
    benchmark = zoo.load(name)
    assert len(benchmark.images) == len(benchmark.labels) == 2000
    assert correct(benchmark, 300) == of_300
    assert correct(benchmark, 2000) == of_2000


@pytest.mark.parametrize("name", ["resnet20", "resnet8"])
def test_keys_are_those_of_the_checkpoint(name: str) -> None:
    net = {"resnet20": zoo.resnet20, "resnet8": zoo.resnet8}[name]()
    (file,) = DATA_FOLDER.glob(f"{name}_*.safetensors")
    own = {key: value.shape for key, value in net.state_dict().items() if "num_batches" not in key}
    assert own == {key: value.shape for key, value in load_file(file).items()}
    assert net.training


@pytest.mark.parametrize(
    ("build", "elements"),
    # Counted in the published checkpoints: parameters and running statistics.
    [
        (zoo.resnet20, 271_098),
        (zoo.resnet32, 466_426),
        (zoo.resnet44, 661_754),
        (zoo.resnet8, 78_666),
    ],
)
def test_sizes(build, elements: int) -> None:
    state = build().state_dict()
    assert sum(v.numel() for k, v in state.items() if "num_batches" not in k) == elements


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (zoo.resnet20, (3, 32, 32)),
        (zoo.resnet32, (3, 32, 32)),
        (zoo.resnet44, (3, 32, 32)),
        (zoo.resnet8, (3, 32, 32)),
        (zoo.lenet5, (1, 28, 28)),
        (lambda: zoo.lenet5(norm=True, activation="hardtanh"), (1, 28, 28)),
        (lambda: zoo.vgg_small(width=0.1), (3, 32, 32)),
        (lambda: zoo.vgg7(width=0.1, activation="hardtanh"), (3, 32, 32)),
        (lambda: zoo.resnet18(width=8), (3, 32, 32)),
        (lambda: zoo.resnet18(width=8, shortcuts="layer"), (3, 32, 32)),
        (lambda: zoo.mobilenetv2(width=0.25), (3, 32, 32)),
    ],
)
def test_shapes_and_tracing(build, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    net = build().eval()
    x = torch.randn(2, *shape)
    y = net(x)
    assert y.shape == (2, 10)
    assert torch.equal(fx.symbolic_trace(net)(x), y)


def test_option_a_shortcut_subsamples_and_pads_both_sides() -> None:
    x = torch.randn(2, 16, 8, 8)
    y = zoo.CifarResNet(1).layer2[0].shortcut(x)
    assert y.shape == (2, 32, 4, 4)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any()
    assert not y[:, 24:].any()


def test_resnet8_pads_strided_convolutions_right_and_bottom_only() -> None:
    net = zoo.resnet8()
    seen = []
    net.conv2d_3.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    net.eval()(torch.rand(1, 3, 32, 32) + 1)
    assert seen[0].shape == (1, 16, 33, 33)
    assert not seen[0][..., -1].any()
    assert not seen[0][..., -1, :].any()


@pytest.mark.parametrize("suffix", ["safetensors", "th"])
def test_checkpoints_from_a_path(tmp_path, suffix: str) -> None:
    source = zoo.resnet32()
    path = tmp_path / f"weights.{suffix}"
    if suffix == "safetensors":
        save_file(source.state_dict(), path)
    else:
        torch.save({"state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}}, path)
    net = zoo.resnet32(pretrained=path)
    assert not net.training
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), net.parameters(), strict=True))
    assert zoo.load("resnet32", weights=path, n=5).images.shape == (5, 3, 32, 32)


def write_other_network(path) -> None:
    save_file(zoo.resnet20().state_dict(), path)


def write_wrong_shape(path) -> None:
    save_file(zoo.CifarResNet(5, classes=7).state_dict(), path)


def write_truncated(path) -> None:
    path.write_bytes((DATA_FOLDER / "resnet20_cifar10.safetensors").read_bytes()[:5000])


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (write_other_network, "layer1.3.conv1.weight is missing.* and .* more"),
        (write_wrong_shape, r"linear.weight has shape \(7, 64\) instead of \(10, 64\)"),
        (write_truncated, "cannot read the checkpoint"),
    ],
)
def test_checkpoints_that_do_not_fit(tmp_path, write, text: str) -> None:
    path = tmp_path / "weights.safetensors"
    write(path)
    with pytest.raises(DataError, match=text):
        zoo.resnet32(pretrained=path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04garbage", b"hello"])
def test_a_pytorch_file_that_is_none(tmp_path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot read the checkpoint"):
        zoo.resnet20(pretrained=path)


def test_a_pytorch_file_without_tensors(tmp_path) -> None:
    path = tmp_path / "weights.pth"
    torch.save([1, 2], path)
    with pytest.raises(DataError, match="no dictionary of tensors"):
        zoo.resnet20(pretrained=path)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: zoo.load("resnet_20"), FileMissingError, "Did you mean 'resnet20'"),
        (
            lambda: zoo.load("resnet32"),
            FileMissingError,
            "holds no weights of 'resnet32', only of resnet20, resnet8",
        ),
        (lambda: zoo.load("lenet5"), FileMissingError, "holds no weights of 'lenet5'"),
        (lambda: zoo.resnet44(pretrained=True), DataError, "give the path of a checkpoint"),
        (lambda: zoo.lenet5(pretrained=True), DataError, "train it"),
        (lambda: zoo.vgg7(pretrained=True), DataError, "vgg7.*train it"),
        (lambda: zoo.resnet18(pretrained=True), DataError, "no weights of it"),
        (lambda: zoo.mobilenetv2(pretrained=True), DataError, "no weights of it"),
        (lambda: zoo.load("vgg_small"), FileMissingError, "holds no weights of 'vgg_small'"),
        (lambda: zoo.vgg_small(width=0), DataError, "width = 0.*width above 0"),
        (lambda: zoo.VGG((8, 8), (8,)), DataError, "six channels are needed"),
        (lambda: zoo.vgg_small(activation="tanh"), DataError, "hardtanh, sign, step. Did you mean .hardtanh"),
        (lambda: zoo.lenet5(activation="tanh"), DataError, "LeNet5 got activation = 'tanh'"),
        (lambda: zoo.resnet18(width=0), DataError, "both must be at least 1"),
        (lambda: zoo.resnet18(shortcuts="none"), DataError, "'block' or 'layer'"),
        (lambda: zoo.mobilenetv2(width=-1), DataError, "width above 0"),
        (lambda: zoo.resnet20(pretrained="nowhere.safetensors"), FileMissingError, "no checkpoint at"),
        (lambda: zoo.vgg_small_binary("nowhere.npz"), FileMissingError, "no checkpoint at"),
        (lambda: zoo.CifarResNet(0), DataError, "at least 1"),
        (lambda: zoo.LeNet5(0), DataError, "at least 1"),
        (lambda: zoo.load("resnet8", n=2001), DataError, "n must be 1 to 2000"),
    ],
)
def test_wrong_requests(call, error: type[ImcsimError], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_load_gives_calibration_images_that_are_not_test_images() -> None:
    benchmark = zoo.load("resnet20")
    assert not benchmark.model.training
    assert isinstance(benchmark.model, nn.Module)
    assert benchmark.calibration.shape == (256, 3, 32, 32)
    assert sum(len(batch) for batch in benchmark.calibration_batches(100)) == 256

    def digests(images: torch.Tensor) -> set[str]:
        return {hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in images}

    assert not digests(benchmark.images) & digests(benchmark.calibration)


def test_batches_of_a_benchmark() -> None:
    benchmark = zoo.load("resnet8", n=250)
    assert [len(x) for x, _ in benchmark.batches(100)] == [100, 100, 50]
    assert [len(x) for x, _ in benchmark.batches(100, n=120)] == [100, 20]
    with pytest.raises(DataError, match="n must be 1 to 250"):
        benchmark.batches(n=251)
