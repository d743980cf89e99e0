"""Transformers learn, and predict alike in every way."""

import numpy as np

import nnpar
from nnpar import Embedding, Linear, PositionEmbedding, Sequential
from nnpar import TransformerEncoderLayer as EncoderLayer


def small_vit():
    """For the 8x8 images of digits."""
    nnpar.manual_seed(0)
    return Sequential(
        nnpar.Conv2d(1, 32, 2, 2), nnpar.Tokens(), PositionEmbedding(17, 32, class_token=True),
        *(EncoderLayer(32, 4, 64, 0.0, batch_first=True, norm_first=True) for _ in range(2)),
        nnpar.LayerNorm(32), nnpar.Slice(1, 0, 1), nnpar.Flatten(), Linear(32, 10),
    )  # fmt: skip


def test_a_vision_transformer_learns_digits():
    train, test = nnpar.data.digits()
    trainer = nnpar.Trainer(small_vit(), optimizer=nnpar.Adam(0.002))
    trainer.fit(train, epochs=25, batch_size=32, progress=False)
    assert trainer.evaluate(test)["accuracy"] > 0.95


def test_a_predictor_gives_what_the_model_gives():
    """Of one sample as of many, with its weights packed once."""
    model = small_vit()
    x = np.random.default_rng(0).standard_normal((9, 1, 8, 8)).astype(np.float32)
    predictor = nnpar.Predictor(model)
    np.testing.assert_allclose(predictor(x), model(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(predictor(x[:1]), model(x)[:1], rtol=1e-5, atol=1e-6)


def test_a_model_with_embeddings_learns():
    """The largest of three numbers, by attention."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 8, (2000, 3))
    nnpar.manual_seed(0)
    model = Sequential(Embedding(8, 16), EncoderLayer(16, 2, 32, 0.0, batch_first=True), nnpar.Flatten(), Linear(48, 8))
    trainer = nnpar.Trainer(model, nnpar.CrossEntropy(), nnpar.Adam(0.003))
    trainer.fit((x.astype(np.float32), x.max(axis=1)), epochs=5, batch_size=50)
    test = rng.integers(0, 8, (500, 3))
    assert (model(test).argmax(axis=1) == test.max(axis=1)).mean() > 0.95
