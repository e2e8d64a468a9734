"""The results pages, made from the records: every figure in them is read from `experiments/results/`.

    python -m experiments.pages            # writes docs/results/*.md, the blocks of README.md and the pictures
    python -m experiments.pages --check    # names what differs from the records, and fails

`tests/experiments/test_pages.py` fails where a page and its record disagree.
"""

import argparse
import sys

from experiments.pages import build


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--check", action="store_true", help="write nothing; name the files that differ")
  args = parser.parse_args()
  differing = [path for path, text in build.texts().items() if not path.is_file() or path.read_text() != text]
  for path in differing:
    print(path.relative_to(build.ROOT))
  if args.check:
    return 1 if differing else 0
  for path, text in build.texts().items():
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  build.pictures()
  return 0


if __name__ == "__main__":
  sys.exit(main())
