# SPDX-License-Identifier: Apache-2.0
"""What moult gives to an application that it hosts: moult-python(7)."""
import collections.abc as _abc

from moult import _weights

__all__ = ["BadRequest", "secrets", "weights"]


class BadRequest(Exception):
    """Raised by a model: the request is to blame, which is answered with status 400 and the text."""


class _Secrets(_abc.Mapping):
    """The secrets of this generation, by name, as text; raw() has the bytes."""

    def __init__(self):
        self._values = {}

    def __getitem__(self, name):
        try:
            return self._values[name].decode()
        except UnicodeDecodeError:
            raise ValueError(f"secret {name!r} is no UTF-8: use moult.secrets.raw()") from None

    def __iter__(self):
        return iter(self._values)

    def __len__(self):
        return len(self._values)

    def __repr__(self):
        return f"<secrets: {', '.join(sorted(self._values)) or 'none'}>"

    def raw(self, name):
        return self._values[name]


secrets = _Secrets()


def weights():
    """The bytes of the model file that path names, as a memoryview: one copy for all loaders, where
    the section shares it. To be called first while the application is loaded."""
    return _weights.get()
