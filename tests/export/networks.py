"""The networks of `make trt-check`, short and narrow: the same operators and layer names, in seconds."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torchvision import models
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vgg import make_layers
from torchvision.models.vision_transformer import VisionTransformer

CLASSES = 10
VGG16 = [8, 8, "M", 8, 8, "M", 16, 16, 16, "M", 16, 16, 16, "M", 16, 16, 16, "M"]


class Plain(nn.Module):
    """AlexNet and VGG: features, pool, classifier."""

    def __init__(self, features: nn.Module, channels: int, side: int) -> None:
        super().__init__()
        self.features, self.avgpool = features, nn.AdaptiveAvgPool2d(side)
        widths = (channels * side * side, 32, 32, CLASSES)
        first, second, last = (nn.Linear(*pair) for pair in pairwise(widths))
        self.classifier = nn.Sequential(first, nn.ReLU(), nn.Dropout(), second, nn.ReLU(), nn.Dropout(), last)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.avgpool(self.features(image)).flatten(1))


def alexnet() -> nn.Module:
    return Plain(models.alexnet().features, 256, 6)


def resnet50() -> nn.Module:
    return ResNet(Bottleneck, [1, 1, 1, 1], CLASSES, width_per_group=8)


def vgg16() -> nn.Module:
    return Plain(make_layers(VGG16), 16, 7)


def densenet121() -> nn.Module:
    return DenseNet(growth_rate=8, block_config=(2, 2, 2, 2), num_init_features=16, num_classes=CLASSES)


def vit_b_16() -> nn.Module:
    return VisionTransformer(
        image_size=224, patch_size=16, num_layers=1, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=CLASSES
    )


def swin_t() -> nn.Module:
    """Two stages: shifted windows and one merging of patches."""
    return SwinTransformer([4, 4], 16, [2, 2], [2, 4], [7, 7], num_classes=CLASSES)
