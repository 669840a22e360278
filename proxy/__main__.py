"""`python -m proxy` and the command `tandem`."""

from __future__ import annotations

import sys

from proxy import cli


def main() -> None:
    sys.exit(cli.run(sys.argv[1:]))


if __name__ == "__main__":
    main()
