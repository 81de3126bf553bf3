# SPDX-License-Identifier: Apache-2.0
"""Where pip has put moult's programs. The commands moultd and moultctl of an environment become
the programs themselves: same process, same arguments."""

import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


def _become(program):
    os.execv(os.path.join(_HERE, program), sys.argv)


def moultd():
    _become("sbin/moultd")


def moultctl():
    _become("bin/moultctl")
