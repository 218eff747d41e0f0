import pytest

from ratchet.service.schemas.file_ids import FILE_KIND, is_file_id
from ratchet.service.store.records import new_id


def test_the_ids_that_are_given_out_are_ids():
    assert is_file_id(new_id(FILE_KIND))


@pytest.mark.parametrize(
    "text", ["", "file-1", "file-" + "0" * 25, "file-" + "g" * 24, "file-" + "0" * 24 + "\n", "a"]
)
def test_what_only_looks_like_one_is_none(text):
    assert not is_file_id(text)
