"""Training: against a NumPy twin, the same bits at any number of threads, and what happens to bad input."""

import hashlib
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import nnpar
from nnpar import (
    SGD,
    Adam,
    AdamW,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Trainer,
    data,
    reference,
    zoo,
)
from nnpar.data import Dataset

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((50, 2, 8, 8)).astype(np.float32)
LABELS = RNG.integers(0, 3, 50)


def small_model(dropout: float = 0.0) -> Sequential:
    nnpar.manual_seed(3)
    model = Sequential(
        Conv2d(2, 5, 3, padding=1),
        ReLU(),
        MaxPool2d(2),
        Conv2d(5, 7, 3),
        ReLU(),
        Flatten(),
        Dropout(dropout),
        Linear(28, 3),
    )
    nnpar.manual_seed(0)
    return model


def weight_hash(model: Sequential) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in model.parameters().values())).hexdigest()


class Twin:
    """The small model's training step in NumPy, float64, from the reference functions alone."""

    def __init__(self, model: Sequential, update) -> None:
        self.p = {name: array.astype(np.float64) for name, array in model.parameters().items()}
        self.update = update

    def step(self, x, labels, *update_arguments) -> float:
        p, ref = self.p, reference
        a1 = ref.relu(ref.conv2d(x, p["0.weight"], p["0.bias"], 1, 1))
        pooled, argmax = ref.max_pool2d(a1, 2, return_argmax=True)
        a2 = ref.relu(ref.conv2d(pooled, p["3.weight"], p["3.bias"]))
        flat = a2.reshape(len(x), -1)
        loss, dz = ref.softmax_cross_entropy(flat @ p["7.weight"].T + p["7.bias"], labels)
        grads = {"7.weight": dz.T @ flat, "7.bias": dz.sum(0)}
        d2 = ref.relu_grad((dz @ p["7.weight"]).reshape(a2.shape), a2)
        grads |= {"3.weight": ref.conv2d_weight_grad(pooled, d2, p["3.weight"].shape), "3.bias": ref.bias_grad(d2)}
        d1 = ref.max_pool2d_grad(ref.conv2d_input_grad(d2, p["3.weight"], pooled.shape), argmax, a1.shape, 2)
        d1 = ref.relu_grad(d1, a1)
        grads |= {"0.weight": ref.conv2d_weight_grad(x, d1, p["0.weight"].shape, 1, 1), "0.bias": ref.bias_grad(d1)}
        for name, grad in grads.items():
            self.update(name, p[name], grad, *update_arguments)
        return loss


def sgd_twin(**settings):
    buffers = {}

    def update(name, parameter, grad, step):
        buffer = buffers.setdefault(name, np.zeros_like(parameter)) if settings["momentum"] else None
        reference.sgd(parameter, grad, buffer, first_step=step == 1, **settings)

    return update


def adam_twin(**settings):
    moments = {}

    def update(name, parameter, grad, step):
        pair = moments.setdefault(name, (np.zeros_like(parameter), np.zeros_like(parameter)))
        reference.adam(parameter, grad, *pair, step=step, **settings)

    return update


@pytest.mark.parametrize(
    ("optimizer", "update"),
    [
        (SGD(0.05), sgd_twin(lr=0.05, momentum=0.0)),
        (SGD(0.05, momentum=0.9, weight_decay=0.01), sgd_twin(lr=0.05, momentum=0.9, weight_decay=0.01)),
        (SGD(0.05, momentum=0.9, nesterov=True), sgd_twin(lr=0.05, momentum=0.9, nesterov=True)),
        (SGD(0.05, momentum=0.9, dampening=0.5), sgd_twin(lr=0.05, momentum=0.9, dampening=0.5)),
        (Adam(0.01, weight_decay=0.1), adam_twin(lr=0.01, weight_decay=0.1)),
        (AdamW(0.01, betas=(0.8, 0.99)), adam_twin(lr=0.01, beta1=0.8, beta2=0.99, weight_decay=0.01, decoupled=True)),
    ],
    ids=["sgd", "momentum", "nesterov", "dampening", "adam", "adamw"],
)
def test_training_steps_are_those_of_numpy(optimizer, update):
    model = small_model()
    twin = Twin(model, update)
    trainer = Trainer(model, optimizer=optimizer)
    for step in range(1, 9):
        batch = slice(5 * step, 5 * step + 7)
        loss = trainer.train_step(IMAGES[batch], LABELS[batch])
        expected = twin.step(IMAGES[batch].astype(np.float64), LABELS[batch], step)
        assert loss == pytest.approx(expected, rel=2e-5)
    for name, array in model.parameters().items():
        np.testing.assert_allclose(array, twin.p[name], atol=3e-5, err_msg=name)


def trained_hash(threads: int) -> str:
    with nnpar.num_threads(threads):
        model = small_model(dropout=0.3)
        Trainer(model, optimizer=SGD(0.05, momentum=0.9)).fit((IMAGES, LABELS), epochs=3, batch_size=16, progress=False)
    return weight_hash(model)


def test_trained_weights_have_the_same_bits_at_any_number_of_threads():
    hashes = {threads: trained_hash(threads) for threads in (1, 2, 3, 4, 8)}
    assert len(set(hashes.values())) == 1, hashes
    assert trained_hash(2) == hashes[1], "a second run differs"


def test_a_real_model_has_the_same_bits_at_any_number_of_threads():
    train, _ = data.digits()
    hashes = set()
    for threads in (1, 2, 3, 4, 8):
        with nnpar.num_threads(threads):
            nnpar.manual_seed(0)
            model = zoo.digits_cnn()
            Trainer(model).fit(train.take(256), epochs=1, progress=False)
            hashes.add(weight_hash(model))
    assert len(hashes) == 1


def test_digits_reach_98_percent():
    train, test = data.digits()
    nnpar.manual_seed(0)
    trainer = Trainer(zoo.digits_cnn(), optimizer=Adam(1e-3))
    trainer.fit(train, epochs=40, batch_size=64, progress=False)
    assert trainer.evaluate(test)["accuracy"] >= 0.98


def test_fit_in_parts_is_fit_at_once():
    at_once, in_parts = small_model(0.3), small_model(0.3)
    Trainer(at_once).fit((IMAGES, LABELS), epochs=3, batch_size=20, progress=False)
    trainer = Trainer(in_parts)
    for _ in range(3):
        trainer.fit((IMAGES, LABELS), epochs=1, batch_size=20, progress=False)
    assert weight_hash(at_once) == weight_hash(in_parts)
    assert trainer.history["epoch"] == [1, 2, 3]


def test_seeds_change_order_and_dropout():
    def run(seed, shuffle=True, dropout=0.3):
        model = small_model(dropout)
        Trainer(model, seed=seed).fit((IMAGES, LABELS), epochs=1, batch_size=8, shuffle=shuffle, progress=False)
        return weight_hash(model)

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert run(1, shuffle=False) != run(2, shuffle=False), "dropout depends on the seed"
    assert run(1, shuffle=False, dropout=0.0) == run(2, shuffle=False, dropout=0.0)


def test_evaluate_and_predict_do_not_depend_on_the_batch_size():
    model = small_model(0.5)
    trainer = Trainer(model)
    logits = trainer.predict(IMAGES)
    np.testing.assert_array_equal(trainer.predict(IMAGES, batch_size=7), logits)
    np.testing.assert_array_equal(model(IMAGES), logits)
    expected_loss, _ = reference.softmax_cross_entropy(logits.astype(float), LABELS)
    for batch_size in (1, 16, 64):
        result = trainer.evaluate((IMAGES, LABELS), batch_size=batch_size)
        assert result["loss"] == pytest.approx(expected_loss, rel=1e-6)
        assert result["accuracy"] == pytest.approx((logits.argmax(1) == LABELS).mean())
    assert trainer.predict(IMAGES[:0]).shape == (0, 3)


def test_regression_with_mse():
    x = RNG.standard_normal((200, 4)).astype(np.float32)
    y = x @ np.array([1.0, -2.0, 0.5, 3.0], np.float32) + 1
    trainer = Trainer(Sequential(Linear(4, 1)), loss="mse", optimizer=SGD(0.1))
    history = trainer.fit((x, y), validation=(x, y[:, None]), epochs=30, batch_size=20, progress=False)
    assert history["loss"][-1] < 1e-6 < history["loss"][0]
    assert set(trainer.evaluate((x, y))) == {"loss"}


def test_any_layout_and_dtype_of_a_batch_train_alike():
    def after(x, y):
        model = small_model()
        trainer = Trainer(model)
        for _ in range(2):
            trainer.train_step(x, y)
        return weight_hash(model)

    expected = after(IMAGES, LABELS)
    channels_last = np.ascontiguousarray(IMAGES.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    for x in (channels_last, IMAGES.astype(">f4"), IMAGES.astype(float), IMAGES[::-1].copy()[::-1]):
        assert after(x, LABELS) == expected
    readonly = IMAGES.copy()
    readonly.flags.writeable = False
    assert after(readonly, LABELS.astype(np.uint8)) == expected


def test_two_trainers_of_one_model_train_the_same_weights():
    model = small_model()
    first, second = Trainer(model), Trainer(model)
    first.train_step(IMAGES, LABELS)
    np.testing.assert_array_equal(first.predict(IMAGES), second.predict(IMAGES))
    second.train_step(IMAGES, LABELS)
    np.testing.assert_array_equal(first.predict(IMAGES), model(IMAGES))


def test_a_nan_stops_training_with_the_weights_before_it():
    model = small_model()
    trainer = Trainer(model)
    images = IMAGES.copy()
    images[37] = np.nan
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step [1-4] \(epoch 1\)"):
        trainer.fit((images, LABELS), epochs=1, batch_size=16, progress=False)
    assert all(np.isfinite(array).all() for array in model.parameters().values())
    before = weight_hash(model)
    with pytest.raises(FloatingPointError):
        trainer.train_step(images[37:38], LABELS[37:38])
    assert weight_hash(model) == before
    assert np.isfinite(trainer.train_step(IMAGES, LABELS)), "the trainer can go on"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda t: t.train_step(IMAGES[:, :1], LABELS),
            ValueError,
            r"layer '0' \(Conv2d\): input: expected 2 channels",
        ),
        (lambda t: t.train_step(IMAGES, LABELS + 1), ValueError, "labels: expected 0 to 2, got 3"),
        (lambda t: t.train_step(IMAGES, LABELS - 1), ValueError, "labels: expected 0 to 2, got -1"),
        (lambda t: t.train_step(IMAGES, LABELS[:-1]), ValueError, r"labels: expected shape \(50,\), got \(49,\)"),
        (lambda t: t.train_step(IMAGES, LABELS * 1.0), TypeError, "labels: expected integers, got dtype float64"),
        (lambda t: t.train_step(IMAGES[:0], LABELS[:0]), ValueError, "at least one sample, got an empty batch"),
        (lambda t: t.train_step(IMAGES + 0j, LABELS), TypeError, "expected numbers that float32 can hold"),
        (
            lambda t: t.fit((IMAGES, LABELS + 1), progress=False),
            ValueError,
            "fit: train: labels: expected 0 to 2, got 3",
        ),
        (
            lambda t: t.fit(IMAGES),
            TypeError,
            r"fit: train: expected a Dataset, \(images, targets\) or \(i",
        ),
        (lambda t: t.fit((IMAGES, LABELS), (IMAGES, LABELS + 9)), ValueError, "fit: validation: labels"),
        (lambda t: t.fit((IMAGES, LABELS), epochs=0), ValueError, "epochs: expected at least 1, got 0"),
        (lambda t: t.fit((IMAGES, LABELS), batch_size=1.5), TypeError, "batch_size: expected an int, got float"),
        (lambda t: t.predict(IMAGES[0]), ValueError, r"expected shape \(N, C, H, W\), got \(2, 8, 8\)"),
        (lambda t: t.evaluate((IMAGES[:0], LABELS[:0])), ValueError, "with no size 0"),
        (lambda t: Trainer(ReLU()), ValueError, "expected parameters to train"),
        (lambda t: Trainer(IMAGES), TypeError, "model: expected a layer, got ndarray"),
        (lambda t: Trainer(small_model(), loss="l2"), ValueError, "loss: expected one of cross_entropy, bce"),
        (lambda t: Trainer(small_model(), optimizer="adam"), TypeError, "optimizer: expected an Optimizer, got str"),
        (
            lambda t: Trainer(small_model(), optimizer=t.optimizer),
            ValueError,
            "an optimizer of its own for each trainer",
        ),
        (lambda t: Trainer(small_model(), seed=-1), ValueError, "seed: expected at least 0, got -1"),
        (lambda t: Adam(lr=-1), ValueError, "Adam: lr: expected at least 0.0, got -1"),
        (lambda t: Adam(betas=(0.9, 1.0)), ValueError, "betas: expected numbers below 1"),
        (lambda t: SGD(momentum=float("nan")), ValueError, "momentum: expected a finite number"),
        (lambda t: SGD(nesterov=True), ValueError, "nesterov: expected a momentum"),
        (lambda t: nnpar.manual_seed(2**64), ValueError, "seed: expected less than 2\\*\\*64"),
        (lambda t: nnpar.manual_seed(1.5), TypeError, "seed: expected an int, got float"),
    ],
)
def test_errors_come_before_anything_changes(call, error, message):
    model = small_model()
    trainer = Trainer(model)
    before = weight_hash(model)
    with pytest.raises(error, match=message):
        call(trainer)
    assert weight_hash(model) == before


def test_shapes_that_vary_do_not_fill_the_memory():
    trainer = Trainer(small_model())
    for size in range(1, 40):
        trainer.train_step(IMAGES[:size], LABELS[:size])
    assert len(trainer._gradients.plans) <= 8


def test_many_python_threads_may_predict_at_once():
    trainer = Trainer(small_model())
    expected = trainer.predict(IMAGES)
    wrong = []

    def work():
        for _ in range(5):
            if not np.array_equal(trainer.predict(IMAGES, batch_size=9), expected):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_ctrl_c_ends_at_a_step_and_leaves_whole_weights():
    program = """
        import os, signal, threading
        import numpy as np
        from nnpar import Conv2d, Flatten, Linear, Sequential, Trainer
        model = Sequential(Conv2d(16, 64, 3, padding=1), Conv2d(64, 64, 3, padding=1), Flatten(), Linear(64 * 1024, 2))
        trainer = Trainer(model)
        x, y = np.ones((64, 16, 32, 32), np.float32), np.arange(64) % 2
        trainer.train_step(x, y)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored in the background
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            while True:
                trainer.train_step(x, y)
        except KeyboardInterrupt:
            assert all(np.isfinite(a).all() for a in model.parameters().values())
            trainer.train_step(x, y)
            print("stopped")
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120, env=os.environ
    )
    assert result.stdout == "stopped\n", result.stderr


def test_progress_shows_loss_and_accuracy(capsys):
    dataset = Dataset(IMAGES, LABELS, "random")
    Trainer(small_model()).fit(dataset, validation=dataset, epochs=2, batch_size=25)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("epoch 2/2: loss ")
    assert "validation accuracy" in lines[1]
    assert "images/s" in lines[1]
    Trainer(small_model()).fit(dataset, epochs=1, progress=False)
    assert capsys.readouterr().out == ""
