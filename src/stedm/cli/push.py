"""`stedm push`."""

import argparse

from stedm.cli.command import argument, command, flag


@command(
    "push",
    argument("folder", "DIR", "generator, segmentation network or autoencoder of a study"),
    argument("repository", "HUB", "hf:owner/name; without such a repository, a private one is made", type=str),
    argument(
        "--licence", "ID", "as the hub names it: cc-by-4.0 (without: what README.md says)", needed=False, type=str
    ),
    flag("--public", "make the new repository public"),
)
def push(args: argparse.Namespace) -> None:
    """Publish a model on the Hugging Face hub, without provenance.json, which names slides."""
    from stedm.hub import push

    print(push(args.folder, args.repository, licence=args.licence, public=args.public))
