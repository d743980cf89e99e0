"""Grids of processes."""

import mpi
import pytest

mpi.required()
distributed = pytest.importorskip("nnpar.distributed")
Axis, Mesh, TensorParallel = distributed.Axis, distributed.Mesh, distributed.TensorParallel


@pytest.mark.parametrize(
    "sizes", [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2), (1, 3, 1), (2, 1, 2), (1, 2, 2), (2, 2, 1)]
)
def test_who_belongs_together(sizes):
    """Tensor neighbours follow each other, then come those of the pipeline, then those of the data."""
    data, pipeline, tensor = sizes
    count = data * pipeline * tensor
    found = mpi.work(count, "mesh", *sizes, worker=mpi.MODEL_WORKER)["processes"]
    places = [(d, p, t) for d in range(data) for p in range(pipeline) for t in range(tensor)]
    assert len(found) == count
    for place, own in zip(places, found, strict=True):
        for axis in range(3):
            others = [
                rank for rank, other in enumerate(places) if all(other[k] == place[k] for k in range(3) if k != axis)
            ]
            assert own[axis] == [place[axis], sizes[axis], sizes[axis], place[axis], sum(others)]


def test_data_parallelism_along_one_axis():
    weights = mpi.work(4, "data_over_mesh", worker=mpi.MODEL_WORKER)["weights"]
    assert weights[0] == weights[2]
    assert weights[1] == weights[3]
    assert weights[0] != weights[1]


def test_alone():
    mesh = Mesh()
    assert [(axis.rank, axis.size) for axis in (mesh.data, mesh.pipeline, mesh.tensor)] == [(0, 1)] * 3
    assert repr(mesh) == "Mesh(data=1, pipeline=1, tensor=1)"


def test_sizes_that_do_not_fit():
    message = r"Mesh: expected data \* pipeline \* tensor to be 1, the number of processes, got 2 \* 1 \* 3 = 6"
    with pytest.raises(ValueError, match=message):
        Mesh(data=2, tensor=3)
    with pytest.raises(ValueError, match="Mesh: pipeline: expected at least 1, got 0"):
        Mesh(pipeline=0)
    result = mpi.run(2, mpi.MODEL_WORKER, "mesh", 1, 1, 1)
    assert result.returncode != 0
    assert "to be 2, the number of processes" in result.stderr


def test_a_pipeline_of_divided_layers_is_not_there():
    mesh = Mesh()
    mesh.pipeline = Axis(None, 0, 2)
    with pytest.raises(ValueError, match="TensorParallel: expected a mesh with pipeline=1"):
        TensorParallel(mesh)
