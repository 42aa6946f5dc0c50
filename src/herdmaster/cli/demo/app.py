"""The app that the demo's workers run."""

from herdmaster import Herd
from herdmaster.cli.demo.counting import count_words

herd = Herd()
herd.task(count_words)
