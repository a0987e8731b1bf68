"""The command line: ``diffvas VERB``, one small file per verb.

A verb is a module of this package with

- ``HELP: str``, what it does, shown by ``diffvas VERB --help``;
- ``configure(parser: argparse.ArgumentParser) -> None``, which adds its arguments;
- ``run(args: argparse.Namespace) -> int``, which does it and returns the exit status.

Exit status: 0 done; 2 the request was wrong (one line on stderr, nothing written); 1 it failed on the way (a full
disk, no memory); 130 interrupted. Verbs import what is heavy inside ``run``, so that ``--help`` answers at once.
"""
