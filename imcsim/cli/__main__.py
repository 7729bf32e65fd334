"""`python -m imcsim.cli`."""

from imcsim.cli import main

main()
