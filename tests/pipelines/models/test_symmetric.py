import pytest
import torch

from ratchet.pipelines.errors import ModelError
from ratchet.pipelines.models.symmetric import pack_symmetric, unpack_symmetric


def test_the_triangle_is_laid_out_row_by_row():
    matrix = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]])
    assert pack_symmetric(matrix).tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("width", [1, 2, 7, 64])
def test_unpacking_gives_back_every_value_and_the_type(width):
    factor = torch.randn(width, width, dtype=torch.float64)
    matrix = factor + factor.T
    packed = pack_symmetric(matrix)
    assert packed.shape == (width * (width + 1) // 2,)
    assert torch.equal(unpack_symmetric(packed), matrix)


def test_a_number_of_values_that_is_no_triangle_is_refused():
    with pytest.raises(ModelError, match="got 4"):
        unpack_symmetric(torch.zeros(4))
