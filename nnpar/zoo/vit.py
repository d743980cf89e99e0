"""Vision transformers: Dosovitskiy et al., arXiv:2010.11929."""

from __future__ import annotations

from nnpar.layers import (
    Conv2d,
    Flatten,
    LayerNorm,
    Linear,
    PositionEmbedding,
    Sequential,
    Slice,
    Tokens,
    TransformerEncoderLayer,
)


def vit_tiny(num_classes: int = 1000, in_channels: int = 3) -> Sequential:
    """ViT-Ti/16 for 224x224 images, as DeiT-Ti: Touvron et al., arXiv:2012.12877, table 1. Patches of 16x16 pixels are
    tokens of 192 features, behind a class token; 12 blocks of 3 heads.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    Sequential
        Input (N, in_channels, 224, 224), output (N, num_classes). 5,717,416 parameters.
    """
    width = 192
    blocks = [
        TransformerEncoderLayer(width, 3, 4 * width, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True)
        for _ in range(12)
    ]
    tokens = Tokens(), PositionEmbedding(1 + 14 * 14, width, class_token=True)
    head = LayerNorm(width, 1e-6), Slice(1, 0, 1), Flatten(), Linear(width, num_classes)
    return Sequential(Conv2d(in_channels, width, 16, 16), *tokens, *blocks, *head)
