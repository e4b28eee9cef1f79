"""Intermediate-task training for zero-shot cross-lingual transfer: run it, measure it, explain it.

The command line (`xstilts --help`) is the way in; from Python, start at `xstilts.study.read_study`,
`xstilts.plan.make_plan` and `xstilts.run.run`.
"""

__version__ = "0.1.0"
