import torch

from encode_once.classify.device import choose_device


def test_auto_is_the_gpu_if_there_is_one():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
