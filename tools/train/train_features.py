"""Trains a small image classifier, whose last features the Frechet distances FD(mini) and FD(cifar10) compare.

    python train_features.py --data DATA --config mini|cifar10 --work DIR --epochs 12 --export models

DATA is a folder as `dflow data export` writes it. The network is a plain stack of 3x3 convolutions with batch
normalisation and ReLU, a 2x2 maximum between the stages, and the mean over the image at the end; that mean is the
feature vector. Batch normalisation is folded into the convolutions before the export, so that the shipped network is
convolutions with bias. DIR/checkpoint.pt is replaced after every epoch; a run that finds one goes on from it.
"""

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from export import export_features
from train import load_data, to_float

# Output channels of the convolutions, by stage.
STAGES = {"mini": [[16, 32], [48], [64]], "cifar10": [[24, 48], [64, 96], [128, 192]]}
DATASETS = {"mini": "mini-images", "cifar10": "cifar10"}


class FeatureNet(nn.Module):
    """Images in [-1, 1] to (features, class scores)."""

    def __init__(self, stages, classes):
        super().__init__()
        self.stages = stages
        widths = [3] + [width for stage in stages for width in stage]
        pairs = list(zip(widths, widths[1:]))
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1, bias=False) for i, o in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o in pairs)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x):
        layers = iter(zip(self.convs, self.norms))
        for index, stage in enumerate(self.stages):
            if index > 0:
                x = F.max_pool2d(x, 2)
            for _ in stage:
                conv, norm = next(layers)
                x = F.relu(norm(conv(x)))
        features = x.mean((2, 3))
        return features, self.head(features)

    def folded(self):
        """Tensors of the same network without normalisation: convs.K.{weight,bias}, head.{weight,bias}."""
        tensors = {"head.weight": self.head.weight, "head.bias": self.head.bias}
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            tensors[f"convs.{index}.weight"] = conv.weight * scale[:, None, None, None]
            tensors[f"convs.{index}.bias"] = norm.bias - norm.running_mean * scale
        return {name: tensor.detach() for name, tensor in tensors.items()}


def folded_scores(tensors, stages, x):
    """Class scores by the exported tensors."""
    index = 0
    for number, stage in enumerate(stages):
        if number > 0:
            x = F.max_pool2d(x, 2)
        for _ in stage:
            x = F.relu(F.conv2d(x, tensors[f"convs.{index}.weight"], tensors[f"convs.{index}.bias"], padding=1))
            index += 1
    return F.linear(x.mean((2, 3)), tensors["head.weight"], tensors["head.bias"])


def augmented(images, generator, flip):
    """Every image moved by up to 3 pixels (edges repeated) and, if asked, mirrored half of the time."""
    padded = F.pad(images, (3, 3, 3, 3), mode="replicate")
    rows = torch.randint(0, 7, (len(images),), generator=generator)
    columns = torch.randint(0, 7, (len(images),), generator=generator)
    span = torch.arange(32)
    index = torch.arange(len(images))
    moved = padded[
        index[:, None, None, None],
        torch.arange(3)[None, :, None, None],
        (rows[:, None] + span)[:, None, :, None],
        (columns[:, None] + span)[:, None, None, :],
    ]
    if not flip:
        return moved
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], moved.flip(3), moved)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--config", required=True, choices=STAGES)
    parser.add_argument("--work", required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--flip", action="store_true")
    parser.add_argument("--export", required=True)
    options = parser.parse_args()

    torch.manual_seed(0)
    images, labels, test_images, test_labels = load_data(options.data)
    stages, classes = STAGES[options.config], int(labels.max()) + 1
    net = FeatureNet(stages, classes).to(memory_format=torch.channels_last)
    per_epoch = len(images) // options.batch
    total = options.epochs * per_epoch
    optimizer = torch.optim.SGD(net.parameters(), lr=options.lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=total + 1, pct_start=0.2)
    generator = torch.Generator().manual_seed(0)
    start, checkpoint = 0, Path(options.work) / "checkpoint.pt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    if checkpoint.exists():
        state = torch.load(checkpoint)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        generator.set_state(state["generator"])
        start = state["epoch"]
    for epoch in range(start, options.epochs):
        net.train()
        order, begin, seen = torch.randperm(len(images), generator=generator), time.time(), 0.0
        for step in range(per_epoch):
            rows = order[step * options.batch : (step + 1) * options.batch]
            batch = augmented(to_float(images[rows]), generator, options.flip)
            _, scores = net(batch.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(scores, labels[rows], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            seen += loss.item()
        print(f"epoch {epoch + 1}: loss {seen / per_epoch:.4f}, {time.time() - begin:.0f} s", flush=True)
        torch.save(
            {
                "net": net.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "generator": generator.get_state(),
                "epoch": epoch + 1,
            },
            checkpoint.with_suffix(".new"),
        )
        checkpoint.with_suffix(".new").replace(checkpoint)

    net.eval()
    tensors = {name: tensor.half().float() for name, tensor in net.folded().items()}
    with torch.no_grad():
        parts = zip(to_float(test_images).split(500), test_labels.split(500))
        right = sum((folded_scores(tensors, stages, x).argmax(1) == y).sum().item() for x, y in parts)
    command = f"tools/train/train_features.py --config {options.config} --epochs {options.epochs}"
    facts = {
        "dataset": DATASETS[options.config],
        "trained_on": len(images),
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "epochs": options.epochs,
        "batch": options.batch,
        "accuracy": right / len(test_labels),
        "tested_on": len(test_labels),
        "command": command + (" --flip" if options.flip else ""),
    }
    export_features(options.export, options.config, stages, tensors, facts)
    print(facts)


if __name__ == "__main__":
    main()
