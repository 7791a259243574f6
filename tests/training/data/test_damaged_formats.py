"""Public files with a damaged byte, which compressed ones tell in exceptions of their own: one line that names them."""

import io
import zipfile

import numpy as np
import public_files as made
import pytest

from robustgap.training.checkpoint import FileFault
from robustgap.training.data.formats import folders, idx, mat, npz


def compressed_npz():
    content = io.BytesIO()
    np.savez_compressed(content, image=made.images(2, 3, 3, 3), label=np.arange(2))
    return content.getvalue()


@pytest.mark.parametrize(
    ("read", "content"),
    [
        (npz.generated, made.npz(made.images(2, 3, 3, 3), np.arange(2))),
        (npz.generated, compressed_npz()),
        (idx.read_idx, made.idx(made.images(2, 3, 3))),
    ],
    ids=["npz", "compressed npz", "idx"],
)
@pytest.mark.parametrize("flipped", [0x01, 0xFF])
def test_any_flipped_byte_is_one_line_or_changes_nothing(flipped, read, content, tmp_path):
    file, told = tmp_path / "damaged", 0
    file.write_bytes(content)
    right = read(file)
    for place in range(len(content)):
        file.write_bytes(content[:place] + bytes([content[place] ^ flipped]) + content[place + 1 :])
        try:
            found = read(file)
        except FileFault as error:
            told += str(error).startswith(f"{file}: ") and "\n" not in str(error)
        else:
            assert all(np.array_equal(one, other) for one, other in zip(found, right, strict=True)), place
            told += 1
    assert told == len(content)


@pytest.mark.parametrize(
    ("read", "content"),
    [
        (mat.read_mat, made.mat(made.images(4, 3, 32, 32), np.arange(4), compressed=True)),
        (folders.read_folders, made.image_folders({"n01": [made.jpeg(9)] * 2}, [], zipfile.ZIP_DEFLATED)),
    ],
)
def test_damage_to_compressed_data_is_one_line(read, content, tmp_path):
    place = len(content) // 2
    (tmp_path / "damaged").write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
    with pytest.raises(FileFault) as caught:
        read(tmp_path / "damaged")
    assert str(caught.value).startswith(f"{tmp_path / 'damaged'}: not ") and "\n" not in str(caught.value)
