"""Golden file of the perceptual networks: the public packages with weights by a recipe that the tests repeat.

usage: perceptual.py TORCHMETRICS_DIR OUT.safetensors [--heads DIR]    (tests/golden/perceptual/perceptual.safetensors)

TORCHMETRICS_DIR holds torchmetrics 1.9.0 (see parity.sh); --heads is the folder of the public LPIPS heads v0.1, without
which results of the random heads only are written. The full networks are built, none of their weights is stored: number k
of the stream of a name is uniform in (0, 1) (the streams of adm.py: FNV-1a seed, splitmix64), and a tensor is made of its
stream by its kind, see `random_tensor`. Every tensor is random and not zero.
"""

import argparse
import pathlib
import re
import sys
import tempfile

import numpy
import torch
from safetensors.torch import save_file

torch.set_num_threads(1)


def uniform(name, count):
    with numpy.errstate(over="ignore"):
        seed = numpy.uint64(0xCBF29CE484222325)
        for byte in name.encode():
            seed = (seed ^ numpy.uint64(byte)) * numpy.uint64(0x100000001B3)
        z = seed + (numpy.arange(count, dtype=numpy.uint64) + numpy.uint64(1)) * numpy.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> numpy.uint64(31))) >> numpy.uint64(11)).astype(numpy.float64) / 2**53 + 0.5 / 2**53


def random_tensor(network, name, shape):
    """Kernels keep the variance under ReLU; variances and scales are positive; heads are positive."""
    shape = tuple(shape)
    u = uniform(f"{network}/{name}", int(numpy.prod(shape)))
    if ".model.1." in name:
        values = u
    elif name.endswith(("bn.weight", "running_var")):
        values = 0.5 + u
    elif len(shape) == 1:
        values = 0.2 * (2 * u - 1)
    else:
        values = (6 / numpy.prod(shape[1:])) ** 0.5 * (2 * u - 1)
    return torch.from_numpy(values.astype(numpy.float32).reshape(shape))


def image(name, *sides):
    """Some values lie outside of [-1, 1], and are clamped."""
    u = uniform(f"image/{name}", int(numpy.prod(sides)))
    values = torch.from_numpy((1.2 * (2 * u - 1)).astype(numpy.float32).reshape(sides))
    return values.clamp(-1, 1)


def to_bytes(x):
    return ((x + 1) * 127.5).to(torch.uint8)


def inception_state(module):
    state = module.state_dict()
    return {
        name: tensor if name.endswith("num_batches_tracked") else random_tensor("inception", name, tensor.shape)
        for name, tensor in state.items()
    }


def inception(results):
    from pytorch_fid import inception as pytorch_fid
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    from torchmetrics.image.fid import NoTrainInceptionV3

    # The packages read their weights from a file, or from a download that is not wanted: this is the body of
    # pytorch_fid.inception.fid_inception_v3 up to it.
    network = pytorch_fid._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    network.Mixed_5b = pytorch_fid.FIDInceptionA(192, pool_features=32)
    network.Mixed_5c = pytorch_fid.FIDInceptionA(256, pool_features=64)
    network.Mixed_5d = pytorch_fid.FIDInceptionA(288, pool_features=64)
    network.Mixed_6b = pytorch_fid.FIDInceptionC(768, channels_7x7=128)
    network.Mixed_6c = pytorch_fid.FIDInceptionC(768, channels_7x7=160)
    network.Mixed_6d = pytorch_fid.FIDInceptionC(768, channels_7x7=160)
    network.Mixed_6e = pytorch_fid.FIDInceptionC(768, channels_7x7=192)
    network.Mixed_7b = pytorch_fid.FIDInceptionE_1(1280)
    network.Mixed_7c = pytorch_fid.FIDInceptionE_2(2048)
    state = inception_state(network)
    network.load_state_dict(state)
    pytorch_fid.fid_inception_v3 = lambda: network
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/weights.pth"
        torch.save(state, path)
        fidelity = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], path)
        current = NoTrainInceptionV3("inception-v3-compat", ["2048"], path, antialias=True)
    fid = pytorch_fid.InceptionV3([3]).eval()
    for name, sides in (("small", (3, 32, 32)), ("large", (3, 340, 310))):
        pixels = to_bytes(image(name, *sides))[None]
        results[f"inception.tf1.{name}"] = fidelity(pixels)[0].flatten()
        results[f"inception.antialias.{name}"] = current._torch_fidelity_forward(pixels)[0].flatten()
        # As its command line reads a picture: ToTensor gives byte/255.
        results[f"inception.half_pixel.{name}"] = fid(pixels.float() / 255)[0].flatten()


def fill(module, network):
    """A trunk and its heads by the recipe: layers are named by their index in `features`."""
    state = {}
    for name, tensor in module.state_dict().items():
        if name.startswith("scaling_layer"):
            state[name] = tensor
        else:
            # lins.0 and lin0 are the same tensor.
            short = re.sub(r"^lins\.(\d+)", r"lin\1", re.sub(r"^net\.slices?\.?\d+\.", "", name))
            state[name] = random_tensor(network, short, tensor.shape)
    module.load_state_dict(state)


def lpips_trunks(results, heads):
    import lpips
    from torchmetrics.functional.image.lpips import _LPIPS

    a, b = image("a", 3, 33, 35)[None], image("b", 3, 33, 35)[None]
    # Where a ReLU is within rounding of its kink (2 of 7 such images in VGG16), f32 gradients differ by 1e-3.
    x = image("a0", 3, 33, 35)[None].requires_grad_()
    for trunk in ("alex", "vgg", "squeeze"):
        package = lpips.LPIPS(pretrained=False, pnet_rand=True, net=trunk, verbose=False)
        metrics = _LPIPS(pretrained=False, pnet_rand=True, net=trunk)
        fill(package, trunk)
        fill(metrics, trunk)
        with torch.no_grad():
            _, layers = package(a, b, retPerLayer=True)
            _, terms = metrics(a, b, retperlayer=True)
        results[f"lpips.{trunk}.perceptual_similarity"] = torch.cat([term.flatten() for term in layers])
        results[f"lpips.{trunk}.torchmetrics"] = torch.cat([term.flatten() for term in terms])
        (gradient,) = torch.autograd.grad(metrics(x, b).sum(), x)
        results[f"lpips.{trunk}.gradient"] = gradient[0]
        if heads:
            public = torch.load(heads / f"{trunk}.pth", map_location="cpu", weights_only=True)
            package.load_state_dict(public, strict=False)
            with torch.no_grad():
                _, layers = package(a, b, retPerLayer=True)
            results[f"lpips.{trunk}.public_heads"] = torch.cat([term.flatten() for term in layers])


def stack(results):
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "train"))
    from train_features import FeatureNet

    stages, classes = [[16, 32], [48], [64]], 10
    network = FeatureNet(stages, classes).eval()
    state = {name: random_tensor("stack", name, tensor.shape) for name, tensor in network.folded().items()}
    # The exported network has no normalisation: one that changes nothing but adds the bias.
    for index, (conv, norm) in enumerate(zip(network.convs, network.norms)):
        conv.weight.data = state[f"convs.{index}.weight"]
        norm.eps = 0.0
        norm.bias.data = state[f"convs.{index}.bias"]
    network.head.weight.data, network.head.bias.data = state["head.weight"], state["head.bias"]
    with torch.no_grad():
        features, scores = network(image("stack", 3, 32, 32)[None])
    results["stack.features"], results["stack.scores"] = features[0], scores[0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("torchmetrics")
    parser.add_argument("out")
    parser.add_argument("--heads", type=pathlib.Path)
    options = parser.parse_args()
    sys.path.insert(0, options.torchmetrics)

    results = {}
    stack(results)
    lpips_trunks(results, options.heads)
    inception(results)
    results = {name: tensor.detach().float().contiguous().clone() for name, tensor in results.items()}
    for name, tensor in results.items():
        print(f"{name:40} {list(tensor.shape)} norm {tensor.norm():.4g}")
    from importlib.metadata import version

    packages = ("torch", "torchvision", "torchmetrics", "lpips", "pytorch-fid", "torch-fidelity")
    note = ", ".join(f"{package} {version(package)}" for package in packages)
    pathlib.Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    save_file(results, options.out, metadata={"made_by": f"tools/reference/perceptual.py, {note}"})


if __name__ == "__main__":
    main()
