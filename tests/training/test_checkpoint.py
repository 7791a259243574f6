"""Files of tensors: the same content gives the same bytes, and any damage is a line that names the file."""

import pytest
import torch

from robustgap.training.checkpoint import FileFault, load_tensors, save_tensors

TENSORS = {
    "weight": torch.arange(6.0).reshape(2, 3),
    "steps": torch.tensor(7),
    "none": torch.zeros(0, 3),
    "right": torch.tensor([True, False]),
    "half": torch.ones(3, dtype=torch.bfloat16),
}


def test_what_is_saved_is_loaded_and_the_same_content_gives_the_same_bytes(tmp_path):
    for name in ("one", "other"):
        save_tensors(tmp_path / name, TENSORS, run="abc", version="2")
    found, metadata = load_tensors(tmp_path / "one")
    assert metadata == {"run": "abc", "version": "2"} and found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in TENSORS.items())
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


@pytest.mark.parametrize("flipped", [0x01, 0x40])
def test_any_flipped_bit_is_named(flipped, tmp_path):
    """safetensors itself sees damage to its header alone, and not to all of that."""
    file = tmp_path / "file"
    save_tensors(file, TENSORS, run="abc")
    whole = file.read_bytes()
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ flipped]) + whole[place + 1 :])
        with pytest.raises(FileFault) as caught:
            load_tensors(file)
        assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value), place
