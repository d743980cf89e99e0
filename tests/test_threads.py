"""The number of threads changes no bit, can be set in every documented way, and stands forks and Python threads."""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cases
import numpy as np
import pytest

from nnpar import arrays, convolution, ops, shapes, threads
from nnpar._kernels import runtime
from nnpar._kernels.elementwise import Transpose
from nnpar._kernels.optimizer import AdamUpdate, SGDUpdate
from nnpar._kernels.step import aligned_empty

# What is summed over the batch has more chunks here than threads; every operation has work for eight threads.
CONVOLUTIONS = [
    cases.Conv2dCase("resnet", 4, 24, 29, 31, 40, (3, 3), (1, 1), (1, 1)),
    cases.Conv2dCase("stride", 4, 33, 30, 29, 70, (3, 3), (2, 2), (1, 1), (1, 1), 1),
    cases.Conv2dCase("colour", 4, 3, 64, 63, 16, (5, 5), (2, 2), (2, 2)),
    cases.Conv2dCase("stem", 21, 3, 33, 31, 16, (3, 3), (1, 1), (1, 1)),
    cases.Conv2dCase("digits", 21, 1, 28, 28, 6, (5, 5), (1, 1), (2, 2)),
    cases.Conv2dCase("depthwise", 4, 40, 33, 31, 40, (3, 3), (1, 1), (1, 1), (1, 1), 40),
    cases.Conv2dCase("depthwise-stride", 4, 70, 31, 29, 70, (5, 5), (2, 2), (2, 2), (1, 1), 70),
    cases.Conv2dCase("depthwise-blocks", 2, 300, 17, 19, 300, (7, 7), (1, 1), (3, 3), (1, 1), 300),
    cases.Conv2dCase("wide", 1, 130, 9, 9, 260, (1, 1)),
    cases.Conv2dCase("long-rows", 1, 9, 5, 4001, 17, (2, 3), (1, 1), (1, 1)),
]
GEMMS = [cases.GemmCase("many-panels", 301, 517, 1031), cases.GemmCase("turned", 7, 2300, 600)]


def results():
    """Name and arrays of one call of every operation on real numbers, so that another order of sums changes bits."""
    rng = np.random.default_rng(5)
    for case in GEMMS:
        a, b = case.arrays(draw=cases.normals)
        yield f"gemm {case.name}", ops.gemm(a, b)
        yield f"gemm {case.name} transposed", ops.gemm(b.T, a.T, alpha=0.3)
        yield f"gemm {case.name} beta", ops.gemm(a, b, beta=0.7, out=cases.normals(rng, (case.m, case.n)))
        yield f"linear {case.name}", ops.linear(a, np.ascontiguousarray(b.T), b[0])
    for case in CONVOLUTIONS:
        x, w, bias, dy = case.arrays(draw=cases.normals)
        yield f"conv2d {case.name}", ops.conv2d(x, w, bias, *case.window)
        yield f"conv2d_input_grad {case.name}", ops.conv2d_input_grad(dy, w, case.x_shape, *case.window)
        yield f"conv2d_weight_grad {case.name}", ops.conv2d_weight_grad(x, dy, case.w_shape, *case.window)
        if case.groups == 1:
            yield f"framed {case.name}", ops.conv2d(x, w, bias, *case.window, algorithm="framed")
            dw = ops.conv2d_weight_grad(x, dy, case.w_shape, *case.window, algorithm="framed")
            yield f"framed weight_grad {case.name}", dw
        yield f"bias_grad {case.name}", ops.bias_grad(dy)
        pooled, argmax = ops.max_pool2d(x, 3, 2, 1, return_argmax=True)
        yield f"max_pool2d {case.name}", np.concatenate([pooled, argmax])
        yield f"max_pool2d_grad {case.name}", ops.max_pool2d_grad(pooled, argmax, case.x_shape, 3, 2, 1)
        yield f"avg_pool2d {case.name}", ops.avg_pool2d(x, 3, 2, 1)
        yield f"avg_pool2d_grad {case.name}", ops.avg_pool2d_grad(pooled, case.x_shape, 3, 2, 1, False)
        large = ops.upsample2d(x, 2)
        yield f"upsample2d {case.name}", large
        yield f"upsample2d_grad {case.name}", ops.upsample2d_grad(large * large, case.x_shape, 2)
        yield f"relu {case.name}", ops.relu(x)
        yield f"relu_grad {case.name}", ops.relu_grad(x, x)
        yield f"dropout {case.name}", ops.dropout(x, 0.3, seed=1)
    for shape in [(5, 6, 59, 61), (3, 80, 31, 19), (40, 600, 7, 6), (3, 1, 301, 367)]:
        x, dy, residual, gamma, beta = cases.BatchNormCase("any", *shape).arrays(draw=cases.normals)
        y, mean, invstd = ops.batch_norm2d(x, gamma, beta, residual=residual, relu=True)
        yield f"batch_norm2d {shape}", np.concatenate([y.ravel(), mean, invstd])
        gradients = ops.batch_norm2d_grad(dy, x, mean, invstd, gamma, y=y)
        yield f"batch_norm2d_grad {shape}", np.concatenate([array.ravel() for array in gradients])
    yield "bias_grad many rows", ops.bias_grad(cases.normals(rng, (70001, 5)))
    logits = 3 * cases.normals(rng, (2001, 17))
    loss, grad = ops.softmax_cross_entropy(logits, rng.integers(0, 17, 2001))
    yield "softmax", ops.softmax(logits)
    yield "softmax_cross_entropy", np.append(grad.ravel().astype(np.float64), loss)
    many = 3 * cases.normals(rng, (303, 1001))
    loss, grad = ops.softmax_cross_entropy(many, rng.integers(0, 1001, 303))
    yield "softmax_cross_entropy of many", np.append(grad.ravel().astype(np.float64), loss)
    loss, grad = ops.mse(logits, logits[::-1])
    yield "mse", np.append(grad.ravel().astype(np.float64), loss)
    turned = np.empty((5, 700, 301), np.float32)
    Transpose(cases.normals(rng, (5, 301, 700)), turned)()
    yield "transpose", turned
    w, gradient, mean, square = cases.normals(rng, (4, 100001))
    step = SGDUpdate(w, gradient, mean)
    step.set(0.1, 0.9, 0.1, 0.01, True, False)
    step()
    yield "sgd", np.concatenate([w, mean])
    square **= 2
    step = AdamUpdate(w, gradient, mean, square)
    step.set(0.1, 0.9, 0.99, 1e-8, 0.01, True, 3)
    step()
    yield "adam", np.concatenate([w, mean, square])


def hashes():
    return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in results()}


@pytest.fixture(scope="module")
def serial():
    with threads.num_threads(1):
        return hashes()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_same_bits_at_any_number_of_threads(serial, count):
    with threads.num_threads(count):
        for _ in range(2):  # and from run to run
            assert hashes() == serial


def test_same_bits_of_every_small_case():
    """At few tasks the division of the work is most irregular."""

    def digest():
        digest = hashlib.sha256()
        for case in cases.small(cases.CONV2D_CASES, most_flops=1e6):
            x, w, bias, dy = case.arrays(draw=cases.normals)
            digest.update(ops.conv2d(x, w, bias, *case.window).tobytes())
            digest.update(ops.conv2d_input_grad(dy, w, case.x_shape, *case.window).tobytes())
            digest.update(ops.conv2d_weight_grad(x, dy, case.w_shape, *case.window).tobytes())
        return digest.hexdigest()

    digests = set()
    for count in (1, 3, 8):
        with threads.num_threads(count):
            digests.add(digest())
    assert len(digests) == 1


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=cases.name_of)
def test_scratch_memory_of_threads_in_rows(case):
    """As all steps of a plan share it; too little, or at other places, is refused."""
    shape = shapes.conv2d(case.x_shape, case.w_shape, *case.window, "test")
    rng = np.random.default_rng(0)
    x, w = cases.channels_last(cases.normals(rng, case.x_shape)), cases.normals(rng, case.w_shape)
    with threads.num_threads(3):
        expected, y = arrays.empty(case.y_shape), arrays.empty(case.y_shape)
        convolution.forward(shape, x, w, None, expected)()
        step = convolution.forward(shape, x, w, None, y)
        if not step.thread_bytes:
            return
        workspace, rows = aligned_empty(step.shared_bytes), aligned_empty(4 * 2 * step.thread_bytes).reshape(4, -1)
        for few in (rows[: step.most_threads - 1], rows[:, : step.thread_bytes - 64], rows[:, 64:].copy()[:, 1:]):
            with pytest.raises(ValueError, match="expected"):
                step.bind(workspace, few)
        if step.shared_bytes:
            with pytest.raises(ValueError, match=f"expected {step.shared_bytes} bytes"):
                step.bind(workspace[64:], rows)
        step.bind(workspace, rows)
        step()
    np.testing.assert_array_equal(y, expected)


def test_same_bits_from_many_python_threads_at_once(serial):
    with threads.num_threads(2), ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(hashes) for _ in range(4)]:
            assert future.result() == serial


def test_set_num_threads():
    before, source = threads.get_num_threads(), threads.num_threads_source()
    try:
        threads.set_num_threads(3)
        assert threads.get_num_threads() == 3
        assert threads.num_threads_source() == "set_num_threads"
        threads.set_num_threads(np.int64(1024))
        assert threads.get_num_threads() == 1024
    finally:
        threads.assign(before, source)


@pytest.mark.parametrize("count", [True, 2.0, "2", None])
def test_set_num_threads_refuses_what_is_no_int(count):
    for call in (threads.set_num_threads, lambda count: threads.num_threads(count).__enter__()):
        with pytest.raises(TypeError, match="expected an int"):
            call(count)


@pytest.mark.parametrize("count", [0, -1, 1025, 2**40])
def test_set_num_threads_refuses_what_is_out_of_range(count):
    before = threads.get_num_threads()
    for call in (threads.set_num_threads, lambda count: threads.num_threads(count).__enter__()):
        with pytest.raises(ValueError, match=f"expected 1 to 1024 threads, got {count}"):
            call(count)
    assert threads.get_num_threads() == before


def test_num_threads_puts_back_what_was():
    before, source = threads.get_num_threads(), threads.num_threads_source()
    with threads.num_threads(5):
        assert threads.get_num_threads() == 5
        with threads.num_threads(2):
            assert threads.get_num_threads() == 2
        assert threads.get_num_threads() == 5
    with pytest.raises(ZeroDivisionError), threads.num_threads(5):
        1 // 0  # noqa: B018
    assert threads.get_num_threads() == before
    assert threads.num_threads_source() == source


@pytest.mark.skipif(runtime.openmp_version() == 0, reason="built without OpenMP")
def test_threadpoolctl_limits_the_threads():
    code = """
        import threadpoolctl
        from nnpar import ops, threads
        import numpy as np
        before = threads.get_num_threads()
        assert before == 4, before
        with threadpoolctl.threadpool_limits(1):
            assert threads.get_num_threads() == 1
            ops.gemm(np.ones((300, 300), np.float32), np.ones((300, 300), np.float32))
        assert threads.get_num_threads() == before
        with threadpoolctl.threadpool_limits(2, user_api="openmp"):
            assert threads.get_num_threads() == 2
            with threads.num_threads(1):
                assert threads.get_num_threads() == 1
        """
    result = run(code, OMP_NUM_THREADS="4")
    assert result.returncode == 0, result.stderr


def run(code, **environment):
    """Run Python code in a process of its own, with nothing about threads in its environment but what is given."""
    lines = code.splitlines()
    indent = next((len(line) - len(line.lstrip()) for line in lines if line.strip()), 0)
    kept = {key: value for key, value in os.environ.items() if key not in ("NNPAR_NUM_THREADS", "OMP_NUM_THREADS")}
    return subprocess.run(
        [sys.executable, "-c", "\n".join(line[indent:] for line in lines)],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"NNPAR_NUM_THREADS": "3"}, "3 NNPAR_NUM_THREADS"),
        ({"NNPAR_NUM_THREADS": " 5 ", "OMP_NUM_THREADS": "2"}, "5 NNPAR_NUM_THREADS"),
        ({"OMP_NUM_THREADS": "3"}, "3 OMP_NUM_THREADS"),
        ({"OMP_NUM_THREADS": "4,2"}, "4 OMP_NUM_THREADS"),
    ],
)
def test_number_of_threads_from_the_environment(environment, expected):
    code = "from nnpar import threads; print(threads.get_num_threads(), threads.num_threads_source())"
    assert run(code, **environment).stdout.strip() == expected


@pytest.mark.parametrize("value", ["0", "-1", "1025", "2.0", "two", "2,2", "0x2"])
def test_bad_nnpar_num_threads(value):
    result = run("import nnpar.threads", NNPAR_NUM_THREADS=value)
    assert result.returncode == 1
    assert f"ImportError: NNPAR_NUM_THREADS: expected 1 to 1024, got {value!r}" in result.stderr


@pytest.mark.parametrize("value", ["", "0", "many"])
def test_bad_omp_num_threads_is_left_to_openmp(value):
    code = """
        import os
        from nnpar import threads
        assert 1 <= threads.get_num_threads() <= len(os.sched_getaffinity(0))
        assert threads.num_threads_source() not in ("NNPAR_NUM_THREADS", "OMP_NUM_THREADS")
        """
    assert run(code, OMP_NUM_THREADS=value, NNPAR_NUM_THREADS="").returncode == 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity cannot be set here")
def test_number_of_threads_follows_the_affinity():
    code = """
        import os
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        from nnpar import threads
        assert threads.get_num_threads() == 1
        """
    assert run(code).returncode == 0


def test_bad_nnpar_isa():
    result = run("import nnpar.ops", NNPAR_ISA="pentium")
    assert result.returncode == 1
    assert "ImportError: NNPAR_ISA='pentium': this build on this machine has " in result.stderr
    assert runtime.isa() in result.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_child_of_a_fork_after_threads_works():
    """libgomp's threads do not survive a fork; a child that waited for them would wait for ever."""
    code = """
        import os, signal, sys, warnings
        import numpy as np
        from nnpar import ops
        warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads
        a = np.random.default_rng(0).standard_normal((300, 300), np.float32)
        expected = ops.gemm(a, a).tobytes()
        for generation in range(2):
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                for _ in range(3):
                    if ops.gemm(a, a).tobytes() != expected:
                        os._exit(1)
                continue  # and a fork of the fork
            assert ops.gemm(a, a).tobytes() == expected
            _, status = os.waitpid(child, 0)
            assert status == 0, status
            break
        """
    result = run(code, NNPAR_NUM_THREADS="4")
    assert result.returncode == 0, result.stderr


DENORMAL = np.float32(2.0**-130)


def test_floating_point_mode_is_left_as_it_was(serial):
    """Inside, denormal numbers count as zero, on every thread; outside they are numbers again."""
    tiny, half = np.full((200, 200), DENORMAL), np.full((200, 200), 0.5, np.float32)
    for count in (1, 4):
        with threads.num_threads(count):
            assert hashes() == serial
            assert not ops.gemm(tiny, half).any()
            assert not ops.relu(tiny).any()
            assert not ops.bias_grad(tiny).any()
            assert (tiny * half == DENORMAL / 2).all()
            assert (half * half * tiny > 0).all()


def write(root, files):
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


V1 = "4:memory:/jobs/one\n3:cpu,cpuacct:/jobs/one\n2:cpuset:/\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "50000 100000\n"}, 0.5),
        # Each level limits; the least counts.
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/cpu.max": "800000 100000\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "300000 100000\n",
            },
            2.0,
        ),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "200000 100000\n"}, 2.0),
        # In a container the path may be the host's.
        ({"proc/self/cgroup": "0::/docker/0123\n", "sys/fs/cgroup/cpu.max": "400000 200000\n"}, 2.0),
        # Files with something else in them are as good as none.
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "a lot\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 0\n"}, None),
        ({"proc/self/cgroup": "\nnothing\n"}, None),
        # The second version beside the first.
        ({"proc/self/cgroup": "0::/a\n" + V1, "sys/fs/cgroup/unified/a/cpu.max": "300000 100000\n"}, 3.0),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu,cpuacct/jobs/one/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu,cpuacct/jobs/one/cpu.cfs_period_us": "100000\n",
            },
            2.5,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/jobs/one/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/jobs/one/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/jobs/cpu.cfs_quota_us": "75000\n",
                "sys/fs/cgroup/cpu/jobs/cpu.cfs_period_us": "50000\n",
            },
            1.5,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        ({"proc/self/cgroup": V1, "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n"}, None),
        # A quota of memory or processors' names is none of CPU time.
        ({"proc/self/cgroup": "2:cpuset:/\n", "sys/fs/cgroup/cpuset/cpu.cfs_quota_us": "100000\n"}, None),
    ],
)
def test_cgroup_quota(tmp_path, files, expected):
    write(tmp_path, files)
    assert threads.cgroup_quota(str(tmp_path)) == expected


@pytest.mark.parametrize(("quota", "expected"), [(0.5, 1), (1.5, 2), (2.0, 2), (4.0, 4), (9.0, 4), (None, 4)])
def test_number_of_threads_is_the_least_of_affinity_and_quota(monkeypatch, quota, expected):
    monkeypatch.delenv("NNPAR_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 5, 7}, raising=False)
    monkeypatch.setattr(threads, "cgroup_quota", lambda: quota)
    count, source = threads._detect()
    assert count == expected
    assert ("quota" in source) == (expected < 4)
