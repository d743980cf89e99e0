"""Models by name, ready to train."""

from collections.abc import Callable

from nnpar.layers import Composite
from nnpar.zoo.densenet import densenet121, densenet_small
from nnpar.zoo.inception import inception_v1
from nnpar.zoo.mobilenet import mobilenet_v1, mobilenet_v2
from nnpar.zoo.resnet import resnet18, resnet20, resnet32, resnet34, resnet50, resnet56
from nnpar.zoo.shufflenet import shufflenet_v2
from nnpar.zoo.small import digits_cnn, lenet5, mlp, mnist_cnn
from nnpar.zoo.squeezenet import squeezenet
from nnpar.zoo.unet import unet, unet_small
from nnpar.zoo.vgg import vgg11, vgg13, vgg16, vgg19, vgg_small
from nnpar.zoo.vit import vit_tiny

__all__ = [
    "MODELS",
    "densenet121",
    "densenet_small",
    "digits_cnn",
    "inception_v1",
    "lenet5",
    "mlp",
    "mnist_cnn",
    "mobilenet_v1",
    "mobilenet_v2",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet50",
    "resnet56",
    "shufflenet_v2",
    "squeezenet",
    "unet",
    "unet_small",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "vgg_small",
    "vit_tiny",
]

MODELS: dict[str, Callable[..., Composite]] = {name: globals()[name] for name in __all__ if name != "MODELS"}
