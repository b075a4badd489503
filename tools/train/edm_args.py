"""Prints the model file entries of a public EDM checkpoint, read from its args.pickle.

    python edm_args.py args.pickle > network.yaml

What is printed lacks `about`, `licence`, `weights` and `blake3`. The arguments of EquiFM have the same form, but
its velocity is a mixture that is not one of the project's paths: only its network is printed.
"""

import argparse
import pickle
import sys

import yaml

from export import ModelDumper

# The scale of the coordinate update is not among the arguments: the public code never passes another one.
COORDS_RANGE = 15


class NamespaceUnpickler(pickle.Unpickler):
    """Loads argparse.Namespace and builtin values; anything else in the file is refused."""

    def find_class(self, module, name):
        if (module, name) == ("argparse", "Namespace"):
            return argparse.Namespace
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in an argument file")


def network(args):
    """The `egnn` entry. Files older than an option lack it; what it defaults to is what was done before."""
    if args.get("model", "egnn_dynamics") != "egnn_dynamics" or args.get("context_node_nf", 0):
        raise SystemExit("only unconditional egnn_dynamics networks can be described")
    entry = {key: args[key] for key in ("nf", "n_layers", "inv_sublayers", "attention", "tanh", "norm_constant")}
    return entry | {
        "normalization_factor": args.get("normalization_factor", 1),
        "aggregation_method": args.get("aggregation_method", "sum"),
        "sin_embedding": args["sin_embedding"],
        "condition_time": args["condition_time"],
        "include_charges": args["include_charges"],
        "normalize_factors": list(args["normalize_factors"]),
        "coords_range": COORDS_RANGE,
    }


def path(args):
    """Path, prediction and time: the network sees the noise level, 0 at the data and 1 at the noise."""
    if args["probabilistic_model"] != "diffusion":
        print(f"no path is known for {args['probabilistic_model']!r}: only the network is printed", file=sys.stderr)
        return {}
    schedule, precision = args["diffusion_noise_schedule"], args["diffusion_noise_precision"]
    if (schedule, precision) != ("polynomial_2", 1e-5):
        raise SystemExit(f"the noise schedule {schedule} with precision {precision} is not supported")
    return {"path": "polynomial_2", "prediction": "noise", "time": "noise_level"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pickle", type=argparse.FileType("rb"))
    stored = vars(NamespaceUnpickler(parser.parse_args().pickle).load())
    entries = {"network": {"egnn": network(stored)}} | path(stored)
    print(yaml.dump(entries, Dumper=ModelDumper, sort_keys=False), end="")


if __name__ == "__main__":
    main()
