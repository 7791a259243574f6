"""The public data sets: their files, checksums and addresses, as their authors and torchvision publish them."""

from robustgap.training.data.fetch import DataFile

CIFAR = "https://www.cs.toronto.edu/~kriz/"
MNIST = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")
FASHION = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
SVHN = "http://ufldl.stanford.edu/housenumbers/"
TINY = "http://cs231n.stanford.edu/"


def _cifar(folder: str, archive: str, md5: str, batches: dict[str, str]) -> tuple[DataFile, ...]:
    whole = DataFile(archive, f"md5:{md5}", (CIFAR + archive,))
    return tuple(DataFile(f"{folder}/{name}", f"md5:{digest}", archive=whole) for name, digest in batches.items())


def _idx(folder: str, addresses: tuple[str, ...], digests: tuple[str, ...]) -> tuple[DataFile, ...]:
    kinds = ("images-idx3", "labels-idx1")
    names = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in kinds]
    return tuple(
        DataFile(f"{folder}/raw/{name}", f"md5:{digest}", tuple(address + name for address in addresses))
        for name, digest in zip(names, digests, strict=True)
    )


# Training files first, test files last, in the order in which they are read. Tests put files of their own here.
FILES: dict[str, tuple[DataFile, ...]] = {
    "cifar10": _cifar(
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
        {
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
        },
    ),
    "cifar100": _cifar(
        "cifar-100-python",
        "cifar-100-python.tar.gz",
        "eb9058c3a382ffc7106e4002c42a8d85",
        {"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    ),
    "mnist": _idx(
        "MNIST",
        MNIST,
        (
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
    ),
    "fashion_mnist": _idx(
        "FashionMNIST",
        FASHION,
        (
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
    "svhn": (
        DataFile("train_32x32.mat", "md5:e26dedcc434d2e4c54c9b2d4a06d8373", (SVHN + "train_32x32.mat",)),
        DataFile("test_32x32.mat", "md5:eb5a983be6a315427106f1b164d9cef3", (SVHN + "test_32x32.mat",)),
    ),
    "tiny_imagenet": (
        DataFile("tiny-imagenet-200.zip", "md5:90528d7ca1a48142e341f4ef8d21d0de", (TINY + "tiny-imagenet-200.zip",)),
    ),
}
