"""Networks with pretrained weights, and small real data sets to try them on; `load` gives both by name.

Nothing is downloaded: weights of ResNet-20, ResNet-8 and a binary VGG-small, 2,000 test images of CIFAR-10,
256 training images for calibration and 3,000 images of MNIST are in the package; the whole data sets are
read from a folder with the official files.
"""

from imcsim.zoo.activation import Sign, Step
from imcsim.zoo.benchmark import Benchmark, available, load
from imcsim.zoo.datasets import (
    CIFAR10_CLASSES,
    CIFAR10_NORM,
    CIFAR10_RAW,
    FASHION_MNIST_NORM,
    MNIST_NORM,
    Normalisation,
    batches,
    cifar10_calibration,
    cifar10_test,
    mnist_subset,
)
from imcsim.zoo.folder import load_folder
from imcsim.zoo.lenet import LeNet5, lenet5
from imcsim.zoo.mobilenet import MobileNetV2, mobilenetv2
from imcsim.zoo.official import load_cifar10, load_mnist
from imcsim.zoo.resnet import CifarResNet, resnet20, resnet32, resnet44
from imcsim.zoo.resnet8 import ResNet8, resnet8
from imcsim.zoo.resnet18 import ResNet18, resnet18
from imcsim.zoo.vgg import VGG, Neurons, vgg7, vgg_small, vgg_small_binary
from imcsim.zoo.weights import load_weights

__all__ = [
    "CIFAR10_CLASSES",
    "CIFAR10_NORM",
    "CIFAR10_RAW",
    "FASHION_MNIST_NORM",
    "MNIST_NORM",
    "VGG",
    "Benchmark",
    "CifarResNet",
    "LeNet5",
    "MobileNetV2",
    "Neurons",
    "Normalisation",
    "ResNet8",
    "ResNet18",
    "Sign",
    "Step",
    "available",
    "batches",
    "cifar10_calibration",
    "cifar10_test",
    "lenet5",
    "load",
    "load_cifar10",
    "load_folder",
    "load_mnist",
    "load_weights",
    "mnist_subset",
    "mobilenetv2",
    "resnet8",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet44",
    "vgg7",
    "vgg_small",
    "vgg_small_binary",
]
